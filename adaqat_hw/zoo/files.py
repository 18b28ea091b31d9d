"""Whether an entry's files are those that it was made with, and its records readable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from adaqat_hw.errors import ConfigError, OtherVersion
from adaqat_hw.run import ZooFolder
from adaqat_hw.schema import Record, ZooEntry, sha256_file

_R = TypeVar("_R", bound=Record)


def damaged(folder: ZooFolder, what: str) -> ConfigError:
    """Return the error of a damaged entry: what is wrong with it, and what to do."""
    return ConfigError(
        f"The zoo's network {folder.path.name!r} is damaged: {what}; restore its folder "
        f"{str(folder.path)!r} (of the shipped zoo: install adaqat-hw again), or delete it and add "
        "the network again with 'adaqat-hw zoo add'."
    )


def read_record(kind: type[_R], folder: ZooFolder, path: Path) -> _R:
    """Read a record of an entry.

    Raises:
        ConfigError: it is damaged or of another release; no stage of a run makes it anew.
    """
    try:
        return kind.read(path)
    except OtherVersion as exc:
        raise damaged(folder, f"{path.name!r} was written by another release") from exc
    except ConfigError as exc:
        cause = exc.__cause__
        if isinstance(cause, json.JSONDecodeError):
            raise damaged(folder, f"{path.name!r} is not valid JSON ({cause})") from exc
        raise damaged(folder, str(exc).rstrip(".")) from exc


def digests(folder: ZooFolder) -> dict[str, str]:
    """Return the SHA-256 of every file of an entry by name, but of ``entry.json`` itself."""
    paths = sorted(path for path in folder.path.iterdir() if path != folder.entry)
    return {path.name: sha256_file(path) for path in paths}


def check_record(folder: ZooFolder, record: ZooEntry) -> None:
    """Refuse an entry whose name is not its folder's, or whose names lead out of a folder."""
    if record.name != folder.path.name:
        raise damaged(
            folder,
            f"'entry.json' calls it {record.name!r}, and the name must be its folder's, "
            f"{folder.path.name!r}",
        )
    if not _is_plain(record.variant):
        raise damaged(
            folder, f"'entry.json' has variant = {record.variant!r}, which must name one folder"
        )
    for file in record.files:
        if not _is_plain(file):
            raise damaged(
                folder, f"'entry.json' lists the file {file!r}, which must lie in its folder"
            )


def check_files(folder: ZooFolder, record: ZooEntry) -> None:
    """Refuse an entry with a file that is gone, cut short or changed since it was added."""
    for file, digest in record.files.items():
        path = folder.path / file
        if not path.is_file():
            raise damaged(folder, f"it lacks the file {file!r}")
        if sha256_file(path) != digest:
            raise damaged(folder, f"{file!r} was cut short or changed since it was added")


def check_listed(folder: ZooFolder, record: ZooEntry, *needed: Path) -> None:
    """Refuse an entry whose record does not list a file that laying it out needs."""
    for path in needed:
        if path.name not in record.files:
            raise damaged(folder, f"'entry.json' does not list the file {path.name!r}")


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name

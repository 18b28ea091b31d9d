"""Keep results under the digest of what they were made from.

A result is a folder of files with facts about them, or facts alone (one JSON file). It is written
elsewhere, moved into place by a rename and checked against the digests in its manifest on every
read; a damaged one is made again. Processes that make the same result at the same time do not
disturb each other. A cache that is read-only or full costs time, nothing else.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaqat_hw.schema import sha256_file

_MANIFEST = "kept.json"


@dataclass(frozen=True)
class CacheEntry:
    """A result: where its files lie, what is known about them, whether it was there already.

    A folder that no cache could take is removed when this process ends.
    """

    folder: Path
    files: tuple[str, ...]
    facts: dict[str, Any]
    cached: bool


def find_folder(target: Path) -> CacheEntry | None:
    """Return the result in ``target`` if it is complete and undamaged."""
    try:
        body = json.loads((target / _MANIFEST).read_text(encoding="utf-8"))
        files, facts = dict(body["files"]), body["facts"]
        if not isinstance(facts, dict):
            return None
        if any(sha256_file(target / name) != digest for name, digest in files.items()):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return CacheEntry(target, tuple(files), facts, True)


def store_folder(
    target: Path, folder: Path, names: Sequence[str], facts: Mapping[str, Any]
) -> CacheEntry | None:
    """Copy files of ``folder`` into a result ``target``; None where the cache cannot take it.

    Args:
        target: the result's folder; its name carries the digest.
        folder: where the files are.
        names: their names, relative to ``folder``.
        facts: what to remember about them (JSON).
    """
    part: Path | None = None
    try:
        _make(target.parent)
        part = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        for name in names:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / name, part / name)
        files = {name: sha256_file(part / name) for name in names}
        body = json.dumps({"facts": facts, "files": files}, indent=1) + "\n"
        (part / _MANIFEST).write_text(body, encoding="utf-8")
        part.chmod(0o755)
        with _locked(target.parent):
            if not _is_complete(target, names):  # else another process was faster
                shutil.rmtree(target, ignore_errors=True)
                part.rename(target)
    except OSError as exc:
        if not _cannot_take(exc):
            raise
        return None
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)
    return CacheEntry(target, tuple(names), dict(facts), False)


def _is_complete(target: Path, names: Sequence[str]) -> bool:
    entry = find_folder(target)
    return entry is not None and set(entry.files) == set(names)


def keep_folder(
    target: Path, names: Sequence[str], make: Callable[[Path], Mapping[str, Any]]
) -> CacheEntry:
    """Return the result ``target``; make it where it is missing or damaged.

    Args:
        target: its folder; the name carries the digest.
        names: the files that belong to it.
        make: writes them into the empty folder it is given, one of the system's for temporary
            files, and returns facts (JSON).
    """
    entry = find_folder(target)
    if entry is not None and set(entry.files) == set(names):
        return entry
    folder = Path(tempfile.mkdtemp(prefix="adaqat-"))
    needed = False
    try:
        facts = dict(make(folder))
        stored = store_folder(target, folder, names, facts)
        needed = stored is None
        return stored or CacheEntry(folder, tuple(names), facts, False)
    finally:
        if needed:
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def find_facts(path: Path) -> dict[str, Any] | None:
    """Return the facts in the JSON file ``path`` if they are undamaged."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        facts = stored["body"]
        return (
            facts if isinstance(facts, dict) and stored["sha256"] == facts_digest(facts) else None
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def store_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Write ``facts`` (JSON) to ``path``; a cache that cannot take them goes without."""
    text = json.dumps({"body": facts, "sha256": facts_digest(facts)}, indent=1) + "\n"
    try:
        _replace(path, lambda part: part.write_text(text, encoding="utf-8"))
    except OSError as exc:
        if not _cannot_take(exc):
            raise


def put_file(source: Path, target: Path) -> None:
    """Copy a file under a temporary name beside ``target``, then rename it."""
    _replace(target, lambda part: shutil.copyfile(source, part))


def _replace(target: Path, fill: Callable[[Path], object]) -> None:
    _make(target.parent)
    number, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    os.close(number)
    part = Path(name)
    try:
        fill(part)
        part.chmod(0o644)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def writable_folder(folder: Path) -> Path:
    """Return ``folder``, made where it was not, or a new one elsewhere if it takes no files.

    For logs, which must outlive this process.
    """
    try:
        _make(folder)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as exc:
        if not _cannot_take(exc):
            raise
        return Path(tempfile.mkdtemp(prefix=f"adaqat-{folder.name}-"))


def facts_digest(value: object) -> str:
    """Return the SHA-256 of a value as canonical JSON, 64 hex digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock where its file system has locks."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as exc:  # the answer of a file system that makes none, such as /proc
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(folder)) from exc


def _cannot_take(exc: OSError) -> bool:
    """Tell whether an error is of a cache that is read-only, full or no folder at all."""
    return exc.errno in (
        errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG,
        errno.ENOTDIR, errno.EEXIST,
    )  # fmt: skip

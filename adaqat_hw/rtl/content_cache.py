"""Folders of results named by the digest of what they were made from."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from adaqat_hw.schema import sha256_file

_MANIFEST = "kept.json"


def keep(
    target: Path, names: tuple[str, ...], make: Callable[[Path], dict[str, Any]]
) -> tuple[dict[str, Any], bool]:
    """Return the facts of the folder ``target`` and whether it stood; make it where it did not.

    A folder is made beside ``target`` and renamed, so one that stands is whole; one whose files
    are gone or changed is made again. Two processes that make the same at once do not disturb
    each other: the first to finish wins.

    Args:
        target: the folder; its name carries the digest.
        names: the files that ``make`` writes.
        make: writes the files into the folder it is given and returns facts (JSON).
    """
    facts = _standing(target, names)
    if facts is not None:
        return facts, True
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        made = make(folder)
        body = {"facts": made, "files": {name: sha256_file(folder / name) for name in names}}
        (folder / _MANIFEST).write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
        folder.chmod(0o755)
        if _standing(target, names) is None:
            shutil.rmtree(target, ignore_errors=True)
            with suppress(OSError):  # another process was faster
                folder.rename(target)
        return made, False
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _standing(target: Path, names: tuple[str, ...]) -> dict[str, Any] | None:
    try:
        body = json.loads((target / _MANIFEST).read_text(encoding="utf-8"))
        files, facts = body["files"], body["facts"]
        if set(files) != set(names) or not isinstance(facts, dict):
            return None
        if any(sha256_file(target / name) != digest for name, digest in files.items()):
            return None
        return facts
    except (OSError, ValueError, KeyError, TypeError):
        return None

"""The training log: one JSON object per line, truncated to the checkpoint on resume."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from adaqat_hw.schema import write_atomic


class Trajectory:
    """Append records to a JSONL file; every record carries the step it was made at.

    Args:
        path: the file, created when missing.
        keep: number of leading lines that belong to the checkpoint resumed from; lines after
            them are of work that is done again, so they are dropped.
    """

    def __init__(self, path: Path, keep: int = 0) -> None:
        self.path = path
        lines = _complete_lines(path)[:keep]
        write_atomic(path, "".join(f"{line}\n" for line in lines))
        self.lines = len(lines)
        self._handle: TextIO = path.open("a", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        """Append one record and hand it to the operating system at once."""
        self._handle.write(json.dumps(record) + "\n")
        self._handle.flush()
        self.lines += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._handle.close()


def read_trajectory(path: Path) -> list[dict[str, Any]]:
    """Return the records of a log; a last line cut short by a crash is left out."""
    return [json.loads(line) for line in _complete_lines(path)]


def _complete_lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return text.split("\n")[:-1]

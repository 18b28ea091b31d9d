"""Read what the stages left on disk. A damaged file is a ReportError that names it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from adaqat_hw.errors import ConfigError, ReportError
from adaqat_hw.schema import Record

R = TypeVar("R", bound=Record)


def read_if_there(kind: type[R], path: Path) -> R | None:
    """Return the record in ``path``, or None when there is no such file.

    Raises:
        ReportError: the file is there and is not such a record.
    """
    if not path.is_file():
        return None
    try:
        return kind.read(path)
    except ConfigError as exc:
        raise ReportError(str(exc)) from exc
    except RecursionError as exc:
        raise ReportError(f"{str(path)!r} is nested too deeply to be a {kind.__name__}.") from exc


def newest(paths: Iterable[Path]) -> str | None:
    """Return the newest modification time of those files that exist, UTC, to the second."""
    times = [path.stat().st_mtime for path in paths if path.is_file()]
    if not times:
        return None
    return datetime.fromtimestamp(max(times), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSONL training log; a last line cut short is left out.

    Raises:
        ReportError: a line is not a JSON object; file and line are named.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as exc:
        raise ReportError(f"Training log {str(path)!r} cannot be read: {exc}.") from exc
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as exc:
            raise ReportError(
                f"Training log {str(path)!r}, line {number} is not valid JSON ({exc}); delete the "
                "training's folder and train again."
            ) from exc
        if not isinstance(row, dict):
            raise ReportError(
                f"Training log {str(path)!r}, line {number} holds {str(row)[:40]!r}, not a JSON "
                "object."
            )
        rows.append(row)
    return rows

"""Read what the stages left on disk. A damaged file is a ReportError that names it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from adaqat_hw.errors import ConfigError, ReportError
from adaqat_hw.report.model import WidthPath
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


def width_paths(
    rows: list[dict[str, Any]], frozen_at: dict[str, int | None]
) -> tuple[WidthPath, ...]:
    """Return the trajectory of every width that the log speaks of, in order of appearance.

    ``frozen_at`` is the training's own record; the log adds the reason of a freeze, and the
    step where the record has none.
    """
    points: dict[str, list[tuple[int, float, int | None]]] = {}
    freezes: dict[str, tuple[int, str | None]] = {}
    for row in rows:
        step, real, bits = row.get("step"), row.get("real"), row.get("bits")
        if not _is_number(step):
            continue
        for name, value in real.items() if isinstance(real, dict) else ():
            if _is_number(value):
                width = bits.get(name) if isinstance(bits, dict) else None
                known = int(width) if _is_number(width) else None
                points.setdefault(name, []).append((int(step), float(value), known))
        freezing = row.get("freezes")
        for event in freezing if isinstance(freezing, list) else ():
            if isinstance(event, dict) and isinstance(event.get("name"), str):
                reason = event.get("reason")
                text = reason if isinstance(reason, str) else None
                freezes.setdefault(event["name"], (int(step), text))
    return tuple(
        _path(name, listed, frozen_at.get(name), freezes.get(name))
        for name, listed in points.items()
    )


def _path(
    name: str,
    points: list[tuple[int, float, int | None]],
    recorded: int | None,
    logged: tuple[int, str | None] | None,
) -> WidthPath:
    ordered = sorted(points, key=lambda point: point[0])
    return WidthPath(
        name=name,
        steps=tuple(p[0] for p in ordered),
        real=tuple(p[1] for p in ordered),
        bits=tuple(p[2] for p in ordered),
        frozen_at=recorded if recorded is not None or logged is None else logged[0],
        frozen_by=logged[1] if logged else None,
    )


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

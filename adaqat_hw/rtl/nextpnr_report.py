"""Read nextpnr's JSON report, and from its log what did not fit."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adaqat_hw.schema import Resources, RoutedCell

_USED = re.compile(r"^Info:\s+(\w+):\s+(\d+)/\s*(\d+)\s+\d+%", re.MULTILINE)
_NO_ROOM = re.compile(r"no (?:more )?B[Ee][Ll]s? remaining.*?cell type '?(\w+)'?")


@dataclass(frozen=True)
class Routed:
    """The routed design: its resources, what the device has, and its clock.

    ``used`` and ``available`` are by nextpnr's cell type; ``asked_mhz`` is the constraint.
    """

    resources: Resources
    used: dict[str, int]
    available: dict[str, int]
    fmax_mhz: float
    asked_mhz: float

    @property
    def slack_ns(self) -> float:
        """Time to spare in a clock period; negative where timing is missed."""
        return 1000 / self.asked_mhz - 1000 / self.fmax_mhz


def parse_report(text: str, cells: Mapping[str, RoutedCell]) -> Routed:
    """Parse nextpnr's ``--report`` file; ``cells`` are the family's.

    Raises:
        ValueError: it is not such a report, lacks a resource, or has not exactly one clock.
    """
    try:
        body: Any = json.loads(text)
    except json.JSONDecodeError as exc:
        raise ValueError(f"nextpnr's report is not JSON ({exc})") from exc
    rows = _table(body, "utilization", ("used", "available"))
    counted = {name: cell.counts for name, cell in cells.items() if cell.counts is not None}
    missing = [name for name in counted if name not in rows]
    if missing:
        raise ValueError(f"nextpnr's report has no row for {missing[0]!r}; it has {sorted(rows)!r}")
    for name, row in rows.items():
        for key, value in row.items():
            if type(value) is not int or value < 0:
                raise ValueError(f"nextpnr's report says {key} = {value!r} for {name!r}")
    clocks = _table(body, "fmax", ("achieved", "constraint"))
    if len(clocks) != 1:
        raise ValueError(
            f"nextpnr's report has {len(clocks)} clocks ({sorted(clocks)!r}) where the design has 1"
        )
    ((name, clock),) = clocks.items()
    for key, value in clock.items():
        if type(value) not in (int, float) or not 0 < value < float("inf"):
            raise ValueError(f"nextpnr's report says {key} = {value!r} MHz for clock {name!r}")
    used = {name: row["used"] for name, row in rows.items()}
    return Routed(
        resources=Resources(**{ours: used[theirs] for theirs, ours in counted.items()}, uram=0),
        used=used,
        available={name: row["available"] for name, row in rows.items()},
        fmax_mhz=float(clock["achieved"]),
        asked_mhz=float(clock["constraint"]),
    )


def _table(body: Any, name: str, keys: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    table = body.get(name) if isinstance(body, dict) else None
    if not isinstance(table, dict):
        raise ValueError(f"nextpnr's report has no table {name!r}")
    for row, fields in table.items():
        if not isinstance(fields, dict) or set(fields) != set(keys):
            raise ValueError(f"nextpnr's report has {row!r} = {fields!r} in {name!r}")
    return table


def too_large(log: str, cells: Mapping[str, RoutedCell]) -> str | None:
    """Return in words what the design needs more of than the device has, or None."""

    def title(name: str) -> str:
        return cells[name].title if name in cells else name

    over = [
        f"{int(used):,} of {int(available):,} {title(name)}"
        for name, used, available in _USED.findall(log)
        if int(used) > int(available)
    ]
    if over:
        return " and ".join(dict.fromkeys(over))
    match = _NO_ROOM.search(log)
    return None if match is None else f"more {title(match[1])} than there are"

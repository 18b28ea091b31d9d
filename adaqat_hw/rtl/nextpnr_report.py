"""Read what nextpnr-ecp5 says: its JSON report strictly, its log for what did not fit."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from adaqat_hw.schema import Resources

# nextpnr's cell types: the names that a user knows, and the fields of Resources.
_COUNTED = {"TRELLIS_COMB": "lut", "TRELLIS_FF": "ff", "DP16KD": "bram_18k", "MULT18X18D": "dsp"}
_SAID = {
    "TRELLIS_COMB": "LUT4 (TRELLIS_COMB)",
    "TRELLIS_FF": "flip-flops (TRELLIS_FF)",
    "DP16KD": "block RAMs (DP16KD)",
    "MULT18X18D": "multipliers (MULT18X18D)",
    "TRELLIS_RAMW": "LUT RAMs (TRELLIS_RAMW)",
    "TRELLIS_IO": "pins (TRELLIS_IO)",
}
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


def parse_report(text: str) -> Routed:
    """Parse nextpnr's ``--report`` file.

    Raises:
        ValueError: it is not such a report, lacks a resource, or has not exactly one clock.
    """
    try:
        body: Any = json.loads(text)
    except json.JSONDecodeError as exc:
        raise ValueError(f"nextpnr's report is not JSON ({exc})") from exc
    rows = _table(body, "utilization", ("used", "available"))
    missing = [name for name in _COUNTED if name not in rows]
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
        resources=Resources(**{ours: used[theirs] for theirs, ours in _COUNTED.items()}, uram=0),
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


def too_large(log: str) -> str | None:
    """Return in words what the design needs more of than the device has, or None."""
    over = [
        f"{int(used):,} of {int(has):,} {_SAID.get(name, name)}"
        for name, used, has in _USED.findall(log)
        if int(used) > int(has)
    ]
    if over:
        return " and ".join(dict.fromkeys(over))
    found = _NO_ROOM.search(log)
    return None if found is None else f"more {_SAID.get(found[1], found[1])} than there are"

"""Vivado's utilization, timing and power reports as records, in the family's terms.

What is missing is None, never 0; a table, column or cell that is not known raises ReportError
with file and line.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from adaqat_hw.compile.vivado_tables import Report, Row, Table, read_report
from adaqat_hw.schema import Power, Resources, Timing, UtilizationRows

_SITE_COLUMNS = (
    ("Site Type", "Used", "Fixed", "Available", "Util%"),
    ("Site Type", "Used", "Fixed", "Prohibited", "Available", "Util%"),
)
_HIERARCHY = "Utilization by Hierarchy"
_HIERARCHY_COLUMNS = {
    "Total LUTs": "lut", "FFs": "ff", "RAMB36": "ramb36", "RAMB18": "ramb18", "URAM": "uram",
    "Logic LUTs": None, "LUTRAMs": None, "SRLs": None,
}  # fmt: skip
_NEEDED = {"lut", "ff", "ramb36", "ramb18", "dsp"}
_TIMING_COLUMNS = (
    "WNS(ns)", "TNS(ns)", "TNS Failing Endpoints", "TNS Total Endpoints",
    "WHS(ns)", "THS(ns)", "THS Failing Endpoints", "THS Total Endpoints",
)  # fmt: skip
_VERDICTS = {
    "All user specified timing constraints are met.": True,
    "Timing constraints are not met.": False,
    "There are no user specified timing constraints.": None,
}


@dataclass(frozen=True)
class Utilization:
    """A flat utilization report: counts, and how many the part has of each."""

    version: str
    device: str
    state: str
    used: Resources
    available: Resources


@dataclass(frozen=True)
class Instance:
    """A row of the hierarchical report; ``resources`` include what is below it."""

    name: str
    module: str
    line: int
    resources: Resources
    children: tuple[Instance, ...] = ()


def read_utilization(path: Path, terms: UtilizationRows) -> Utilization:
    """Read ``report_utilization`` without ``-hierarchical``; ``terms`` are the family's.

    Block RAM is counted in 18-kbit halves: twice the RAMB36, plus the RAMB18.

    Raises:
        ReportError: a table or row that must be there is not, or is of an unknown form.
    """
    report = read_report(path, "report_utilization")
    logic, memory = report.in_section(terms.logic), report.in_section(terms.memory)
    dsp = report.in_section(terms.dsp)
    lut, ff = _site(report, logic, terms.lut), _site(report, logic, terms.ff)
    ramb36, ramb18 = (_site(report, memory, n) for n in ("RAMB36/FIFO", "RAMB18"))
    dsps = _site(report, dsp, "DSPs")
    has_uram = any(row.label == "URAM" for row in memory.rows)
    uram = _site(report, memory, "URAM") if has_uram else (None, None)
    tiles = _tiles(report, memory)
    if tiles is not None and tiles * 2 != ramb36[0] * 2 + ramb18[0]:
        raise report.fault(
            memory.line,
            f"{tiles:g} block RAM tiles do not agree with {ramb36[0]} RAMB36 and {ramb18[0]} "
            "RAMB18",
        )

    def counts(k: int, bram: int | None) -> Resources:
        return Resources(lut=lut[k], ff=ff[k], dsp=dsps[k], bram_18k=bram, uram=uram[k])

    return Utilization(
        report.version,
        report.head.get("Device", ""),
        report.head.get("Design State", ""),
        counts(0, ramb36[0] * 2 + ramb18[0]),
        counts(1, ramb18[1]),
    )


def _site(report: Report, table: Table, name: str) -> tuple[int, int]:
    """Return (used, available) of the one row of that name."""
    if table.header not in _SITE_COLUMNS:
        raise report.fault(table.line, f"unknown columns {list(table.header)!r}")
    rows = [row for row in table.rows if row.label == name]
    if len(rows) != 1:
        raise report.fault(table.line, f"{len(rows)} rows {name!r} in {table.section!r}")
    available = rows[0].cells[table.header.index("Available")]
    return _count(report, rows[0], rows[0].cells[1]), _count(report, rows[0], available)


def _tiles(report: Report, table: Table) -> float | None:
    for row in table.rows:
        if row.label == "Block RAM Tile":
            return _number(report, row.line, row.cells[1])
    return None


def _count(report: Report, row: Row, text: str) -> int:
    """Return the whole number in a cell; a percentage behind it is left out."""
    match = re.fullmatch(r"(\d+)(?:\(\s*[<\d.]+%\))?", text.strip())
    if match is None:
        raise report.fault(row.line, f"{row.label!r} is {text.strip()!r}, which is no count")
    return int(match[1])


def _number(report: Report, line: int, text: str) -> float:
    try:
        value = float(text.strip())
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise report.fault(line, f"{text.strip()!r} is no number")
    return value


def read_hierarchy(path: Path, terms: UtilizationRows) -> Instance:
    """Read ``report_utilization -hierarchical``; return the top instance.

    A row in parentheses is the module's own logic and no child.

    Raises:
        ReportError: unknown columns, or rows whose indents make no tree.
    """
    report = read_report(path, "report_utilization")
    table = report.in_section(_HIERARCHY)
    meaning = _HIERARCHY_COLUMNS | dict.fromkeys(terms.dsp_columns, "dsp")
    names = table.header[2:]
    columns = tuple(meaning.get(name) for name in names)
    unknown = not set(names) <= set(meaning)
    if table.header[:2] != ("Instance", "Module") or unknown or not set(columns) >= _NEEDED:
        raise report.fault(table.line, f"unknown columns {list(table.header)!r}")
    rows = []
    for row in table.rows:
        indent = len(row.cells[0]) - len(row.cells[0].lstrip(" "))
        if indent % 2:
            raise report.fault(row.line, f"an indent of {indent} spaces, where it is even")
        if not row.cells[0].lstrip(" ").startswith("("):
            rows.append((indent // 2, row))
    if not rows or rows[0][0] != 0:
        raise report.fault(table.line, "the table has no top instance")
    top, end = _instance(report, columns, rows, 0)
    if end != len(rows):
        raise report.fault(rows[end][1].line, "a second top instance")
    return top


def _instance(
    report: Report, columns: tuple[str | None, ...], rows: list[tuple[int, Row]], at: int
) -> tuple[Instance, int]:
    depth, row = rows[at]
    values = {
        key: _count(report, row, cell)
        for key, cell in zip(columns, row.cells[2:], strict=True)
        if key is not None
    }
    children = []
    at += 1
    while at < len(rows) and rows[at][0] > depth:
        if rows[at][0] != depth + 1:
            raise report.fault(rows[at][1].line, "an indent that skips a level")
        child, at = _instance(report, columns, rows, at)
        children.append(child)
    resources = Resources(
        lut=values["lut"],
        ff=values["ff"],
        dsp=values["dsp"],
        bram_18k=2 * values["ramb36"] + values["ramb18"],
        uram=values.get("uram"),
    )
    name, module = row.cells[0].strip(), row.cells[1].strip()
    return Instance(name, module, row.line, resources, tuple(children)), at


def read_timing(path: Path) -> Timing:
    """Read ``report_timing_summary``: worst slacks (0.0 is one) and Vivado's verdict.

    Raises:
        ReportError: the summary is missing or of an unknown form.
    """
    report = read_report(path, "report_timing_summary")
    titles = [k for k, line in enumerate(report.lines) if line.strip() == "| Design Timing Summary"]
    if len(titles) != 1:
        raise report.fault(
            len(report.lines), f"{len(titles)} tables 'Design Timing Summary' instead of one"
        )
    filled = [
        (k + 1, line.strip())
        for k, line in enumerate(report.lines[titles[0] :], titles[0])
        if line.strip() and not line.startswith(("|", "-"))
    ]
    if len(filled) < 4:
        raise report.fault(titles[0] + 1, "the 'Design Timing Summary' was cut short")
    (line, header), _, (value_line, values) = filled[:3]
    columns = tuple(re.split(r"\s{2,}", header))
    cells = values.split()
    if columns[: len(_TIMING_COLUMNS)] != _TIMING_COLUMNS or len(cells) != len(columns):
        raise report.fault(line, f"unknown columns {list(columns)!r}")
    numbers = [None if c == "NA" else _number(report, value_line, c) for c in cells]
    verdicts = [text for _, text in filled[3:] if text in _VERDICTS]
    if not verdicts:
        raise report.fault(value_line, "no sentence says whether timing is met")
    failing = numbers[2]
    return Timing(
        wns_ns=numbers[0],
        tns_ns=numbers[1],
        failing_endpoints=None if failing is None else int(failing),
        whs_ns=numbers[4],
        ths_ns=numbers[5],
        met=_VERDICTS[verdicts[0]],
    )


def read_power(path: Path) -> Power:
    """Read ``report_power``: its summary table.

    Raises:
        ReportError: the summary is missing or a value is no number.
    """
    report = read_report(path, "report_power")
    table = report.in_section("Summary")
    rows = {row.label: row for row in table.rows}

    def watts(name: str) -> float:
        if name not in rows:
            raise report.fault(table.line, f"no row {name!r} in the summary")
        row = rows[name]
        # Vivado remarks on a value behind it: "31.6 (Junction temp exceeded!)".
        return _number(report, row.line, row.cells[1].partition("(")[0])

    level = rows.get("Confidence Level")
    return Power(
        total_w=watts("Total On-Chip Power (W)"),
        dynamic_w=watts("Dynamic (W)"),
        static_w=watts("Device Static (W)"),
        confidence=None if level is None else level.cells[1].strip(),
    )

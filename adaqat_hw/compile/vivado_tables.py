"""Read the tables of a Vivado report: what is not understood is an error with file and line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adaqat_hw.errors import ReportError

_RULE = re.compile(r"\+(-+\+)+")
_SECTION = re.compile(r"(\d+(?:\.\d+)*)\.? (\S.*)")
_FIELD = re.compile(r"\| ([A-Za-z ]+?) *: (.*?)\s*\|?")
_VERSION = re.compile(r"Vivado v\.?(\d{4}\.\d+)")


@dataclass(frozen=True)
class Row:
    """One row: its line in the file, its cells as they are written (the indent of the first
    one means something)."""

    line: int
    cells: tuple[str, ...]

    @property
    def label(self) -> str:
        """The first cell without its indent and footnote star."""
        return self.cells[0].strip().rstrip("*").strip()


@dataclass(frozen=True)
class Table:
    """A table, the section it stands in and the line of its header (None: it has none)."""

    section: str
    line: int
    header: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Report:
    """A report: path, head (Tool Version, Design, Device, ...), lines and tables."""

    path: Path
    head: dict[str, str]
    lines: tuple[str, ...]
    tables: tuple[Table, ...]

    @property
    def version(self) -> str:
        """Vivado's version, such as ``2022.2``."""
        match = _VERSION.search(self.head.get("Tool Version", ""))
        if match is None:
            raise self.fault(1, f"its head names no Vivado version: {self.head!r}")
        return match[1]

    def fault(self, line: int, text: str) -> ReportError:
        """Return the error for ``line`` of this file."""
        return ReportError(f"{str(self.path)!r}, line {line}: {text}.")

    def in_section(self, *titles: str) -> Table:
        """Return the only table of the section that has one of these titles."""
        tables = [table for table in self.tables if table.section in titles]
        if len(tables) != 1:
            names = " or ".join(repr(title) for title in titles)
            raise self.fault(
                tables[1].line if tables else len(self.lines),
                f"{len(tables)} tables in section {names}, where there must be one",
            )
        return tables[0]


def read_report(path: Path, kind: str) -> Report:
    """Read the report that the Tcl command ``kind`` wrote, such as ``report_power``.

    Raises:
        ReportError: the file is missing or empty, was cut short, or is another kind of report.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as exc:
        raise ReportError(f"{str(path)!r} cannot be read ({exc.strerror or exc}).") from exc
    lines = tuple(text.splitlines())
    head = _head(lines)
    report = Report(path, head, lines, ())
    if "Tool Version" not in head or "Command" not in head:
        raise report.fault(1, "this is no Vivado report: it has no 'Tool Version' and 'Command'")
    if head["Command"].split()[:1] != [kind]:
        raise report.fault(1, f"the report is of {head['Command'][:60]!r}, not of {kind!r}")
    return Report(path, head, lines, _tables(report))


def _head(lines: Sequence[str]) -> dict[str, str]:
    """Return what stands between the first two dashed lines."""
    fields: dict[str, str] = {}
    rules = 0
    for line in lines[:40]:
        if re.fullmatch(r"-{20,}", line.strip()):
            rules += 1
        elif rules == 1 and (match := _FIELD.fullmatch(line.rstrip())):
            fields[match[1].strip()] = match[2].strip()
        if rules == 2:
            break
    return fields


def _tables(report: Report) -> tuple[Table, ...]:
    lines = report.lines
    tables: list[Table] = []
    section = ""
    at = 0
    while at < len(lines):
        line = lines[at].rstrip()
        under = lines[at + 1].strip() if at + 1 < len(lines) else ""
        match = _SECTION.fullmatch(line)
        if match and under and set(under) == {"-"}:
            section = match[2].strip()
        elif _RULE.fullmatch(line):
            table, at = _table(report, section, at)
            tables.append(table)
        at += 1
    return tuple(tables)


def _table(report: Report, section: str, start: int) -> tuple[Table, int]:
    """Read the table whose first rule is line ``start``; return it and its last line."""
    lines = report.lines
    rule = lines[start].rstrip()
    # Rule, header, rule, rows, rule; a table without header has two rules only.
    blocks: list[list[Row]] = [[]]
    at = start + 1
    while at < len(lines) and lines[at].startswith(("|", "+")):
        line = lines[at].rstrip()
        if line == rule:
            blocks.append([])
        elif line.startswith("|") and line.endswith("|"):
            blocks[-1].append(
                Row(at + 1, tuple(cell[1:].rstrip() for cell in line[1:-1].split("|")))
            )
        else:
            raise report.fault(at + 1, f"not a row of the table that begins in line {start + 1}")
        at += 1
    closed = len(blocks) >= 2 and blocks[-1] == []
    if not closed:
        raise report.fault(at, f"the table that begins in line {start + 1} was cut short")
    columns = rule.count("+") - 1
    for block in blocks:
        for row in block:
            if len(row.cells) != columns:
                raise report.fault(row.line, f"{len(row.cells)} cells in a table of {columns}")
    if len(blocks) == 2:
        return Table(section, start + 1, (), tuple(blocks[0])), at - 1
    if len(blocks[0]) != 1:
        raise report.fault(start + 1, "a table with a header of several lines, which is unknown")
    header = tuple(cell.strip() for cell in blocks[0][0].cells)
    rows = tuple(row for block in blocks[1:] for row in block)
    return Table(section, start + 2, header, rows), at - 1

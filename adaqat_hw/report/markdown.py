"""A report as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from adaqat_hw.report.content import (
    board_table,
    builds_table,
    estimate_table,
    layers_table,
    over,
    plans_table,
    resources_table,
    simulation_table,
)
from adaqat_hw.report.findings import findings
from adaqat_hw.report.fit_tables import fits_table, points_table
from adaqat_hw.report.fits import FitReport, fit_runs, verdict
from adaqat_hw.report.json_out import tool_versions
from adaqat_hw.report.model import RunReport
from adaqat_hw.report.overview import runs_table
from adaqat_hw.report.tables import Cell, Column, Table
from adaqat_hw.report.text import MISSING, MISSING_IN_WORDS, clean
from adaqat_hw.report.width_table import widths_table


def to_markdown(reports: Sequence[RunReport], fitted: FitReport | None = None) -> str:
    """Return the report of one or several runs as Markdown text."""
    parts: list[str] = [_table(runs_table(reports))] if len(reports) > 1 else []
    for run in reports:
        parts += _run(run)
    fits = fitted or fit_runs(reports)
    if any(run.hardware for run in reports):
        parts += ["## BitOPs against area", *(f"{_text(line)}\n" for line in verdict(fits))]
        parts += [_table(fits_table(fits)), _table(points_table(fits))]
    parts.append(f"{MISSING}: {MISSING_IN_WORDS}.")
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _run(run: RunReport) -> list[str]:
    parts = [f"# {_text(run.name)}", "\n".join(f"- {_text(line)}" for line in findings(run))]
    warnings = [
        f"> **{_text(p.variant)} DOES NOT FIT THE BOARD: {_text(', '.join(over(p)))}** "
        "(yosys_synth)"
        for p in run.quantized
        if over(p)
    ]
    parts += warnings
    parts += [f"> **Warning:** {_text(line)}" for line in run.warnings]
    main, tables = run.main, [plans_table(run)]
    if run.hardware:
        tables.append(board_table(run))
    if main is not None:
        tables += [widths_table(main)] if main.widths else []
        tables.append(layers_table(main, run.hardware))
    if run.hardware:
        tables += [estimate_table(main), simulation_table(main)] if main is not None else []
        tables += [resources_table(run), builds_table(run)]
    parts += [_table(table) for table in tables]
    if run.missing:
        parts += ["## Missing", "\n".join(f"- {_text(line)}" for line in run.missing)]
    tools = (f"- {_text(tool)} {_text(', '.join(v))}" for tool, v in tool_versions(run).items())
    parts += ["## Made with", "\n".join(tools)]
    return parts


def _table(table: Table) -> str:
    title = f"## {_text(table.title)}"
    if not table.rows:
        return f"{title}\n\nNothing on record."
    head = "| " + " | ".join(_head(column) for column in table.columns) + " |"
    rule = "|" + "|".join("---:" if column.numeric else "---" for column in table.columns) + "|"
    body = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in table.rows]
    note = f"\n\n{_text(table.note)}" if table.note else ""
    return "\n".join([f"{title}\n", head, rule, *body]) + note


def _head(column: Column) -> str:
    return _text(column.head) + (f" ({_text(column.source)})" if column.source else "")


def _cell(cell: Cell) -> str:
    return f"**{_text(cell.text)}**" if cell.highlight else _text(cell.text)


def _text(value: str) -> str:
    """Escape what Markdown or HTML would take for markup; underscores inside words are safe."""
    plain = clean(value.replace("\n", " "))
    plain = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    plain = re.sub(r"([\\`*|\[\]])", r"\\\1", plain)
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", plain)

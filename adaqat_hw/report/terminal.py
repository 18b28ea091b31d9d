"""A report on the terminal (rich renderables)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text

from adaqat_hw.report.builds import describe, folding_note, read_build
from adaqat_hw.report.collect import build_gaps
from adaqat_hw.report.content import (
    board_table,
    estimate_table,
    layers_table,
    over,
    plans_table,
    resources_table,
    simulation_table,
)
from adaqat_hw.report.findings import findings, implemented, routed
from adaqat_hw.report.fit_tables import fits_table
from adaqat_hw.report.fits import FitReport, fit_runs, verdict
from adaqat_hw.report.folding_table import folding_table, read_folding
from adaqat_hw.report.model import PlanReport, RunReport
from adaqat_hw.report.overview import runs_pace_warning, runs_table
from adaqat_hw.report.tables import Cell, Table
from adaqat_hw.report.text import MISSING, MISSING_IN_WORDS, clean

# A terminal has no room for all four resources at two sources and their ratio.
_BRIEF = ("lut", "dsp")


def render(reports: Sequence[RunReport]) -> Group:
    """Return the report of one or several runs for a rich console."""
    parts: list[RenderableType] = []
    if len(reports) > 1:
        parts.append(_rich(runs_table(reports)))
        if (pace := runs_pace_warning(reports)) is not None:
            parts.append(Text(f"WARNING: {clean(pace)}", style="bold red"))
    for run in reports:
        parts += _run(run)
    if any(run.hardware for run in reports):
        parts += _fits(fit_runs(reports))
    parts.append(Text(f"{MISSING}: {MISSING_IN_WORDS}; yosys_synth is not Vivado.", style="dim"))
    return Group(*parts)


def render_fit(reports: Sequence[RunReport]) -> Group:
    """Return the fits over all layers of the runs, and what they are worth."""
    return Group(*_fits(fit_runs(reports)))


def render_build(folder: Path) -> Group:
    """Return what one build folder holds.

    Raises:
        ReportError: a record in it is damaged.
    """
    build = read_build(folder)
    plan = PlanReport(variant=build.variant, build=build)
    run = RunReport(build.variant, folder, None, (plan,), (), (), ())
    parts: list[RenderableType] = [
        Text(f"{clean(build.variant)}: {clean(describe(build))}", style="bold"),
        _rich(resources_table(run)),
        _rich(board_table(run)),
        *_over_warning(plan),
        _rich(estimate_table(plan, _BRIEF)),
        _rich(simulation_table(plan)),
        *(Text(clean(line)) for line in (routed(plan), implemented(plan)) if line),
    ]
    note = folding_note(build)
    parts += [Text(clean(note), style="yellow")] if note is not None else []
    folding = read_folding(folder)
    parts += [_rich(folding_table(folding))] if folding is not None else []
    parts += [Text(f"missing: {clean(gap)}", style="yellow") for gap in build_gaps(build)]
    return Group(*parts)


def _run(run: RunReport) -> list[RenderableType]:
    parts: list[RenderableType] = [Text(f"\n{clean(run.name)}", style="bold underline")]
    parts += [Text(f"- {clean(line)}") for line in findings(run)]
    parts += [Text(f"WARNING: {clean(line)}", style="bold red") for line in run.warnings]
    for plan in run.quantized:
        parts += _over_warning(plan)
    parts.append(_rich(plans_table(run)))
    if run.hardware:
        parts.append(_rich(board_table(run)))
    if run.main is not None:
        parts.append(_rich(layers_table(run.main, run.hardware)))
    if run.main is not None and run.hardware:
        parts.append(_rich(estimate_table(run.main, _BRIEF)))
        parts.append(_rich(simulation_table(run.main)))
    if run.hardware:
        parts.append(_rich(resources_table(run)))
    parts += [Text(f"missing: {clean(line)}", style="yellow") for line in run.missing]
    return parts


def _over_warning(plan: PlanReport) -> list[RenderableType]:
    too_much = over(plan)
    if not too_much:
        return []
    text = f" {plan.variant} DOES NOT FIT THE BOARD: {', '.join(too_much)} (yosys_synth) "
    return [Text(clean(text), style="bold white on red")]


def _fits(report: FitReport) -> list[RenderableType]:
    parts: list[RenderableType] = [_rich(fits_table(report))] if report.fits else []
    return [*parts, *(Text(clean(line)) for line in verdict(report))]


def _rich(table: Table) -> RenderableType:
    if not table.rows:
        return Text(f"{clean(table.title)}: nothing on record", style="yellow")
    rendered = RichTable(
        title=escape(clean(table.title)),
        caption=escape(clean(table.note)) or None,
        title_justify="left",
        caption_justify="left",
        title_style="bold",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for column in table.columns:
        # A line break after the underscore keeps a column of numbers as narrow as its numbers.
        source = escape(column.source).replace("_", "_\n")
        head = escape(column.head) + (f"\n[dim]{source}[/]" if source else "")
        rendered.add_column(head, justify="right" if column.numeric else "left", overflow="fold")
    for row in table.rows:
        rendered.add_row(*(_cell(cell) for cell in row))
    return rendered


def _cell(cell: Cell) -> Text:
    style = "bold white on red" if cell.highlight else "dim" if cell.text == MISSING else ""
    return Text(cell.text, style=style)

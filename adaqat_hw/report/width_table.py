"""Table of the learned widths: final value, flips, freeze."""

from __future__ import annotations

from adaqat_hw.report.model import PlanReport
from adaqat_hw.report.tables import Column, Table, number_cell, text_cell
from adaqat_hw.report.text import count, number


def widths_table(plan: PlanReport) -> Table:
    """Every learned width of a plan."""
    columns = (
        Column("learned width", numeric=False),
        Column("start", "real-valued"),
        Column("bits", "at the end"),
        Column("flips"),
        Column("frozen at", "training step"),
        Column("by", numeric=False),
        Column("task loss saved by the bit", "last probe"),
        Column("price of the bit", "last probe"),
    )
    rows = tuple(
        (
            text_cell(path.name),
            number_cell(path.real[0], lambda v: number(v, 4)),
            number_cell(path.bits[-1], count),
            number_cell(None if path.flips is None else len(path.flips), count),
            number_cell(path.frozen_at, count),
            text_cell(path.frozen_by),
            number_cell(-path.pulls[-1].task if path.pulls else None, lambda v: number(v, 3)),
            number_cell(path.pulls[-1].hardware if path.pulls else None, lambda v: number(v, 3)),
        )
        for path in plan.widths
    )
    return Table("learned", f"Learned widths of {plan.variant}", columns, rows, folded=True)

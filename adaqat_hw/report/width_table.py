"""The learned widths in numbers: where each ended, how often it flipped, when it froze."""

from __future__ import annotations

from adaqat_hw.report.model import PlanReport
from adaqat_hw.report.tables import Column, Table, figure, words
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
            words(path.name),
            figure(path.real[0], lambda v: number(v, 4)),
            figure(path.bits[-1], count),
            figure(None if path.flips is None else len(path.flips), count),
            figure(path.frozen_at, count),
            words(path.frozen_by),
            figure(-path.pulls[-1].task if path.pulls else None, lambda v: number(v, 3)),
            figure(path.pulls[-1].hardware if path.pulls else None, lambda v: number(v, 3)),
        )
        for path in plan.widths
    )
    return Table("learned", f"Learned widths of {plan.variant}", columns, rows, folded=True)

"""Table that compares several runs: each run's main plan in one row."""

from __future__ import annotations

from collections.abc import Sequence

from adaqat_hw.report.builds import pace_warning
from adaqat_hw.report.content import fit_cell, plan_label
from adaqat_hw.report.model import FLOAT, SYNTH, RunReport
from adaqat_hw.report.tables import Column, Table, number_cell, text_cell
from adaqat_hw.report.text import count, percent, short, times


def runs_table(reports: Sequence[RunReport]) -> Table:
    """Compare the main plans of several runs."""
    columns = (
        Column("run", numeric=False),
        Column("plan", numeric=False),
        Column("W / A bits", numeric=False),
        Column("top-1", "test split"),
        Column("full precision", "test split"),
        Column("BitOPs", "per frame"),
        Column("weights smaller", "inner layers"),
        Column("LUT", SYNTH),
        Column("cycles / frame", "simulated"),
        Column("DSP", SYNTH),
        Column("board", SYNTH, numeric=False),
    )
    rows = []
    for run in reports:
        main, full = run.main, run.plan(FLOAT)
        build = main.build if main else None
        free = build.free_pass if build else None
        compression = main.compression if main else None
        rows.append(
            (
                text_cell(run.name),
                text_cell(main.variant if main else None),
                text_cell(plan_label(main) if main else None),
                number_cell(main.accuracy if main else None, lambda v: percent(v, 2)),
                number_cell(full.accuracy if full else None, lambda v: percent(v, 2)),
                number_cell(main.bitops.total if main and main.bitops else None, short),
                number_cell(compression.inner if compression else None, times),
                number_cell(build.total(SYNTH, "lut") if build else None, count),
                number_cell(free.cycles_per_frame if free else None, count),
                number_cell(build.total(SYNTH, "dsp") if build else None, count),
                fit_cell(main) if main else text_cell(None),
            )
        )
    return Table("runs", "Runs compared", columns, tuple(rows), runs_pace_warning(reports) or "")


def runs_pace_warning(reports: Sequence[RunReport]) -> str | None:
    """Say that the main plans of several runs run at different throughput, None if they do not."""
    return pace_warning({run.name: run.main.build for run in reports if run.main is not None})

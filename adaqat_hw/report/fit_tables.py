"""The tables of the fits, over one run or several."""

from __future__ import annotations

from adaqat_hw.cost import CostFit
from adaqat_hw.report.fits import FitReport
from adaqat_hw.report.model import SYNTH
from adaqat_hw.report.tables import Column, Table, number_cell, text_cell
from adaqat_hw.report.text import count, number, percent

FEATURES = {"bitops_per_cycle": "bit-ops / cycle", "threshold_bits": "threshold bits / cycle"}


def fits_table(report: FitReport) -> Table:
    """Every fit with its quality, or the reason why there is none."""
    columns = (
        Column("what", SYNTH, numeric=False),
        Column("fit", numeric=False),
        Column("n"),
        Column("R²"),
        Column("rank corr.", "Spearman"),
        Column("mean error"),
        Column("MAPE"),
        Column("MAPE unseen", "leave one out"),
    )
    rows = []
    for fit in report.fits:
        line = fit.outcome.fit
        over = " + ".join(FEATURES.get(name, name) for name in fit.features)
        rows.append(
            (
                text_cell(f"{fit.target.upper()} of MVAUs in {fit.impl.upper()}s over {over}"),
                text_cell(formula(line) if line else f"none: {fit.outcome.reason}"),
                number_cell(line.n if line else None, count),
                number_cell(line.r2 if line else None, _quality),
                number_cell(line.spearman if line else None, _quality),
                number_cell(line.mae if line else None, lambda v: number(v, 3)),
                number_cell(line.mape if line else None, percent),
                number_cell(line.loo_mape if line else None, percent),
            )
        )
    note = f"Not in the fits: {'; '.join(report.left_out)}." if report.left_out else ""
    return Table("fits", "Fits", columns, tuple(rows), note)


def _quality(value: float | None) -> str:
    return f"{value:.3f}"


def formula(fit: CostFit) -> str:
    """Return the fit as text, with the slopes' 95 % intervals where there are any."""
    parts = []
    for name in fit.features:
        between = (fit.coefficient_intervals or {}).get(name)
        span = f" [{number(between[0])}, {number(between[1])}]" if between else ""
        parts.append(f"{number(fit.coefficients[name])}{span} x {FEATURES.get(name, name)}")
    total = f"{' + '.join(parts)} + {number(fit.intercept)}".replace("+ -", "- ")
    return f"{fit.target.upper()} = {total}"


def points_table(report: FitReport) -> Table:
    """Every layer that the fits stand on."""
    columns = (
        Column("plan / layer", numeric=False),
        Column("MVAU in", numeric=False),
        Column("PE"),
        Column("SIMD"),
        Column("W bits"),
        Column("A bits"),
        Column("bit-ops / cycle"),
        Column("threshold bits / cycle"),
        Column("LUT", SYNTH),
        Column("DSP", SYNTH),
    )
    several = len({point.run for point in report.points}) > 1
    rows = tuple(
        (
            text_cell(f"{p.run} / {p.name}" if several else p.name),
            text_cell(f"{p.features.impl.upper()}s" if p.features.impl else None),
            number_cell(p.features.pe, count),
            number_cell(p.features.simd, count),
            number_cell(p.features.weight_bits, count),
            number_cell(p.features.act_bits, count),
            number_cell(p.features.bitops_per_cycle, count),
            number_cell(p.features.threshold_bits, count),
            number_cell(p.lut, count),
            number_cell(p.dsp, count),
        )
        for p in report.points
    )
    return Table("points", "Layers in the fits", columns, rows, folded=True)

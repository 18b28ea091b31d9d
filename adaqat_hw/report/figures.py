"""The figures of a report. Each returns SVG text, or None when it has nothing to show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from adaqat_hw.report.figure_canvas import WIDE, Figure, FigureCanvas, layer_ticks, legend, room
from adaqat_hw.report.fits import FitReport, Point
from adaqat_hw.report.model import FLOAT, LEARNED, SYNTH, PlanReport, RunReport, estimate_of
from adaqat_hw.report.svg import INK, MUTED, SERIES, style
from adaqat_hw.report.text import clean, count, percent, short

# Operands of a layer; a product of two activations has the first and the last in this order.
_OPERANDS = ("weights", "activations", "second activations of a product")


def accuracy_cost(runs: Sequence[RunReport]) -> Figure | None:
    """Accuracy against BitOPs, and against LUT at synthesis, one mark per plan."""
    plans = [(run, plan) for run in runs for plan in run.quantized if plan.accuracy is not None]
    work = [(r, p, p.bitops.total) for r, p in plans if p.bitops is not None]
    area = [(r, p, lut) for r, p in plans if (lut := _lut(p)) is not None]
    panels: list[tuple[str, list[tuple[RunReport, PlanReport, int]]]] = [
        ("BitOPs per frame", work),
        (f"LUT, whole design ({SYNTH})", area),
    ]
    panels = [panel for panel in panels if panel[1]]
    if not panels:
        return None
    several = len(runs) > 1
    with style("accuracy-cost"):
        canvas = FigureCanvas(WIDE, 3.4, len(panels), sharey=True)
        floats = [f.accuracy for r in runs if (f := r.plan(FLOAT)) and f.accuracy is not None]
        for axis, (label, listed) in zip(canvas.axes, panels, strict=True):
            for run, plan, cost in listed:
                assert plan.accuracy is not None
                name = f"{run.name} / {plan.variant}" if several else plan.variant
                learned = plan.variant == LEARNED
                colour = SERIES[(runs.index(run) if several else int(learned) ^ 1) % len(SERIES)]
                mark = axis.plot(
                    [cost], [100 * plan.accuracy], "D" if learned else "o", color=colour, ms=8
                )
                canvas.tip(mark[0], f"{name}: {percent(plan.accuracy, 2)}, {count(cost)} {label}")
                if several:
                    continue
                axis.annotate(
                    clean(name),
                    (cost, 100 * plan.accuracy),
                    xytext=(0, 8),
                    textcoords="offset points",
                    fontsize=9,
                    ha="center",
                    weight="bold" if learned else "normal",
                )
            if len(floats) == 1:
                axis.axhline(100 * floats[0], color=MUTED, lw=1, ls=(0, (4, 3)))
                axis.annotate(
                    "full precision",
                    (1, 100 * floats[0]),
                    xycoords=("axes fraction", "data"),
                    xytext=(0, 3),
                    textcoords="offset points",
                    ha="right",
                    fontsize=8.5,
                    color=MUTED,
                )
            axis.set(xscale="log", xlabel=label)
            _plain_log(axis.xaxis)
            axis.margins(x=0.22, y=0.22)
        canvas.axes[0].set_ylabel("top-1, test split (%)")
        if several:
            names = [(run.name, SERIES[i % len(SERIES)]) for i, run in enumerate(runs)]
            legend(canvas.axes[-1], names[:6])
        caption = f"Accuracy against {' and against '.join(label for label, _ in panels)}."
        caption += " A diamond is the learned plan, a dot any other." if several else ""
        return Figure("accuracy-cost", caption, canvas.svg())


def _lut(plan: PlanReport) -> int | None:
    return plan.build.total(SYNTH, "lut") if plan.build else None


def _plain_log(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_minor_formatter(NullFormatter())


def widths(plan: PlanReport) -> Figure | None:
    """Widths of both operands of every layer, in network order."""
    rows = plan.plan.layers if plan.plan else ()
    if not rows:
        return None
    crowded = len(rows) > 24
    with style("widths"):
        canvas = FigureCanvas(WIDE, 3.4 if crowded else 2.6)
        axis = canvas.axes[0]
        for i, row in enumerate(rows):
            second = 0 if row.weight_bits is not None else 2
            pairs = ((-0.2, row.second_bits, second), (0.2, row.act_bits, 1))
            for offset, bits, kind in pairs:
                bar = axis.bar(i + offset, bits, 0.36, color=SERIES[kind])[0]
                canvas.tip(bar, f"{row.layer}: {_OPERANDS[kind]} {bits} bits")
                size = 5 if len(rows) > 40 else 6.5 if crowded else 8.5
                axis.text(
                    i + offset, bits, f"{bits}", ha="center", va="bottom", fontsize=size, color=INK
                )
        layer_ticks(axis, [row.layer for row in rows])
        room(axis, len(rows))
        axis.set(ylabel="bits", ylim=(0, max(max(r.second_bits, r.act_bits) for r in rows) * 1.22))
        axis.grid(False, axis="x")
        products = any(row.weight_bits is None for row in rows)
        legend(axis, [(_OPERANDS[i], SERIES[i]) for i in ((0, 1, 2) if products else (0, 1))])
        return Figure("widths", f"Bit-widths of {plan.variant}, layer by layer.", canvas.svg())


def fit_figure(report: FitReport) -> Figure | None:
    """LUT and DSP of every layer against bit-operations per cycle, with the fitted line."""
    targets: tuple[tuple[str, Callable[[Point], int | None]], ...] = (
        ("lut", lambda point: point.lut),
        ("dsp", lambda point: point.dsp),
    )
    with_values = [(name, get) for name, get in targets if any(get(p) for p in report.points)]
    if not with_values:
        return None
    with style("fit"):
        canvas = FigureCanvas(WIDE, 3.8, len(with_values))
        names = list(dict.fromkeys((p.run, p.plan) for p in report.points))
        several = len({run for run, _ in names}) > 1
        for axis, (target, get) in zip(canvas.axes, with_values, strict=True):
            for i, key in enumerate(names):
                rows = [p for p in report.points if (p.run, p.plan) == key and get(p) is not None]
                label = " / ".join(key) if several else key[1]
                colour = SERIES[i % len(SERIES)]
                for j, p in enumerate(rows):
                    mark = axis.plot(
                        [p.features.bitops_per_cycle],
                        [get(p)],
                        "s" if p.features.impl == "dsp" else "o",
                        color=colour,
                        ms=6,
                        label=clean(label).lstrip("_") if j == 0 else "_",
                    )[0]
                    f = p.features
                    canvas.tip(
                        mark,
                        f"{label} / {f.layer}: W{f.weight_bits} A{f.act_bits}, PE {f.pe} SIMD "
                        f"{f.simd}, {count(f.bitops_per_cycle)} bit-ops per cycle, "
                        f"{count(get(p))} {target.upper()} ({SYNTH})",
                    )
            _fit_lines(axis, report, target)
            axis.set(xlabel="bit-operations per cycle", ylabel=f"{target.upper()} ({SYNTH})")
            axis.set_ylim(bottom=0)
            axis.set_xlim(left=0)
            _plain(axis)
        if len(names) <= 10:
            canvas.axes[0].legend(loc="upper left", handletextpad=0.2)
        caption = (
            "Area of every compute layer of every plan against its bit-operations per cycle "
            "(round: MVAU in LUTs, square: in DSPs)."
        )
        return Figure("fit", caption, canvas.svg())


def _plain(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter

    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(FuncFormatter(lambda value, _: count(value)))


def _fit_lines(axis: Any, report: FitReport, target: str) -> None:
    titles = []
    for fit in report.fits:
        line = fit.outcome.fit
        if fit.target != target or len(fit.features) != 1 or line is None:
            continue
        xs = [p.features.bitops_per_cycle for p in report.points if p.features.impl == fit.impl]
        ends = [min(xs), max(xs)]
        ys = [line.predict(bitops_per_cycle=x) for x in ends]
        axis.plot(ends, ys, color=INK, lw=1.2, ls="-" if fit.impl == "lut" else (0, (4, 2)))
        r2 = "not defined" if line.r2 is None else f"{line.r2:.3f}"
        error = "" if line.mape is None else f", MAPE {percent(line.mape)}"
        titles.append(f"in {fit.impl.upper()}s: R² {r2}{error}, n = {line.n}")
    title = "\n".join(titles) or f"{target.upper()}: no fit"
    axis.set_title(title, fontweight="normal", fontsize=9)


def estimate_synthesis(plan: PlanReport) -> Figure | None:
    """FINN's LUT estimate beside the synthesized LUT of every layer, on a log scale."""
    build = plan.build
    report = build.resources.get(SYNTH) if build else None
    estimate = estimate_of(build)
    if build is None or report is None or estimate not in build.resources:
        return None
    names = [row.layer for row in report.layers]
    if not names:
        return None
    with style("estimate"):
        canvas = FigureCanvas(WIDE, 2.9)
        axis = canvas.axes[0]
        floor = 1.0
        for i, name in enumerate(names):
            for j, (source, offset) in enumerate(((estimate, -0.2), (SYNTH, 0.2))):
                value = build.layer(source, name, "lut")
                text = "n/r" if value is None else short(value)
                if value:
                    colour = (MUTED, SERIES[0])[j]
                    bar = axis.bar(i + offset, value - floor, 0.36, bottom=floor, color=colour)[0]
                    canvas.tip(bar, f"{name}: {count(value)} LUT ({source})")
                axis.text(
                    i + offset,
                    max(value or floor, floor),
                    text.replace(" ", ""),
                    ha="center",
                    va="bottom",
                    fontsize=8,
                )
        tallest = max(
            (build.layer(s, n, "lut") or 1 for n in names for s in (estimate, SYNTH)), default=1
        )
        axis.set(yscale="log", ylabel="LUT", ylim=(floor, 2 * max(tallest, 5)))
        from matplotlib.ticker import FuncFormatter

        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        axis.grid(False, axis="x")
        axis.tick_params(which="minor", length=0)
        layer_ticks(axis, names)
        room(axis, len(names))
        legend(axis, ((estimate, MUTED), (SYNTH, SERIES[0])))
        caption = (
            f"LUT of every layer of {plan.variant}: FINN's estimate beside synthesis (log scale)."
        )
        return Figure("estimate", caption, canvas.svg())

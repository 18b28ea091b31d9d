"""The figures of a report. Each returns SVG text, or None when it has nothing to show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from adaqat_hw.report.content import ESTIMATE, SYNTH
from adaqat_hw.report.fits import FIT_STAGE, FitReport, Point
from adaqat_hw.report.model import FLOAT, LEARNED, STAGES, PlanReport, RunReport, WidthPath
from adaqat_hw.report.svg import INK, MUTED, SERIES, style, to_svg
from adaqat_hw.report.text import clean, count, percent, short

# Inches. All figures are equally wide, so that their type is equally large on the page.
_WIDE = 9.4


@dataclass(frozen=True)
class Figure:
    """A drawn figure: file stem, what it shows, and its SVG."""

    key: str
    caption: str
    svg: str


class _Sheet:
    """A matplotlib figure with hover texts, without pyplot's global state."""

    def __init__(self, width: float, height: float, columns: int = 1, **options: Any) -> None:
        from matplotlib.figure import Figure as Canvas

        self.canvas = Canvas(figsize=(width, height), layout="constrained")
        axes = self.canvas.subplots(1, columns, squeeze=False, **options)
        self.axes: list[Any] = list(axes[0])
        self._titles: dict[str, str] = {}

    def tip(self, artist: Any, text: str) -> None:
        gid = f"tip{len(self._titles)}"
        artist.set_gid(gid)
        self._titles[gid] = text

    def svg(self) -> str:
        return to_svg(self.canvas, self._titles)


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
        sheet = _Sheet(_WIDE, 3.4, len(panels), sharey=True)
        floats = [f.accuracy for r in runs if (f := r.plan(FLOAT)) and f.accuracy is not None]
        for axis, (label, listed) in zip(sheet.axes, panels, strict=True):
            for run, plan, cost in listed:
                assert plan.accuracy is not None
                name = f"{run.name} / {plan.variant}" if several else plan.variant
                learned = plan.variant == LEARNED
                colour = SERIES[(runs.index(run) if several else int(learned) ^ 1) % len(SERIES)]
                mark = axis.plot(
                    [cost], [100 * plan.accuracy], "D" if learned else "o", color=colour, ms=8
                )
                sheet.tip(mark[0], f"{name}: {percent(plan.accuracy, 2)}, {count(cost)} {label}")
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
        sheet.axes[0].set_ylabel("top-1, test split (%)")
        if several:
            names = [(run.name, SERIES[i % len(SERIES)]) for i, run in enumerate(runs)]
            _legend(sheet.axes[-1], names[:6])
        caption = f"Accuracy against {' and against '.join(label for label, _ in panels)}."
        caption += " A diamond is the learned plan, a dot any other." if several else ""
        return Figure("accuracy-cost", caption, sheet.svg())


def _lut(plan: PlanReport) -> int | None:
    return plan.build.total(SYNTH, "lut") if plan.build else None


def _plain_log(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_minor_formatter(NullFormatter())


def widths(plan: PlanReport) -> Figure | None:
    """Weight and activation bits of every layer, in network order."""
    rows = plan.plan.layers if plan.plan else ()
    if not rows:
        return None
    with style("widths"):
        sheet = _Sheet(_WIDE, 2.6)
        axis = sheet.axes[0]
        for i, row in enumerate(rows):
            pairs = ((-0.2, row.weight_bits, "weights"), (0.2, row.act_bits, "activations"))
            for j, (offset, bits, kind) in enumerate(pairs):
                bar = axis.bar(i + offset, bits, 0.36, color=SERIES[j])[0]
                sheet.tip(bar, f"{row.layer}: {kind} {bits} bits")
                axis.text(
                    i + offset, bits, f"{bits}", ha="center", va="bottom", fontsize=8.5, color=INK
                )
        _layer_ticks(axis, [row.layer for row in rows])
        _room(axis, len(rows))
        top = max(max(row.weight_bits, row.act_bits) for row in rows)
        axis.set(ylabel="bits", ylim=(0, top * 1.18))
        axis.grid(False, axis="x")
        _legend(axis, (("weights", SERIES[0]), ("activations", SERIES[1])))
        return Figure("widths", f"Bit-widths of {plan.variant}, layer by layer.", sheet.svg())


def _layer_ticks(axis: Any, names: Sequence[str]) -> None:
    short_names = [clean(name) if len(name) <= 18 else f"{clean(name)[:17]}…" for name in names]
    tilt = len(names) > 8 or max(len(name) for name in short_names) > 8
    axis.set_xticks(
        range(len(names)),
        short_names,
        rotation=35 if tilt else 0,
        ha="right" if tilt else "center",
    )


def _room(axis: Any, n: int) -> None:
    """Leave air at both sides of few bars, so that they do not become walls."""
    side = 0.6 + max(0.0, (6 - n) / 2)
    axis.set_xlim(-side, n - 1 + side)


def _legend(axis: Any, entries: Sequence[tuple[str, str]]) -> None:
    from matplotlib.patches import Patch

    axis.legend(
        handles=[Patch(color=colour, label=label) for label, colour in entries],
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=len(entries),
        handlelength=0.9,
        borderaxespad=0.2,
    )


def trajectories(plan: PlanReport) -> Figure | None:
    """Real-valued widths over training steps, weights and activations, with freeze marks."""
    groups: dict[str, list[WidthPath]] = {}
    for path in plan.widths:
        kind = "activations" if path.name.partition(":")[0].startswith("act") else "weights"
        groups.setdefault(kind, []).append(path)
    if not groups:
        return None
    with style("trajectories"):
        sheet = _Sheet(_WIDE, 3.6, len(groups), sharey=True)
        for axis, (kind, paths) in zip(sheet.axes, groups.items(), strict=True):
            colours = _colours(len(paths))
            for path, colour in zip(paths, colours, strict=True):
                _trajectory(sheet, axis, path, colour)
            axis.set(title=kind, xlabel="training step")
            if len(paths) <= 8:
                axis.legend(
                    loc="upper center",
                    bbox_to_anchor=(0.5, -0.16),
                    ncols=min(4, len(paths)),
                    handlelength=1.2,
                )
        sheet.axes[0].set_ylabel("real-valued width (bits)")
        caption = (
            "Learned widths before rounding up, over training steps. A dot is where a width froze; "
            "the dashed line is the integer it froze to."
        )
        return Figure("trajectories", caption, sheet.svg())


def _trajectory(sheet: _Sheet, axis: Any, path: WidthPath, colour: str) -> None:
    name = path.name.partition(":")[2] or path.name
    stop = len(path.steps)
    if path.frozen_at is not None:
        stop = sum(step <= path.frozen_at for step in path.steps) or 1
    line = axis.plot(
        path.steps[:stop], path.real[:stop], color=colour, label=clean(name).lstrip("_") or "?"
    )[0]
    end = path.bits[-1]
    when = "not frozen before the end" if path.frozen_at is None else f"frozen at {path.frozen_at}"
    why = f" by {path.frozen_by}" if path.frozen_by and path.frozen_at is not None else ""
    shown = "" if end is None else f", {end} bits"
    sheet.tip(line, f"{path.name}: {when}{why}{shown}")
    if path.frozen_at is not None:
        value = path.real[-1] if end is None else end
        last = max(path.steps[-1], path.frozen_at)
        axis.plot([path.frozen_at, last], [value, value], color=colour, lw=1, ls=(0, (3, 3)))
        dot = axis.plot([path.frozen_at], [value], "o", color=colour, ms=5)[0]
        sheet.tip(dot, f"{path.name}: {when}{why}{shown}")


def _colours(n: int) -> list[str]:
    if n <= len(SERIES):
        return list(SERIES[:n])
    import matplotlib as mpl
    from matplotlib.colors import to_hex

    ramp = mpl.colormaps["viridis"]
    return [to_hex(ramp(0.12 + 0.72 * i / (n - 1))) for i in range(n)]


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
        sheet = _Sheet(_WIDE, 3.8, len(with_values))
        names = list(dict.fromkeys((p.run, p.plan) for p in report.points))
        several = len({run for run, _ in names}) > 1
        for axis, (target, get) in zip(sheet.axes, with_values, strict=True):
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
                    sheet.tip(
                        mark,
                        f"{label} / {f.layer}: W{f.weight_bits} A{f.act_bits}, PE {f.pe} SIMD "
                        f"{f.simd}, {count(f.bitops_per_cycle)} bit-ops per cycle, "
                        f"{count(get(p))} {target.upper()} ({FIT_STAGE})",
                    )
            _fit_lines(axis, report, target)
            axis.set(xlabel="bit-operations per cycle", ylabel=f"{target.upper()} ({FIT_STAGE})")
            axis.set_ylim(bottom=0)
            axis.set_xlim(left=0)
            _plain(axis)
        if len(names) <= 10:
            sheet.axes[0].legend(loc="upper left", handletextpad=0.2)
        caption = (
            "Area of every compute layer of every plan against its bit-operations per cycle "
            "(round: MVAU in LUTs, square: in DSPs)."
        )
        return Figure("fit", caption, sheet.svg())


def _plain(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter

    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(FuncFormatter(lambda value, _: count(value)))


def _fit_lines(axis: Any, report: FitReport, target: str) -> None:
    said = []
    for fit in report.fits:
        made = fit.outcome.fit
        if fit.target != target or len(fit.features) != 1 or made is None:
            continue
        xs = [p.features.bitops_per_cycle for p in report.points if p.features.impl == fit.impl]
        ends = [min(xs), max(xs)]
        ys = [made.predict(bitops_per_cycle=x) for x in ends]
        axis.plot(ends, ys, color=INK, lw=1.2, ls="-" if fit.impl == "lut" else (0, (4, 2)))
        r2 = "not defined" if made.r2 is None else f"{made.r2:.3f}"
        error = "" if made.mape is None else f", MAPE {percent(made.mape)}"
        said.append(f"in {fit.impl.upper()}s: R² {r2}{error}, n = {made.n}")
    axis.set_title("\n".join(said) or f"{target.upper()}: no fit", fontweight="normal", fontsize=9)


def estimate_synthesis(plan: PlanReport) -> Figure | None:
    """FINN's LUT estimate beside the synthesized LUT of every layer, on a log scale."""
    build = plan.build
    report = build.resources.get(SYNTH) if build else None
    if build is None or report is None or ESTIMATE not in build.resources:
        return None
    names = [row.layer for row in report.layers]
    if not names:
        return None
    with style("estimate"):
        sheet = _Sheet(_WIDE, 2.9)
        axis = sheet.axes[0]
        floor = 1.0
        for i, name in enumerate(names):
            for j, (stage, offset) in enumerate(((ESTIMATE, -0.2), (SYNTH, 0.2))):
                value = build.layer(stage, name, "lut")
                text = "n/r" if value is None else short(value)
                if value:
                    colour = (MUTED, SERIES[0])[j]
                    bar = axis.bar(i + offset, value - floor, 0.36, bottom=floor, color=colour)[0]
                    sheet.tip(bar, f"{name}: {count(value)} LUT ({stage})")
                axis.text(
                    i + offset,
                    max(value or floor, floor),
                    text.replace(" ", ""),
                    ha="center",
                    va="bottom",
                    fontsize=8,
                )
        tallest = max((build.layer(s, n, "lut") or 1 for n in names for s in STAGES), default=1)
        axis.set(yscale="log", ylabel="LUT", ylim=(floor, 2 * max(tallest, 5)))
        from matplotlib.ticker import FuncFormatter

        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        axis.grid(False, axis="x")
        axis.tick_params(which="minor", length=0)
        _layer_ticks(axis, names)
        _room(axis, len(names))
        _legend(axis, ((ESTIMATE, MUTED), (SYNTH, SERIES[0])))
        caption = (
            f"LUT of every layer of {plan.variant}: FINN's estimate beside synthesis (log scale)."
        )
        return Figure("estimate", caption, sheet.svg())

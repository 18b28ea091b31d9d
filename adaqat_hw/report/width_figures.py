"""Figures of the learned widths: real values, integers with flips and freezes, gradients.

Up to a handful of widths share one plot; a network with a width per layer gets small multiples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from adaqat_hw.report.downsample import averages, envelope, sampled
from adaqat_hw.report.figure_canvas import WIDE, Figure, FigureCanvas, plain_axis, short_name
from adaqat_hw.report.history import WidthPath
from adaqat_hw.report.model import PlanReport
from adaqat_hw.report.svg import BITS, INK, MUTED, SERIES, style
from adaqat_hw.report.text import clean, count

_TOGETHER = 8
_COLUMNS = 5
_KINDS = ("weights", "activations")
_COLOURS = dict(zip(_KINDS, SERIES[:2], strict=True))
_PARTS = ("task loss saved by the bit", "price of the bit")
_Drawn = tuple[WidthPath, str]


def trajectories(plan: PlanReport) -> Figure | None:
    """Real-valued widths over training steps, weights and activations, with freeze marks."""
    kinds = _by_kind(plan.widths)
    if not kinds:
        return None
    caption = (
        "Learned widths before rounding up, over training steps. A dot is where a width froze; "
        "the dashed line is the integer it froze to."
    )
    with style("trajectories"):
        if max(len(paths) for paths in kinds.values()) > _TOGETHER:
            canvas = _small_multiples(_panels(plan))
            caption += " One plot per layer: its weights and the activations it reads."
        else:
            canvas = _together(kinds)
        return Figure("trajectories", caption, canvas.svg())


def _by_kind(paths: Sequence[WidthPath]) -> dict[str, list[WidthPath]]:
    kinds = {kind: [path for path in paths if path.operand == kind] for kind in _KINDS}
    return {kind: listed for kind, listed in kinds.items() if listed}


def _together(kinds: dict[str, list[WidthPath]]) -> FigureCanvas:
    canvas = FigureCanvas(WIDE, 3.6, len(kinds), sharey=True)
    for axis, (kind, paths) in zip(canvas.axes, kinds.items(), strict=True):
        for path, colour in zip(paths, SERIES, strict=False):
            _line(canvas, axis, path, colour, large=True)
        axis.set(title=kind, xlabel="training step")
        plain_axis(axis.xaxis, 6)
        axis.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.16),
            ncols=min(4, len(paths)),
            handlelength=1.2,
        )
    canvas.axes[0].set_ylabel("real-valued width (bits)")
    return canvas


def _panels(plan: PlanReport) -> list[tuple[str, list[_Drawn]]]:
    """Return for each layer the widths of its two operands, then what is left, by its name."""
    paths = {path.name: path for path in plan.widths}
    left = dict(paths)
    panels = []
    for row in plan.plan.layers if plan.plan else ():
        colours = {
            f"weights:{row.layer}": _COLOURS["weights"],
            f"acts:{row.act}": _COLOURS["activations"],
            f"acts:{row.second_act}": SERIES[2],
        }
        panel = [(paths[name], colour) for name, colour in colours.items() if name in paths]
        # A layer of fixed weights shows its activations only where no other layer does.
        if any(path.operand == "weights" or path.name in left for path, _ in panel):
            panels.append((row.layer, panel))
        for path, _ in panel:
            left.pop(path.name, None)
    groups: dict[str, list[_Drawn]] = {}
    for path in left.values():
        groups.setdefault(path.label, []).append((path, _COLOURS[path.operand]))
    return panels + list(groups.items())


def _small_multiples(panels: Sequence[tuple[str, list[_Drawn]]]) -> FigureCanvas:
    canvas = _grid(len(panels), sharey=True)
    for axis, (title, listed) in zip(canvas.axes, panels, strict=False):
        for path, colour in listed:
            _line(canvas, axis, path, colour, large=False)
        _small(axis, title)
    entries = [(kind, _COLOURS[kind]) for kind in _KINDS]
    if any(colour == SERIES[2] for _, listed in panels for _, colour in listed):
        entries.append(("second activations of a product", SERIES[2]))
    _key(canvas, entries)
    return canvas


def _grid(n: int, **options: Any) -> FigureCanvas:
    rows = math.ceil(n / _COLUMNS)
    canvas = FigureCanvas(WIDE, 0.5 + 1.05 * rows, _COLUMNS, rows, sharex=True, **options)
    for axis in canvas.axes[n:]:
        axis.set_axis_off()
    # The lowest plot of a column carries its ticks, even above an empty place.
    for axis in canvas.axes[max(0, n - _COLUMNS) : n]:
        axis.tick_params(labelbottom=True)
    return canvas


def _small(axis: Any, title: str) -> None:
    axis.set_title(short_name(title, 26), fontsize=7.5, pad=3, fontweight="normal")
    axis.tick_params(labelsize=7, pad=1.5)
    plain_axis(axis.xaxis, 3)
    plain_axis(axis.yaxis, 4)


def _key(canvas: FigureCanvas, entries: Sequence[tuple[str, str]]) -> None:
    from matplotlib.patches import Patch

    canvas.canvas.legend(
        handles=[Patch(color=colour, label=label) for label, colour in entries],
        loc="outside upper right",
        ncols=len(entries),
        handlelength=0.9,
    )


def _line(canvas: FigureCanvas, axis: Any, path: WidthPath, colour: str, *, large: bool) -> None:
    stop = len(path.steps)
    if path.frozen_at is not None:
        stop = sum(step <= path.frozen_at for step in path.steps) or 1
    steps, real = envelope(path.steps[:stop], path.real[:stop], 240 if large else 90)
    name = clean(path.label).lstrip("_") or "?"
    line = axis.plot(steps, real, color=colour, label=name, lw=1.6 if large else 1.1)[0]
    canvas.tip(line, _story(path))
    if path.frozen_at is None:
        return
    end = path.bits[-1]
    value = path.real[-1] if end is None else end
    last = max(path.steps[-1], path.frozen_at)
    axis.plot([path.frozen_at, last], [value, value], color=colour, lw=1, ls=(0, (3, 3)))
    dot = axis.plot([path.frozen_at], [value], "o", color=colour, ms=5 if large else 3)[0]
    canvas.tip(dot, _story(path))


def _story(path: WidthPath) -> str:
    when = "not frozen before the end" if path.frozen_at is None else f"frozen at {path.frozen_at}"
    why = f" by {path.frozen_by}" if path.frozen_by and path.frozen_at is not None else ""
    end = path.bits[-1]
    return f"{path.name}: {when}{why}" + ("" if end is None else f", {end} bits")


def integers(plan: PlanReport) -> Figure | None:
    """Integer width of every learned width over training steps: flips and freezes."""
    kinds = _by_kind([p for p in plan.widths if any(bits is not None for bits in p.bits)])
    if not kinds:
        return None
    most = max(len(paths) for paths in kinds.values())
    seen: set[int] = set()
    with style("integers"):
        canvas = FigureCanvas(WIDE, 0.95 + 0.17 * most, len(kinds), sharex=True)
        for axis, (kind, paths) in zip(canvas.axes, kinds.items(), strict=True):
            for y, path in enumerate(paths):
                seen |= _strip(canvas, axis, y, path)
            names = [short_name(path.label, 28) for path in paths]
            axis.set_yticks(range(len(names)), names, fontsize=7 if len(names) > 6 else 9)
            axis.set(title=kind, xlabel="training step", ylim=(len(paths) - 0.4, -0.6))
            axis.grid(False)
            plain_axis(axis.xaxis, 5)
        _key(canvas, [(f"{bits} bit", _shade(bits)) for bits in sorted(seen)])
        caption = (
            "Integer widths in use, over training steps: a change of colour is a flip, a dot the "
            "freeze, the number at the right the width in the plan."
        )
        return Figure("integers", caption, canvas.svg())


def _strip(canvas: FigureCanvas, axis: Any, y: int, path: WidthPath) -> set[int]:
    points = [(s, b) for s, b in zip(path.steps, path.bits, strict=True) if b is not None]
    end = points[-1][0]
    runs: list[tuple[int, int]] = []
    for step, bits in sampled(points, 400):
        if not runs or runs[-1][1] != bits:
            runs.append((step, bits))
    stops = [step for step, _ in runs[1:]] + [max(end, runs[-1][0] + 1)]
    spans = [(step, stop - step) for (step, _), stop in zip(runs, stops, strict=True)]
    shades = [_shade(bits) for _, bits in runs]
    strip = axis.broken_barh(spans, (y - 0.42, 0.84), facecolors=shades, linewidth=0)
    flips = "" if path.flips is None else f", {count(len(path.flips))} flips"
    canvas.tip(strip, _story(path) + flips)
    if path.frozen_at is not None:
        axis.plot([min(path.frozen_at, end)], [y], "o", color=INK, ms=2.6, clip_on=False)
    axis.annotate(
        f"{points[-1][1]}",
        (1, y),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
    )
    return {bits for _, bits in runs}


def _shade(bits: int) -> str:
    return BITS[min(max(bits, 1), len(BITS)) - 1]


def gradients(plan: PlanReport) -> Figure | None:
    """What a bit of each width is worth to the task loss, and its price, over training steps."""
    paths = [p for listed in _by_kind(plan.widths).values() for p in listed if p.pulls]
    if not paths:
        return None
    with style("gradients"):
        canvas = _grid(max(len(paths), _COLUMNS if len(paths) > 2 else len(paths)))
        for axis, path in zip(canvas.axes, paths, strict=False):
            steps = [pull.step for pull in path.pulls]
            parts = ([-pull.task for pull in path.pulls], [pull.hardware for pull in path.pulls])
            drawn: list[float] = []
            for values, colour, part in zip(parts, SERIES, _PARTS, strict=False):
                xs, ys = averages(steps, values, 60)
                line = axis.plot(xs, ys, color=colour, lw=1.1)[0]
                canvas.tip(line, f"{path.name}: {part}")
                drawn += ys
            axis.axhline(0, color=MUTED, lw=0.6)
            axis.set_ylim(*_range(drawn))
            _small(axis, path.name)
        for axis in canvas.axes[len(paths) :]:
            axis.set_axis_off()
        _key(canvas, list(zip(_PARTS, SERIES, strict=False)))
        caption = (
            "The two parts of each width's gradient, averaged over neighbouring probes: the task "
            "loss that its last bit saves, and what that bit costs (lambda included). Where the "
            "price lies above, the width falls. Each plot has its own scale."
        )
        return Figure("gradients", caption, canvas.svg(), folded=len(paths) > 2 * _COLUMNS)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Return limits that a few wild probes do not blow up."""
    ordered = sorted([*values, 0.0])
    cut = len(ordered) // 50
    low, high = ordered[cut], ordered[-1 - cut]
    air = 0.12 * (high - low) or 0.01
    return low - air, high + air

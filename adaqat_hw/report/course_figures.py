"""Figures over training steps: loss, accuracy, lambda, and what the controller limits."""

from __future__ import annotations

from typing import Any

from adaqat_hw.report.downsample import envelope
from adaqat_hw.report.figure_canvas import WIDE, Figure, FigureCanvas, plain_axis
from adaqat_hw.report.history import Series
from adaqat_hw.report.model import LEARNED, PlanReport, RunReport
from adaqat_hw.report.svg import INK, MUTED, SERIES, style
from adaqat_hw.report.text import clean, number, short

_DASHED: Any = {"color": INK, "lw": 1, "ls": (0, (4, 3))}


def learning(run: RunReport) -> Figure | None:
    """Training loss and test accuracy of every variant over training steps."""
    panels = [
        (label, [(p, s) for p in run.plans if (s := getattr(p.history, key)).steps], scale)
        for label, key, scale in (
            ("training loss, mean of an epoch", "train_loss", 1.0),
            ("top-1 after each epoch, test split (%)", "accuracy", 100.0),
        )
    ]
    panels = [panel for panel in panels if panel[1]]
    if not panels:
        return None
    with style("learning"):
        canvas = FigureCanvas(WIDE, 3.0, len(panels))
        for axis, (label, listed, scale) in zip(canvas.axes, panels, strict=True):
            for plan, series in listed:
                index = run.plans.index(plan)
                colour = SERIES[index % len(SERIES)]
                values = [scale * value for value in series.values]
                mark = "." if len(values) == 1 else None
                line = axis.plot(
                    *envelope(series.steps, values, 240),
                    color=colour,
                    marker=mark,
                    lw=2 if plan.variant == LEARNED else 1.3,
                    label=clean(plan.variant).lstrip("_") or "?",
                )[0]
                canvas.tip(line, f"{plan.variant}: {number(values[-1], 4)} at the end")
            axis.set(title=label, xlabel="training step")
            plain_axis(axis.xaxis, 5)
        canvas.axes[-1].legend(loc="lower right", handlelength=1.2)
        caption = (
            "Training loss and test accuracy. The accuracy in the tables is that of the end; where "
            "widths froze only there, it is measured after batch-norm recalibration."
        )
        return Figure("learning", caption, canvas.svg())


def steering(plan: PlanReport) -> Figure | None:
    """Hard loss, lambda, BitOPs and what the budget limits, over training steps."""
    h = plan.history
    # A budget of BitOPs limits the course that is drawn anyway.
    own = h.budget if h.budget is not None and h.budget.reached != h.bitops else None
    panels: list[tuple[str, Series, float | None]] = [
        ("hard loss", h.hard_loss, None),
        ("lambda", h.hardware_lambda, None),
        ("BitOPs per frame", h.bitops, h.budget.asked if h.budget and own is None else None),
    ]
    if own is not None:
        panels.append((own.title, own.reached, own.asked))
    panels = [panel for panel in panels if panel[1].steps]
    if not panels:
        return None
    with style("steering"):
        canvas = FigureCanvas(WIDE, 2.7, len(panels))
        for axis, (label, series, budget), colour in zip(canvas.axes, panels, SERIES, strict=False):
            _course(canvas, axis, label, series, colour)
            if series is h.hard_loss and h.target.steps:
                line = axis.plot(*envelope(h.target.steps, h.target.values, 240), **_DASHED)[0]
                canvas.tip(line, "target of the hard loss on the way to the budget")
            if budget is not None:
                _budget_line(canvas, axis, budget)
        named = [label for label, *_ in panels]
        caption = f"What the controller steers by, over training steps: {', '.join(named)}."
        if h.budget is not None:
            caption += " Dashed: the budget, and the target that leads to it."
        return Figure("steering", caption, canvas.svg())


def _course(canvas: FigureCanvas, axis: Any, label: str, series: Series, colour: str) -> None:
    steps, values = envelope(series.steps, series.values, 240)
    line = axis.plot(steps, values, color=colour, drawstyle="steps-post")[0]
    canvas.tip(line, f"{label}: {number(values[-1], 4)} at the end")
    axis.set(title=label, xlabel="training step")
    axis.set_ylim(bottom=0, top=1.12 * max([*values, 1e-12]))
    plain_axis(axis.xaxis, 4)
    plain_axis(axis.yaxis, 5)


def _budget_line(canvas: FigureCanvas, axis: Any, budget: float) -> None:
    line = axis.axhline(budget, **_DASHED)
    canvas.tip(line, f"budget {number(budget, 10)}")
    axis.set_ylim(top=max(axis.get_ylim()[1], 1.12 * budget))
    axis.annotate(
        f"budget {short(budget)}",
        (1, budget),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        fontsize=8.5,
        color=MUTED,
    )

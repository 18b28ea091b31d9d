"""Fit LUT and DSP against bit-operations over the layers of all built plans, with a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from adaqat_hw.cost import CostFit, FitOutcome, LayerFeatures, fit_cost, layer_features
from adaqat_hw.errors import ConfigError
from adaqat_hw.report.model import SYNTH, PlanReport, RunReport
from adaqat_hw.schema import MvauImpl

# (target, implementation, features): what is fitted, in the order of the report. LUTs of a
# LUT-built MVAU and those around a DSP-built one are two populations: never one line.
_WANTED: tuple[tuple[str, MvauImpl, tuple[str, ...]], ...] = (
    ("lut", "lut", ("bitops_per_cycle",)),
    ("lut", "lut", ("bitops_per_cycle", "threshold_bits")),
    ("lut", "dsp", ("bitops_per_cycle",)),
    ("dsp", "dsp", ("bitops_per_cycle",)),
)


@dataclass(frozen=True)
class Point:
    """One compute layer of one plan; ``lut`` and ``dsp`` are its yosys_synth row."""

    run: str
    network: str
    plan: str
    features: LayerFeatures
    lut: int | None
    dsp: int | None

    @property
    def name(self) -> str:
        """``plan / layer``."""
        return f"{self.plan} / {self.features.layer}"


@dataclass(frozen=True)
class Fit:
    """One fit, or the reason why there is none.

    ``largest`` is the point with the most bit-operations per cycle and ``r2_without_largest``
    the R2 of a fit to the others: one far point can make any line look good.
    """

    target: str
    impl: MvauImpl
    features: tuple[str, ...]
    outcome: FitOutcome
    largest: Point | None = None
    r2_without_largest: float | None = None


@dataclass(frozen=True)
class FitReport:
    """Points, fits and plans that could not contribute, each with the reason."""

    points: tuple[Point, ...]
    fits: tuple[Fit, ...]
    left_out: tuple[str, ...]

    def best(self, target: str, impl: MvauImpl) -> CostFit | None:
        """Return the one-feature fit of ``target``, or None."""
        for fit in self.fits:
            if (fit.target, fit.impl, len(fit.features)) == (target, impl, 1):
                return fit.outcome.fit
        return None


def fit_runs(runs: Sequence[RunReport]) -> FitReport:
    """Fit LUT and DSP of every compute layer of every built plan against its features.

    Bit-operations per cycle are PE x SIMD x weight bits x activation bits. With several
    networks, leave-one-out leaves a whole network out.
    """
    points: list[Point] = []
    left_out: list[str] = []
    family = _family(runs)
    for run in runs:
        for plan in run.quantized:
            name = f"{run.name} / {plan.variant}" if len(runs) > 1 else plan.variant
            if plan.build is None or plan.build.graph is None or plan.plan is None:
                left_out.append(f"{name}: no hardware graph")
                continue
            if SYNTH not in plan.build.resources:
                left_out.append(f"{name}: not synthesized")
                continue
            if (other := _family_of(plan)) != family:
                left_out.append(f"{name}: synthesized for {other}, most others for {family}")
                continue
            try:
                rows = layer_features(plan.build.graph, plan.plan)
            except ConfigError as exc:
                left_out.append(f"{name}: {exc}")
                continue
            for row in rows:
                lut = plan.build.layer(SYNTH, row.layer, "lut")
                dsp = plan.build.layer(SYNTH, row.layer, "dsp")
                points.append(Point(run.name, plan.plan.network, plan.variant, row, lut, dsp))
    present = {point.features.impl for point in points}
    fits = [_fit(points, *spec) for spec in _WANTED if spec[1] in present]
    return FitReport(tuple(points), tuple(fits), tuple(left_out))


def _family(runs: Sequence[RunReport]) -> str | None:
    """Return the family that most plans are synthesized for; their LUTs alone compare."""
    built = [plan for run in runs for plan in run.quantized if plan.build is not None]
    counts = Counter(
        _family_of(plan) for plan in built if plan.build and SYNTH in plan.build.resources
    )
    return counts.most_common(1)[0][0] if counts else None


def _family_of(plan: PlanReport) -> str | None:
    board = plan.build.board if plan.build else None
    return board.family if board else None


def _fit(points: Sequence[Point], target: str, impl: MvauImpl, features: tuple[str, ...]) -> Fit:
    rows = [point for point in points if point.features.impl == impl]
    columns: dict[str, Sequence[float | None]] = {
        name: [getattr(point.features, name) for point in rows] for name in features
    }
    # A layer without thresholds spends none; the other features are never absent.
    if "threshold_bits" in columns:
        columns["threshold_bits"] = [value or 0 for value in columns["threshold_bits"]]
    networks = [point.network for point in rows]
    outcome = fit_cost(
        columns,
        [getattr(point, target) for point in rows],
        target=target,
        groups=networks if len(set(networks)) > 1 else None,
    )
    if outcome.fit is None or len(features) > 1:
        return Fit(target, impl, features, outcome)
    known = [point for point in rows if getattr(point, target) is not None]
    largest = max(known, key=lambda point: point.features.bitops_per_cycle)
    others = [point for point in known if point is not largest]
    without = fit_cost(
        {features[0]: [point.features.bitops_per_cycle for point in others]},
        [getattr(point, target) for point in others],
        target=target,
        bootstrap=0,
    )
    return Fit(target, impl, features, outcome, largest, without.fit.r2 if without.fit else None)


def verdict(report: FitReport) -> list[str]:
    """Return sentences on how well bit-operations per cycle explain area, and their limits."""
    if not report.points:
        why = f" ({'; '.join(report.left_out)})" if report.left_out else ""
        return [f"No layer was synthesized, so nothing can be said about BitOPs and area{why}."]
    sentences = []
    for fit in report.fits:
        if len(fit.features) == 1:
            sentences.append(_sentence(fit))
    base = report.best("lut", "lut")
    extended = next((f.outcome.fit for f in report.fits if len(f.features) == 2), None)
    if base and extended and base.r2 is not None and extended.r2 is not None:
        sentences.append(
            f"Adding the bits compared in thresholds per cycle changes R² from {base.r2:.2f} to "
            f"{extended.r2:.2f}{_error_change(base, extended)}."
        )
    networks = sorted({point.network for point in report.points})
    plans = len({(point.run, point.plan) for point in report.points})
    source = f"{len(networks)} networks" if len(networks) > 1 else f"one network, {networks[0]}"
    sentences.append(
        f"These are {len(report.points)} layers of {source}, in {plans} "
        f"plan{'s' if plans > 1 else ''}: not independent, and each count is of everything built "
        "for the layer (thresholds, sliding window, weight memory and FIFOs too). They are from "
        "Yosys, not from Vivado, and before placement: take the trend, not the slope, to another "
        "network or tool."
    )
    return sentences


def _sentence(fit: Fit) -> str:
    target, kind = fit.target.upper(), f"MVAUs in {fit.impl.upper()}s"
    line = fit.outcome.fit
    if line is None:
        return f"{target} of {kind}: no fit. {fit.outcome.reason}"
    if line.r2 is None:
        return f"{target} of {kind} is the same in all {line.n} layers: there is nothing to fit."
    strength = (
        "explain almost all of"
        if line.r2 >= 0.95
        else "explain most of"
        if line.r2 >= 0.8
        else "explain a good part of"
        if line.r2 >= 0.5
        else "explain little of"
    )
    parts = [f"the mean error is {line.mae:.0f} {target}"]
    if line.mape is not None:
        parts.append(f"{100 * line.mape:.0f} % of the layer")
    unseen = "no leave-one-out error can be given"
    if line.loo_mape is not None:
        unseen = f"{100 * line.loo_mape:.0f} % for what the fit has not seen"
    elif line.loo_mae is not None:
        unseen = f"{line.loo_mae:.0f} {target} for what the fit has not seen"
    rank = "" if line.spearman is None else f", rank correlation {line.spearman:.2f}"
    slope = line.coefficients["bitops_per_cycle"]
    shape = (
        f" The line is {slope:.2f} {target} per bit-operation per cycle and {line.intercept:.0f} "
        f"{target} whatever the work."
    )
    if fit.largest is not None and fit.r2_without_largest is not None:
        shape += (
            f" Without the largest layer ({fit.largest.name}) R² is {fit.r2_without_largest:.2f}"
        )
        shape += ": one point carries the line." if fit.r2_without_largest < line.r2 - 0.1 else "."
    few = " With so few points this is a hint, no more." if line.n < 10 else ""
    return (
        f"{kind}: bit-operations per cycle {strength} the spread of {target} "
        f"(R² {line.r2:.2f}{rank}, n = {line.n}); {', '.join(parts)}, {unseen}.{shape}{few}"
    )


def _error_change(base: CostFit, extended: CostFit) -> str:
    if base.loo_mape is None or extended.loo_mape is None:
        return ""
    return (
        f", the error on what the fit has not seen from {100 * base.loo_mape:.0f} % to "
        f"{100 * extended.loo_mape:.0f} %"
    )

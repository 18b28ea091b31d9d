"""Widths under a budget by measured scores, in a few rounds. Pure Python.

The rule ``allocation`` of this project, beside AdaQAT's gradient. The network warms up at the
uniform plan of the budget with a bit more of everything. In each round every width is scored alone,
at its present bits (first the uniform plan's) and one lower, where all have one bit more: there
sums of single scores rank plans best (measured: docs/benchmarks/2026-11-28-learning.md). The plan
of the least sum within the budget is found exactly, no width more than one bit from where it is;
and it is taken only where its sum, on other batches, is better than the present plan's beyond two
standard errors. Then the network trains on at it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from adaqat_hw.cost import HardwareCost
from adaqat_hw.quant.allocate import allocate_near
from adaqat_hw.quant.controller import AdaQatController
from adaqat_hw.quant.exact_allocation import allocate_exactly
from adaqat_hw.quant.freeze_plan import BETTER_BY, mean_and_error
from adaqat_hw.quant.sensitivity import SensitivityEstimate, SensitivityTracker

Neighbour = tuple[str, int]


@dataclass(frozen=True)
class PlanChoice:
    """A plan, whether no other has a smaller sum of scores, and the factor of each width's score.

    Training makes up for narrow weights more than for narrow activations, so scores taken before
    it overrate a bit of weights (measured: docs/benchmarks/2026-11-28-learning.md). The factors put
    both kinds on one scale: one bit more for all weights, and for all activations, is worth the
    same per unit of its cost. Which bits move within a kind is up to the scores.
    """

    plan: dict[str, int]
    exact: bool
    factors: dict[str, float]


def round_steps(start: int, end: int, rounds: int) -> list[int]:
    """Return the training steps at which a round begins.

    The first is ``start``; each is followed by an equal share of the steps up to ``end``. There are
    no more rounds than steps.
    """
    return sorted({start + (end - start) * index // rounds for index in range(rounds)})


def reference_plan(controller: AdaQatController) -> dict[str, int]:
    """Return the plan that single widths are scored in: each free one a bit above the present."""
    bits, widths = controller.bits, controller.widths
    return {**bits, **{n: min(bits[n] + 1, widths[n].maximum) for n in controller.free}}


def neighbours(controller: AdaQatController) -> list[Neighbour]:
    """Return the widths to score, each alone in the reference plan: (name, bits)."""
    bits, widths, reference = controller.bits, controller.widths, reference_plan(controller)
    return [
        (name, near)
        for name in controller.free
        for near in (bits[name] - 1, bits[name])
        if widths[name].minimum <= near < reference[name]
    ]


def best_plan(
    controller: AdaQatController,
    reference: Sequence[float],
    scored: Mapping[Neighbour, Sequence[float]],
) -> PlanChoice:
    """Return the plan of the least estimated score within the budget, one bit around the present.

    Where the best cannot be told exactly, it is a good one.

    Args:
        controller: the present widths, their bounds and the limited cost.
        reference: score of the reference plan on each batch; lower is better.
        scored: the same with one width at other bits (:func:`neighbours`).
    """
    cost, bits = controller.cost, controller.bits
    assert cost.limit is not None
    # Anew in every round: the weights have changed, and so has what a bit is worth.
    tracker = SensitivityTracker(controller.widths)
    rows = {name: {bit: reference} for name, bit in reference_plan(controller).items()}
    for (name, near), values in scored.items():
        rows[name] = {near: values, **rows[name]}
    # In order, not as a set: every process, and a resumed one, must choose alike between equals.
    scored_names = list(dict.fromkeys(name for name, _ in scored))
    for name in scored_names:
        row = dict(sorted(rows[name].items()))
        for lower, upper in zip(list(row)[:-1], list(row)[1:], strict=True):
            for less, more in zip(row[lower], row[upper], strict=True):
                tracker.add(name, upper, less - more)
    worth = tracker.floored()
    factors = _factors(controller, worth)
    scores: dict[str, dict[int, float]] = {}
    for name in scored_names:
        top, *others = sorted(rows[name], reverse=True)
        scores[name] = {top: 0.0}
        for bit in others:
            scores[name][bit] = scores[name][bit + 1] + factors[name] * worth(name, bit + 1)
    exact = allocate_exactly(bits, scores, cost.value, cost.limit)
    if exact is not None:
        return PlanChoice(exact, exact=True, factors=factors)
    free = [controller.widths[name] for name in controller.free]

    def weighed(name: str, bit: int) -> float:
        return factors.get(name, 1.0) * worth(name, bit)

    plan = allocate_near(bits, free, cost.value, cost.limit, weighed)
    return PlanChoice(plan, exact=False, factors=factors)


def _factors(controller: AdaQatController, worth: SensitivityEstimate) -> dict[str, float]:
    """Return the factor of each free width's score: see :class:`PlanChoice`."""
    bits, cost = controller.bits, controller.cost
    kinds: dict[bool, list[str]] = {}
    for name in controller.free:
        kinds.setdefault(name.startswith("weights"), []).append(name)
    gains = {k: sum(worth(n, bits[n] + 1) for n in names) for k, names in kinds.items()}
    prices = {
        k: cost.value({**bits, **{n: bits[n] + 1 for n in names}}) - cost.value(bits)
        for k, names in kinds.items()
    }
    if len(kinds) < 2 or not all(prices.values()):
        return dict.fromkeys(controller.free, 1.0)
    # As much in sum as before, so that a difference of scores keeps its size.
    scale = sum(gains.values()) / sum(prices.values())
    return {n: scale * prices[k] / gains[k] for k, names in kinds.items() for n in names}


def changed_widths(
    controller: AdaQatController, plan: Mapping[str, int]
) -> tuple[list[Neighbour], list[Neighbour]]:
    """Return the widths to score anew for a comparison: those of ``plan``, then the present ones.

    Both lists name the widths that differ, in the same order.
    """
    bits = controller.bits
    names = [name for name in controller.free if plan[name] != bits[name]]
    return [(name, plan[name]) for name in names], [(name, bits[name]) for name in names]


@dataclass(frozen=True)
class RoundOutcome:
    """What one round found.

    ``difference`` is the sum of single scores of ``plan`` minus that of ``live``; ``exact`` says
    whether no plan has a smaller one.
    """

    live: dict[str, int]
    plan: dict[str, int]
    difference: float | None
    standard_error: float | None
    taken: bool
    exact: bool = True

    def as_dict(self, cost: HardwareCost) -> dict[str, Any]:
        """Return all of it for the log, JSON-able, with a sentence that says so."""
        return {**asdict(self), "sentence": self._sentence(cost)}

    def _sentence(self, cost: HardwareCost) -> str:
        moves = {n: (b, self.plan[n]) for n, b in self.live.items() if self.plan[n] != b}
        if not moves:
            return "No other plan within the budget and one bit scores better."
        changes = ", ".join(f"{n} {before} to {after}" for n, (before, after) in moves.items())
        own, other = (cost.describe(cost.reached(bits)) for bits in (self.plan, self.live))
        if self.difference is None or self.standard_error is None:
            measured = "there are too few batches to compare it with the present one"
        else:
            measured = (
                f"on other batches their sum minus that of the present plan ({other}) is "
                f"{self.difference:+.4f} with a standard error of {self.standard_error:.4f}"
            )
        verdict = "taken" if self.taken else "not taken"
        plan = "best plan" if self.exact else "best plan that was found"
        return f"The {plan} by single scores ({own}; {changes}) is {verdict}: {measured}."


def judge(
    live: Mapping[str, int],
    plan: Mapping[str, int],
    differences: Sequence[float],
    *,
    exact: bool = True,
) -> RoundOutcome:
    """Decide whether to move to ``plan``: only where it is better beyond two standard errors.

    Args:
        live: the present widths.
        plan: those of :func:`best_plan`.
        differences: the sums of single scores of ``plan`` minus those of ``live``, by batch.
        exact: as :func:`best_plan` says.
    """
    if plan == live or len(differences) < 2:
        return RoundOutcome(dict(live), dict(plan), None, None, taken=False, exact=exact)
    mean, error = mean_and_error(differences)
    taken = mean < -BETTER_BY * error
    return RoundOutcome(dict(live), dict(plan), mean, error, taken=taken, exact=exact)

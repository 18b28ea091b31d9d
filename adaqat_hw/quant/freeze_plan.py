"""The widths that a training to a budget freezes at: learned or uniform ones. Pure Python.

The learned plan is the best one near the live widths by what their bits were measured to be worth.
It is held against the uniform plan of the same budget: losses of both on the same batches, in
pairs. The learned plan is taken only where it is better beyond two standard errors; else the
uniform one is, of which more is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from adaqat_hw.cost import HardwareCost
from adaqat_hw.quant.allocate import allocate_near, uniform_bits
from adaqat_hw.quant.controller import AdaQatController
from adaqat_hw.schema import FreezeChoice

BETTER_BY = 2.0  # standard errors by which a plan must be better to be taken


@dataclass(frozen=True)
class FreezeProposal:
    """Integer widths by name: the present ones, the learned plan and the uniform one."""

    live: dict[str, int]
    learned: dict[str, int]
    uniform: dict[str, int]

    @property
    def differs(self) -> bool:
        """Whether there is anything to compare."""
        return self.learned != self.uniform


def propose(controller: AdaQatController, *, reallocate: bool = True) -> FreezeProposal:
    """Return the plans to choose from; both keep within the limit of the controller's cost.

    Without ``reallocate`` the present widths are the learned plan.
    """
    cost, limit = controller.cost, controller.cost.limit
    assert limit is not None
    live, worth = controller.bits, controller.sensitivity.floored()
    free = [controller.widths[name] for name in controller.free]

    def value(bits: Mapping[str, int]) -> float:
        return cost.value({**live, **bits})

    assert reallocate or value(live) <= limit
    return FreezeProposal(
        live=live,
        learned=allocate_near(live, free, value, limit, worth) if reallocate else live,
        uniform={**live, **uniform_bits(free, value, limit, worth)},
    )


def choose(
    proposal: FreezeProposal,
    cost: HardwareCost,
    step: int,
    differences: Sequence[float] | None = None,
) -> FreezeChoice:
    """Choose between the two plans.

    Args:
        proposal: the plans.
        cost: what is limited.
        step: the training step's number.
        differences: learned minus uniform loss, one per batch; None where the learned plan is to
            be taken without a comparison.
    """
    mean = error = None
    if differences is not None and len(differences) > 1:
        mean, error = mean_and_error(differences)
    chosen: Literal["learned", "uniform", "same"] = "same"
    if proposal.differs:
        better = mean is not None and error is not None and mean < -BETTER_BY * error
        chosen = "learned" if differences is None or better else "uniform"
    bits = proposal.uniform if chosen == "uniform" else proposal.learned
    live = proposal.live
    choice = FreezeChoice(
        step=step,
        live=live,
        learned=proposal.learned,
        uniform=proposal.uniform,
        unit=cost.unit,
        learned_cost=cost.reached(proposal.learned),
        uniform_cost=cost.reached(proposal.uniform),
        batches=0 if differences is None or not proposal.differs else len(differences),
        difference=mean,
        standard_error=error,
        chosen=chosen,
        far={n: (live[n], b) for n, b in bits.items() if abs(b - live[n]) > 1},
        sentence="",
    )
    return choice.model_copy(update={"sentence": _sentence(choice, cost)})


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of at least two values and its standard error."""
    mean = math.fsum(values) / len(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    return mean, math.sqrt(squares / (len(values) - 1) / len(values))


def _sentence(choice: FreezeChoice, cost: HardwareCost) -> str:
    own, other = cost.describe(choice.learned_cost), cost.describe(choice.uniform_cost)
    uniform = f"uniform plan {_kinds(choice.uniform)}"
    if choice.chosen == "same":
        text = f"The learned plan is the {uniform} ({own}), so nothing was compared"
    elif choice.difference is not None:
        better = "better" if choice.chosen == "learned" else "not better"
        text = (
            f"On {choice.batches} training batches the loss of the learned plan ({own}) minus "
            f"that of the {uniform} ({other}) was {choice.difference:+.4f} with a standard error "
            f"of {choice.standard_error:.4f}: {better} beyond two of them, so the "
            f"{choice.chosen} plan is taken"
        )
    elif choice.chosen == "uniform":
        text = (
            f"The {uniform} ({other}) is taken: {choice.batches} training batches are too few to "
            f"tell whether the learned plan ({own}) is better"
        )
    else:
        text = (
            f"The learned plan ({own}) is taken; it was not compared with the {uniform} ({other})"
        )
    if not choice.far:
        return f"{text}."
    moves = ", ".join(f"{n} {before} to {after}" for n, (before, after) in choice.far.items())
    if choice.chosen == "uniform":
        return f"{text}; it lies more than one bit from the live widths: {moves}."
    return f"{text}. No plan within one bit of the live widths meets the budget: {moves}."


def _kinds(bits: Mapping[str, int]) -> str:
    """Return the widths of a uniform plan as text, such as ``weights 3, acts 4``."""
    spans: dict[str, set[int]] = {}
    for name, value in bits.items():
        spans.setdefault(name.partition(":")[0], set()).add(value)
    return ", ".join(
        f"{kind} {'/'.join(str(x) for x in sorted(values))}" for kind, values in spans.items()
    )

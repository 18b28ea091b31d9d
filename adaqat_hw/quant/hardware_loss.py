"""Hardware cost of a set of widths, in bit-operations up to a constant. Pure Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from adaqat_hw.errors import ConfigError

HardCost = Callable[[Mapping[str, int]], float]


@dataclass(frozen=True)
class CostTerm:
    """One layer: its MACs, and each operand as the name of a width or as a fixed width."""

    macs: int
    weights: str | int
    acts: str | int


def network_cost(weights: str | int, acts: str | int) -> HardCost:
    """Return the cost of one pair of widths for the whole network: weights x activations.

    Source: arXiv 2404.16876. Each operand is the name of a width or a fixed width.
    """
    return layer_cost([CostTerm(1, weights, acts)])


def layer_cost(terms: Sequence[CostTerm]) -> HardCost:
    """Return the MAC-weighted mean of weights x activations over the layers that learn a width.

    This project's extension of the paper's product to one width per layer; where all widths are
    equal it is the paper's product, so lambda keeps its meaning. Layers with two fixed operands
    are left out: they cost the same whatever is learned.

    Raises:
        ConfigError: no layer learns a width, or a layer has no MACs.
    """
    learned = [t for t in terms if isinstance(t.weights, str) or isinstance(t.acts, str)]
    if not learned or any(t.macs <= 0 for t in learned):
        raise ConfigError(
            f"Cost terms {list(terms)!r} must hold at least one learned width, and MACs above 0."
        )
    total = sum(t.macs for t in learned)

    def cost(bits: Mapping[str, int]) -> float:
        def value(operand: str | int) -> int:
            return bits[operand] if isinstance(operand, str) else operand

        return sum(t.macs * value(t.weights) * value(t.acts) for t in learned) / total

    return cost

"""Hardware cost of a set of widths, in bit-operations up to a constant. Pure Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from adaqat_hw.errors import ConfigError

HardCost = Callable[[Mapping[str, float]], float]


@dataclass(frozen=True)
class CostTerm:
    """One layer: its MACs, and each operand as the name of a width or as a fixed width.

    A product of activations names two activation widths. A floor is the least width that the
    operand's own quantizer can take: a signed one stays at 2 bits where its width says 1.
    """

    macs: int
    weights: str | int
    acts: str | int
    weights_floor: int = 1
    acts_floor: int = 1

    @property
    def learned(self) -> bool:
        """Whether one of the operands is learned."""
        return isinstance(self.weights, str) or isinstance(self.acts, str)

    def cost(self, bits: Mapping[str, float]) -> float:
        """Return MACs x weight width x activation width; an integer where ``bits`` are."""
        weights = _width(self.weights, self.weights_floor, bits)
        return self.macs * weights * _width(self.acts, self.acts_floor, bits)


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
    learned = [t for t in terms if t.learned]
    if not learned or any(t.macs <= 0 for t in learned):
        raise ConfigError(
            f"Cost terms {list(terms)!r} must hold at least one learned width, and MACs above 0."
        )
    total = sum(t.macs for t in learned)

    def cost(bits: Mapping[str, float]) -> float:
        return sum(t.cost(bits) for t in learned) / total

    return cost


def total_cost(terms: Sequence[CostTerm]) -> HardCost:
    """Return the sum of MACs x weights x activations over all layers, fixed ones included."""
    kept = tuple(terms)

    def cost(bits: Mapping[str, float]) -> float:
        return sum(t.cost(bits) for t in kept)

    return cost


def _width(operand: str | int, floor: int, bits: Mapping[str, float]) -> float:
    return max(bits[operand], floor) if isinstance(operand, str) else operand

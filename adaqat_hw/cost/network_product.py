"""The hard loss of the AdaQAT paper: the product of two network-wide widths."""

from __future__ import annotations

from adaqat_hw.cost.layer_widths import Operand
from adaqat_hw.cost.protocol import Bits, HardwareCost


class NetworkProductCost(HardwareCost):
    """Weight width x activation width of the whole network: BitOPs up to a constant.

    Source: arXiv 2404.16876. It is a price for a fixed lambda and has no limit.

    Args:
        weights: the width of all weights.
        acts: the width of all activations.
    """

    name = "product"
    unit = "weight bits x activation bits"
    limit = None
    fixed = 0.0

    def __init__(self, weights: Operand, acts: Operand) -> None:
        self._operands = (weights, acts)

    def value(self, bits: Bits) -> float:
        """Return the product of the two widths."""
        weights, acts = self._operands
        return float(weights.bits(bits) * acts.bits(bits))

    def hard_loss(self, bits: Bits) -> float:
        """Return the product of the two widths."""
        return self.value(bits)

    def depends_on(self, width: str) -> bool:
        """Tell whether the width is one of the two."""
        return any(operand.width == width for operand in self._operands)

"""Which widths, learned or fixed, set the two operands of every layer."""

from __future__ import annotations

from dataclasses import dataclass

from adaqat_hw.cost.protocol import Bits


@dataclass(frozen=True)
class Operand:
    """One operand of a layer: the name of the learned width that sets it, or its fixed width.

    ``floor`` is the least width that the operand's own quantizer can take: a signed one stays at
    2 bits where its width says 1.
    """

    width: str | int
    floor: int = 1

    @property
    def learned(self) -> bool:
        """Whether a learned width sets it."""
        return isinstance(self.width, str)

    def bits(self, bits: Bits) -> float:
        """Return its width; an integer where ``bits`` are."""
        return max(bits[self.width], self.floor) if isinstance(self.width, str) else self.width


@dataclass(frozen=True)
class LayerWidths:
    """One layer and the widths of its operands.

    Attributes:
        layer: its name.
        macs: multiply-accumulates for one input sample.
        weights: number of its weights, 0 for a product of two activations.
        second: its weights, or a product's second activations.
        acts: the activations that it reads.
    """

    layer: str
    macs: int
    weights: int
    second: Operand
    acts: Operand

    @property
    def learned(self) -> bool:
        """Whether one of the operands is learned."""
        return self.second.learned or self.acts.learned

    def bitops(self, bits: Bits) -> float:
        """Return MACs x second width x activation width."""
        return self.macs * self.second.bits(bits) * self.acts.bits(bits)

    def weight_bits(self, bits: Bits) -> float:
        """Return the size of the weights in bits."""
        return self.weights * self.second.bits(bits)

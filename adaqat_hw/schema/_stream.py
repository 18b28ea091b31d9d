"""Stream: one AXI stream of a design, and IntType, the integers that it carries."""

from __future__ import annotations

from adaqat_hw.schema._base import Record


class IntType(Record):
    """An integer data type."""

    bits: int
    signed: bool


class Stream(Record):
    """One AXI stream of the design: ``elements`` values of ``dtype`` side by side per beat.

    ``name`` is the tensor's name in the hardware graph, ``folded_shape`` FINN's folded shape
    (last entry = elements per beat, product of the others = beats per frame). The bus is
    padded to whole bytes.
    """

    name: str
    dtype: IntType
    folded_shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Values per beat."""
        return self.folded_shape[-1]

    @property
    def beats(self) -> int:
        """Beats per frame."""
        total = 1
        for dim in self.folded_shape[:-1]:
            total *= dim
        return total

    @property
    def width(self) -> int:
        """Bus width in bits, padded to bytes."""
        return (self.elements * self.dtype.bits + 7) // 8 * 8

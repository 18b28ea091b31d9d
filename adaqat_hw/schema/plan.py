"""BitWidthPlan: integer bit-widths per layer, to print, edit by hand and re-apply."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, model_validator

from adaqat_hw.schema._base import Record


class LayerBits(Record):
    """Bit-widths of one layer.

    ``act_bits`` is the width of the activations the layer reads, produced by the quantizer
    ``act``; layers that read the same quantizer carry the same width. A product of two
    activations has no ``weight_bits``; its right operand is ``second_act_bits`` wide, from the
    quantizer ``second_act``.
    """

    layer: str
    weight_bits: int | None = Field(default=None, ge=1, le=32)
    act_bits: int = Field(ge=1, le=32)
    weight_signed: bool = True
    weight_narrow: bool = True
    act_signed: bool = False
    act: str = ""
    second_act_bits: int | None = Field(default=None, ge=1, le=32)
    second_act_signed: bool | None = None
    second_act: str | None = None

    @model_validator(mode="after")
    def _operands(self) -> Self:
        second = (self.second_act_bits, self.second_act_signed, self.second_act)
        present = [x is not None for x in second]
        if any(present) != all(present) or all(present) != (self.weight_bits is None):
            raise ValueError(
                f"layer {self.layer!r} has weight_bits {self.weight_bits!r} and second_act_bits "
                f"{self.second_act_bits!r}; give weight_bits, or for a product of two activations "
                "second_act, second_act_bits and second_act_signed"
            )
        return self

    @property
    def second_bits(self) -> int:
        """Width of the right operand: the weights, or a product's second activations."""
        bits = self.weight_bits if self.weight_bits is not None else self.second_act_bits
        assert bits is not None  # one of the two is there by _operands
        return bits


class JoinBits(Record):
    """Width of a quantizer that no layer reads directly (a residual add's shared one)."""

    quantizer: str
    bits: int = Field(ge=1, le=32)
    signed: bool = True


class BitWidthPlan(Record):
    """Bit-widths of every quantizer of a network; integers only."""

    network: str
    source: Literal["adaqat", "uniform", "manual"]
    layers: tuple[LayerBits, ...]
    joins: tuple[JoinBits, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [x.layer for x in self.layers]
        if len(set(names)) != len(names):
            twice = sorted({n for n in names if names.count(n) > 1})
            raise ValueError(f"layers {twice!r} appear more than once; keep one row each")
        seen: dict[str, tuple[str, int]] = {}
        for row in self.layers:
            for act, bits in ((row.act, row.act_bits), (row.second_act, row.second_act_bits)):
                if not act or bits is None:
                    continue
                other, width = seen.setdefault(act, (row.layer, bits))
                if width != bits:
                    raise ValueError(
                        f"layers {other!r} and {row.layer!r} read the same activations {act!r} "
                        f"but have act_bits {width} and {bits}; give both the same width"
                    )
        return self

    def layer(self, name: str) -> LayerBits:
        """Return the row of layer ``name``; raise KeyError when the plan lacks it."""
        for row in self.layers:
            if row.layer == name:
                return row
        raise KeyError(name)


def parse_bits(text: str) -> tuple[int, int]:
    """Return (weight bits, activation bits) of text such as ``"3/4"``.

    Raises:
        ValueError: not two integers from 1 to 32 with a slash between them.
    """
    match = re.fullmatch(r"(\d{1,2})/(\d{1,2})", text.strip())
    if match is None:
        raise ValueError(f"bit-widths {text!r} must read WEIGHTS/ACTIVATIONS, such as 3/4")
    weights, acts = int(match[1]), int(match[2])
    for bits in (weights, acts):
        if not 1 <= bits <= 32:
            raise ValueError(f"bit-width {bits} in {text!r} must lie between 1 and 32")
    return weights, acts

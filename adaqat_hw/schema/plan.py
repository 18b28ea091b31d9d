"""BitWidthPlan: integer bit-widths per layer, to print, edit by hand and re-apply."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from adaqat_hw.schema._base import Record


class LayerBits(Record):
    """Bit-widths of one layer.

    ``act_bits`` is the width of the activations the layer reads, produced by the quantizer
    ``act``; layers that read the same quantizer carry the same width.
    """

    layer: str
    weight_bits: int = Field(ge=1, le=32)
    act_bits: int = Field(ge=1, le=32)
    weight_signed: bool = True
    weight_narrow: bool = True
    act_signed: bool = False
    act: str = ""


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
        seen: dict[str, LayerBits] = {}
        for row in self.layers:
            other = seen.setdefault(row.act, row) if row.act else row
            if other.act_bits != row.act_bits:
                raise ValueError(
                    f"layers {other.layer!r} and {row.layer!r} read the same activations "
                    f"{row.act!r} but have act_bits {other.act_bits} and {row.act_bits}; "
                    "give both the same width"
                )
        return self

    def layer(self, name: str) -> LayerBits:
        """Return the row of layer ``name``; raise KeyError when the plan lacks it."""
        for row in self.layers:
            if row.layer == name:
                return row
        raise KeyError(name)

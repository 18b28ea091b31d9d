"""FMPadding: zeros around a feature map; RTL by FINN."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from adaqat_hw.rtl.ops._finn import AXILITE_IN, finn_rtl
from adaqat_hw.rtl.ops._protocol import Facts, Features, HardwareOperator, Parameters, ValueRange
from adaqat_hw.rtl.packing import IntArray, require_range
from adaqat_hw.rtl.verilog_writer import NodeRtl
from adaqat_hw.schema import Family, HardwareNode, IntType
from adaqat_hw.schema.operators import PADDING


def pad(inputs: ArrayLike, padding: tuple[int, int, int, int], *, dtype: IntType) -> IntArray:
    """Pad (n, H, W, C) with zeros: ``padding`` is (top, left, bottom, right), FINN's order.

    Raises:
        ValueError: another shape, a negative padding, or a value outside its type.
    """
    x = require_range(inputs, dtype, "Padding input")
    if x.ndim != 4:
        raise ValueError(f"Padding needs (n, H, W, C), not shape {x.shape!r}.")
    if min(padding) < 0:
        raise ValueError(f"Padding {padding!r} must not be negative.")
    top, left, bottom, right = padding
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))


class _Padding(HardwareOperator):
    record = PADDING

    def reference(self, node: HardwareNode, parameters: Parameters, *inputs: IntArray) -> IntArray:
        return pad(inputs[0], _sides(node), dtype=node.inputs[0].dtype)

    def ranges(
        self, node: HardwareNode, parameters: Parameters, *inputs: ValueRange
    ) -> ValueRange:  # fmt: skip
        (x,) = inputs
        return ValueRange(min(x.low, 0), max(x.high, 0)) if any(_sides(node)) else x

    def verilog(
        self,
        node: HardwareNode,
        module: str,
        parameters: Parameters,
        data_files: Mapping[str, Path],
    ) -> NodeRtl:
        return finn_rtl(node, module, data_files, tied_off=AXILITE_IN)

    def features(self, facts: Facts, impl: str | None, family: Family) -> Features:
        return {"width": facts["in_elements"] * facts["in_bits"], "one": 1, "bram_18k": 0}


def _sides(node: HardwareNode) -> tuple[int, int, int, int]:
    top, left, bottom, right = node.sizes("Padding", 4, least=0)
    return top, left, bottom, right


OPERATOR = _Padding()

"""Pool: maximum (hw/rtl/maxpool), or sum and shift (hw/rtl/avgpool), over a window."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl.ops._protocol import (
    Facts,
    Features,
    HardwareOperator,
    Parameters,
    Sample,
    ValueRange,
)
from adaqat_hw.rtl.ops._samples import sample_node, sizes
from adaqat_hw.rtl.packing import IntArray, require_range
from adaqat_hw.rtl.verilog_writer import (
    NodeRtl,
    core_rtl,
    expect,
    require_ports,
    require_same_type,
    type_text,
    type_values,
)
from adaqat_hw.schema import Family, HardwareNode, IntType
from adaqat_hw.schema.operators import POOL


@dataclass(frozen=True)
class Pooling:
    """Maximum, or sum shifted right by ``shift``, over ``window`` values per channel."""

    function: Literal["max", "sum"]
    window: int
    shift: int = 0


def pooling_of(node: HardwareNode) -> Pooling:
    """Return what a node computes.

    FINN's ``MaxPool``, ``AccPool`` (the sum) and ``QuantAvgPool``, whose shift is its attribute
    ``Size``: the bits of the largest sum less those of the output.

    Raises:
        ConfigError: another function, no window, or a shift that is none.
    """
    function = node.attributes.get("Function", "MaxPool")
    if function == "MaxPool":
        return Pooling("max", node.taps)
    if function == "AccPool":
        return Pooling("sum", node.taps)
    if function == "QuantAvgPool":
        bits = node.inputs[0].dtype.bits, node.outputs[0].dtype.bits
        shift = node.integer("Size", quant_avg_shift(bits[0], node.taps, bits[1]), least=0)
        return Pooling("sum", node.taps, shift)
    raise ConfigError(
        f"Node {node.name!r} pools with {function!r}; hw/rtl has 'MaxPool', 'QuantAvgPool' and "
        "'AccPool'."
    )


def max_pool(inputs: ArrayLike, window: int, pe: int, *, dtype: IntType) -> IntArray:
    """Reduce windows (..., window*C) in depthwise order of ``pe`` lanes to (..., C).

    This is hw/rtl/maxpool: of ``window`` consecutive beats of ``pe`` values, the maxima.
    """
    x = require_range(inputs, dtype, "Max pool input")
    maxima = np.asarray(_depthwise(x, window, pe).max(axis=-2))
    return maxima.reshape(*x.shape[:-1], x.shape[-1] // window)


def sum_pool(
    inputs: ArrayLike,
    window: int,
    pe: int,
    *,
    shift: int,
    input_type: IntType,
    output_type: IntType,
) -> IntArray:
    """Sum windows (..., window*C) in depthwise order of ``pe`` lanes to (..., C), then shift.

    This is hw/rtl/avgpool, FINN's QuantAvgPool: the sum is shifted right by ``shift`` bits,
    which rounds towards minus infinity.
    """
    x = require_range(inputs, input_type, "Average pool input")
    if shift < 0:
        raise ValueError(f"The shift is {shift!r}; it must not be negative.")
    sums = _depthwise(x, window, pe).sum(axis=-2) >> shift
    result = require_range(sums, output_type, "Average pool output")
    return result.reshape(*x.shape[:-1], x.shape[-1] // window)


def quant_avg_shift(input_bits: int, window: int, output_bits: int) -> int:
    """Return by how much FINN's QuantAvgPool shifts a sum over ``window`` values.

    The bits of the largest unsigned sum less those of the output, for signed values too.

    >>> quant_avg_shift(4, 16, 4), quant_avg_shift(2, 9, 8)
    (4, 0)
    """
    return max(0, (((1 << input_bits) - 1) * window).bit_length() - output_bits)


def _depthwise(x: IntArray, window: int, pe: int) -> IntArray:
    """Return windows (..., window*C) in depthwise order as (..., C // pe, window, pe)."""
    if window < 1 or pe < 1 or x.shape[-1] % (window * pe):
        raise ValueError(
            f"A window of {window!r} beats of {pe!r} values does not divide {x.shape[-1]!r} values."
        )
    return x.reshape(*x.shape[:-1], x.shape[-1] // (window * pe), window, pe)


class _Pool(HardwareOperator):
    record = POOL

    def check(self, node: HardwareNode) -> None:
        pooling_of(node)

    def reference(self, node: HardwareNode, parameters: Parameters, *inputs: IntArray) -> IntArray:
        pooling, lanes = pooling_of(node), node.outputs[0].elements
        if pooling.function == "max":
            return max_pool(inputs[0], pooling.window, lanes, dtype=node.inputs[0].dtype)
        return sum_pool(
            inputs[0],
            pooling.window,
            lanes,
            shift=pooling.shift,
            input_type=node.inputs[0].dtype,
            output_type=node.outputs[0].dtype,
        )

    def ranges(
        self, node: HardwareNode, parameters: Parameters, *inputs: ValueRange
    ) -> ValueRange:  # fmt: skip
        pooling, (x,) = pooling_of(node), inputs
        if pooling.function == "max":
            return x
        low, high = (value * pooling.window >> pooling.shift for value in (x.low, x.high))
        return ValueRange(low, high)

    def verilog(
        self,
        node: HardwareNode,
        module: str,
        parameters: Parameters,
        data_files: Mapping[str, Path],
    ) -> NodeRtl:
        require_ports(node)
        pooling = pooling_of(node)
        source, target = node.inputs[0], node.outputs[0]
        expect(node, target.elements == source.elements, "its input", target)
        if pooling.function == "max":
            require_same_type(node, source.dtype, target.dtype)
            values = {"PE": source.elements, **type_values("", source.dtype), "K": pooling.window}
            return core_rtl(node, module, "adq_maxpool", values)
        if source.dtype.signed != target.dtype.signed:
            raise ConfigError(
                f"Node {node.name!r} averages {type_text(source.dtype)} to "
                f"{type_text(target.dtype)}; both must be signed or both unsigned."
            )
        values = {
            "PE": source.elements,
            "IN_WIDTH": source.dtype.bits,
            "SIGNED": int(source.dtype.signed),
            "OUT_WIDTH": target.dtype.bits,
            "K": pooling.window,
            "SHIFT": pooling.shift,
        }
        sum_bits = source.dtype.bits + (pooling.window - 1).bit_length()
        if target.dtype.bits + pooling.shift < source.dtype.bits or pooling.shift >= sum_bits:
            raise ConfigError(
                f"Node {node.name!r} shifts sums of {sum_bits!r} bits by {pooling.shift!r} to "
                f"{type_text(target.dtype)}, which leaves nothing of a value; make the build "
                "again."
            )
        return core_rtl(node, module, "adq_avgpool", values)

    def own_facts(self, node: HardwareNode) -> Facts:
        return {
            "taps": node.taps,
            "average": int(node.attributes.get("Function") == "QuantAvgPool"),
        }

    def features(self, facts: Facts, impl: str | None, family: Family) -> Features:
        width, counter = facts["in_elements"] * facts["in_bits"], math.log2(facts["taps"])
        sums = facts["in_elements"] * (facts["in_bits"] + math.ceil(counter))
        return {
            "compared": 0 if facts["average"] else width,
            "sums": sums if facts["average"] else 0,
            "outputs": facts["out_elements"] * facts["out_bits"],
            "counter": counter,
            "one": 1,
            "bram_18k": 0,
        }

    def samples(self, count: int, seed: int) -> Iterator[Sample]:
        for bits, pe, channels in sizes():
            size = (bits, pe, channels)
            kernel = (2, 2) if pe < 8 else (4, 4)
            yield (
                sample_node(
                    POOL,
                    size,
                    size,
                    Channels=channels,
                    PE=pe,
                    KernelSize=kernel,
                    Function="MaxPool",
                ),
                {},
            )


OPERATOR = _Pool()

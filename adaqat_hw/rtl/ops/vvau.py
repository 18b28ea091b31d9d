"""VVAU: depthwise convolution (hw/rtl/vvau), in LUTs or in DSP blocks.

It takes the windows of FINN's depthwise sliding window generator, whose SIMD is the VVAU's PE:
(..., C // PE, kernel h * w, PE), and gives (..., C).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from adaqat_hw.rtl.memory_map import map_rom
from adaqat_hw.rtl.ops._protocol import (
    Facts,
    Features,
    HardwareOperator,
    Parameters,
    ValueRange,
    parameter,
)
from adaqat_hw.rtl.ops._weighted import dot_range, packed, refuse_unbuilt, tree_bits, weights_of
from adaqat_hw.rtl.packing import IntArray, hex_lines, mvau_weight_words, require_range
from adaqat_hw.rtl.verilog_writer import (
    NodeRtl,
    expect,
    instance,
    node_module,
    require_ports,
    through,
)
from adaqat_hw.schema import Family, HardwareNode, IntType
from adaqat_hw.schema.operators import VVAU

# Left to itself, Yosys makes logic of a smaller memory than Vivado would; from here on a block
# RAM is the better bargain (hw/rtl/vvau/README.md).
_BLOCK_ROM_BITS, _BLOCK_ROM_DEPTH = 4096, 128


def depthwise(
    inputs: ArrayLike,
    weights: ArrayLike,
    pe: int,
    *,
    input_type: IntType,
    weight_type: IntType,
    output_type: IntType,
) -> IntArray:
    """Convolve windows (..., kernel*C) in depthwise order of ``pe`` lanes to (..., C).

    Args:
        inputs: windows as :func:`adaqat_hw.rtl.ops.sliding_window.windows` orders them with
            ``depthwise_simd`` = ``pe``; NHWC of one pixel each.
        weights: (C, kernel h * kernel w), kernel width fastest.
        pe: channels in parallel.
        input_type: type of the inputs.
        weight_type: type of the weights.
        output_type: type of the result. The RTL sums modulo 2**bits, which is exact whenever
            the result fits.

    Raises:
        ValueError: shapes that do not match, or a value outside its type.
    """
    x = require_range(inputs, input_type, "VVAU input")
    w = require_range(weights, weight_type, "VVAU weights")
    if w.ndim != 2 or x.shape[-1] != w.size:
        raise ValueError(
            f"Inputs of shape {x.shape!r} do not match weights of shape {w.shape!r}: the last "
            "dimension must equal channels * kernel size."
        )
    channels, kernel = w.shape
    if pe < 1 or channels % pe:
        raise ValueError(f"PE {pe!r} does not divide {channels!r} channels.")
    windows = x.reshape(*x.shape[:-1], channels // pe, kernel, pe)
    lanes = w.reshape(channels // pe, pe, kernel)
    result = np.zeros((*x.shape[:-1], channels // pe, pe), dtype=np.int64)
    for tap in range(kernel):
        result += windows[..., tap, :] * lanes[..., tap]
    return require_range(result.reshape(*x.shape[:-1], channels), output_type, "VVAU output")


def weight_words(
    weights: ArrayLike, pe: int, simd: int, bits: int, *, signed: bool = True
) -> list[int]:
    """Pack a VVAU's weights (C, kernel h * w) into the words of its weight memory.

    Word nf*SF + sf holds, lowest first, for each pe the SIMD weights of channel nf*PE + pe,
    kernel taps sf*SIMD + simd: FINN's order. ``bits`` is the weight width.

    Raises:
        ValueError: PE does not divide C, SIMD does not divide the kernel, or a weight does
            not fit.
    """
    matrix = np.asarray(weights)
    if matrix.ndim != 2:
        raise ValueError(f"Weights must be (channels, kernel size), not of shape {matrix.shape!r}.")
    channels, kernel = matrix.shape
    if pe < 1 or channels % pe:
        raise ValueError(f"PE {pe!r} does not divide {channels!r} channels.")
    if simd < 1 or kernel % simd:
        raise ValueError(f"SIMD {simd!r} does not divide a kernel of {kernel!r}.")
    return mvau_weight_words(matrix.T, pe, simd, bits, signed=signed)


class _Vvau(HardwareOperator):
    record = VVAU

    def check(self, node: HardwareNode) -> None:
        refuse_unbuilt(node)

    def reference(self, node: HardwareNode, parameters: Parameters, *inputs: IntArray) -> IntArray:
        return depthwise(
            inputs[0],
            parameter(node, parameters, "weights"),
            node.outputs[0].elements,
            input_type=node.inputs[0].dtype,
            weight_type=node.weight_type,
            output_type=node.outputs[0].dtype,
        )

    def ranges(
        self, node: HardwareNode, parameters: Parameters, *inputs: ValueRange
    ) -> ValueRange:  # fmt: skip
        return dot_range(parameter(node, parameters, "weights"), 1, inputs[0])

    def verilog(
        self,
        node: HardwareNode,
        module: str,
        parameters: Parameters,
        data_files: Mapping[str, Path],
    ) -> NodeRtl:
        require_ports(node)
        channels, pe, simd, kernel = node.channels, node.pe, node.simd, node.taps
        dtype = node.weight_type
        weights = weights_of(
            node, parameters, (channels, kernel), "Channels and kernel size"
        )  # fmt: skip
        width = pe * simd * dtype.bits
        weight_file = f"{module}_weights.hex"
        words = packed(
            node, lambda: weight_words(weights, pe, simd, dtype.bits, signed=dtype.signed)
        )
        source, target = node.inputs[0], node.outputs[0]
        expect(node, source.elements == pe * simd, f"PE * SIMD {pe * simd!r}", source)
        expect(node, target.elements == pe, f"PE {pe!r}", target)
        values: dict[str, int | str] = {
            "PE": pe,
            "SIMD": simd,
            "CHANNELS": channels,
            "KERNEL": kernel,
            "WEIGHT_WIDTH": dtype.bits,
            "WEIGHT_SIGNED": int(dtype.signed),
            "ACT_WIDTH": source.dtype.bits,
            "ACT_SIGNED": int(source.dtype.signed),
            "ACCU_WIDTH": target.dtype.bits,
            "USE_DSP": int(node.impl == "dsp"),
            "ROM_STYLE": _rom_style(len(words), width),
            "INIT_FILE": weight_file,
        }
        body = instance("adq_vvau", "core", values, through(node))
        texts = {weight_file: hex_lines(words, width)}
        return NodeRtl(module, node_module(node, module, body), ("adq_vvau",), texts)

    def own_facts(self, node: HardwareNode) -> Facts:
        return {
            "PE": node.pe,
            "SIMD": node.simd,
            "Channels": node.channels,
            "taps": node.taps,
            "weight_bits": node.integer("weight_bits"),
        }

    def features(self, facts: Facts, impl: str | None, family: Family) -> Features:
        pe, simd, weight, act = (facts[k] for k in ("PE", "SIMD", "weight_bits", "in_bits"))
        low, high = min(weight, act), max(weight, act)
        words = facts["Channels"] // pe * facts["taps"] // simd
        rom = map_rom(words, pe * simd * weight, family.memory)
        return {
            "trees": pe * low * tree_bits(simd, high),
            "gates": pe * simd * low * high,
            "bit_sums": pe * tree_bits(low, high + math.ceil(math.log2(simd)) + 1),
            "outputs": pe * facts["out_bits"],
            "inputs": pe * simd * act,
            "rom_bits": rom.logic_bits,
            "one": 1,
            "bram_18k": rom.bram_18k,
        }


def _rom_style(depth: int, width: int) -> str:
    large = depth * width >= _BLOCK_ROM_BITS and depth >= _BLOCK_ROM_DEPTH
    return "block" if large else "auto"


OPERATOR = _Vvau()

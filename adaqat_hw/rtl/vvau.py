"""Depthwise convolution (hw/rtl/vvau): reference model, packing of the weights, Verilog.

A VVAU takes the windows of FINN's depthwise sliding window generator, whose SIMD is the
VVAU's PE: (..., C // PE, kernel h * w, PE), and gives (..., C).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl.node_mvau import weight_type as node_weight_type
from adaqat_hw.rtl.packing import IntArray, hex_lines, mvau_weight_words, require_range
from adaqat_hw.rtl.verilog_writer import (
    NodeRtl,
    expect,
    instance,
    integer,
    node_module,
    require_ports,
    through,
)
from adaqat_hw.schema import HardwareNode, IntType

# Left to itself, Yosys makes logic of a smaller memory than Vivado would; from here on a block
# RAM is the better bargain (hw/rtl/vvau/README.md).
_BLOCK_ROM_BITS, _BLOCK_ROM_DEPTH = 4096, 128


def vvau(
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
        inputs: windows as :func:`adaqat_hw.rtl.reference.sliding_window` orders them with
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


def vvau_weight_words(
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


def vvau_rtl(node: HardwareNode, module: str, parameters: Mapping[str, IntArray]) -> NodeRtl:
    """Write a VVAU, its weights inside; ``impl`` ``"dsp"`` asks synthesis for DSP blocks.

    Raises:
        ConfigError: an attribute, parameter or stream that does not match, thresholds inside,
            or XNOR products.
    """
    require_ports(node, 1, 1)
    if node.attributes.get("binaryXnorMode", 0):
        raise ConfigError(
            f"Node {node.name!r} multiplies by XNOR (binaryXnorMode), which no RTL here does; use "
            "weights and activations of 2 bits or more."
        )
    if "thresholds" in node.parameters:
        raise ConfigError(
            f"Node {node.name!r} has thresholds inside a VVAU, which no RTL has; build it with "
            "separate thresholding."
        )
    key = node.parameters.get("weights", f"{node.name}__weights")
    if key not in parameters:
        raise ConfigError(f"Parameter {key!r} of node {node.name!r} is missing.")
    channels, pe, simd = (integer(node, name) for name in ("Channels", "PE", "SIMD"))
    kernel, dtype = _kernel(node), node_weight_type(node)
    if parameters[key].shape != (channels, kernel):
        raise ConfigError(
            f"The weights of node {node.name!r} have the shape {parameters[key].shape!r}; its "
            f"Channels and kernel size are {(channels, kernel)!r}."
        )
    width = pe * simd * dtype.bits
    weight_file = f"{module}_weights.hex"
    try:
        words = vvau_weight_words(parameters[key], pe, simd, dtype.bits, signed=dtype.signed)
    except ValueError as exc:
        raise ConfigError(f"The weights of node {node.name!r} cannot be packed: {exc}") from exc
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


def _rom_style(depth: int, width: int) -> str:
    large = depth * width >= _BLOCK_ROM_BITS and depth >= _BLOCK_ROM_DEPTH
    return "block" if large else "auto"


def _kernel(node: HardwareNode) -> int:
    value = node.attributes.get("Kernel")
    if not isinstance(value, tuple) or not value or min(value) < 1:
        raise ConfigError(f"Attribute 'Kernel' of node {node.name!r} is {value!r}, not a size.")
    return math.prod(value)

"""ConvolutionInputGenerator: lowers feature maps to windows; RTL by FINN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from adaqat_hw.rtl.ops._finn import finn_rtl
from adaqat_hw.rtl.ops._protocol import Facts, Features, HardwareOperator, Parameters, ValueRange
from adaqat_hw.rtl.packing import IntArray, require_range
from adaqat_hw.rtl.verilog_writer import NodeRtl
from adaqat_hw.schema import Family, HardwareNode, IntType
from adaqat_hw.schema.operators import SLIDING_WINDOW


def windows(
    inputs: ArrayLike,
    kernel: tuple[int, int],
    *,
    dtype: IntType,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    depthwise_simd: int | None = None,
) -> IntArray:
    """Lower (n, H, W, C) to windows (n, OH, OW, KH*KW*C) in the order of FINN's generator.

    Args:
        inputs: feature maps.
        kernel: window height and width.
        dtype: type of the values.
        stride: vertical and horizontal.
        dilation: vertical and horizontal.
        depthwise_simd: None orders a window (kernel h, kernel w, channel), as a convolution
            takes it. A number S orders it (channel // S, kernel h, kernel w, channel % S), as
            a pool of S lanes takes it.

    Raises:
        ValueError: a window that does not fit, or a value outside its type.
    """
    x = require_range(inputs, dtype, "Sliding window input")
    if x.ndim != 4:
        raise ValueError(f"A sliding window needs (n, H, W, C), not shape {x.shape!r}.")
    n, height, width, channels = x.shape
    out_h = _count(height, kernel[0], stride[0], dilation[0])
    out_w = _count(width, kernel[1], stride[1], dilation[1])
    rows = np.arange(out_h)[:, None] * stride[0] + np.arange(kernel[0])[None, :] * dilation[0]
    cols = np.arange(out_w)[:, None] * stride[1] + np.arange(kernel[1])[None, :] * dilation[1]
    # (n, OH, KH, OW, KW, C)
    gathered = x[:, rows[:, :, None, None], cols[None, None, :, :], :]
    lowered = gathered.transpose(0, 1, 3, 2, 4, 5)
    if depthwise_simd is not None:
        if depthwise_simd < 1 or channels % depthwise_simd:
            raise ValueError(f"SIMD {depthwise_simd!r} does not divide {channels!r} channels.")
        lanes = lowered.reshape(
            n, out_h, out_w, *kernel, channels // depthwise_simd, depthwise_simd
        )
        lowered = lanes.transpose(0, 1, 2, 5, 3, 4, 6)
    return lowered.reshape(n, out_h, out_w, -1)


def _count(size: int, kernel: int, stride: int, dilation: int) -> int:
    reach = dilation * (kernel - 1) + 1
    if min(kernel, stride, dilation) < 1 or reach > size:
        raise ValueError(
            f"A window of {kernel!r} with dilation {dilation!r} and stride {stride!r} does not "
            f"fit {size!r} pixels."
        )
    return (size - reach) // stride + 1


class _SlidingWindow(HardwareOperator):
    record = SLIDING_WINDOW

    def reference(self, node: HardwareNode, parameters: Parameters, *inputs: IntArray) -> IntArray:
        (x,) = inputs
        return windows(
            x.reshape(len(x), *node.pair("IFMDim"), node.channels),
            node.pair("ConvKernelDim"),
            dtype=node.inputs[0].dtype,
            stride=node.pair("Stride"),
            dilation=node.pair("Dilation"),
            depthwise_simd=node.inputs[0].elements if node.makes_depthwise else None,
        )

    def ranges(
        self, node: HardwareNode, parameters: Parameters, *inputs: ValueRange
    ) -> ValueRange:  # fmt: skip
        return inputs[0]

    def verilog(
        self,
        node: HardwareNode,
        module: str,
        parameters: Parameters,
        data_files: Mapping[str, Path],
    ) -> NodeRtl:
        return finn_rtl(node, module, data_files)

    def own_facts(self, node: HardwareNode) -> Facts:
        (rows, columns), (_, width) = node.pair("ConvKernelDim"), node.pair("IFMDim")
        return {
            "SIMD": node.simd,
            "channels": node.channels,
            "buffered": (rows - 1) * width + columns,
            "taps": rows * columns,
            "depthwise": int(node.makes_depthwise),
        }

    def features(self, facts: Facts, impl: str | None, family: Family) -> Features:
        width = facts["SIMD"] * facts["in_bits"]
        depth = facts["buffered"] * (facts["channels"] // facts["SIMD"])
        return {
            "ram_sites": width * math.ceil(depth / 32),
            "width": width,
            "address": math.log2(depth + 1),
            "folded": float(facts["SIMD"] < facts["channels"]),
            "depthwise": facts["depthwise"],
            "one": 1,
            "bram_18k": 0,
        }

    def fixed_cycles(self, node: HardwareNode) -> int:
        """Return the cycles that do not follow the folding.

        A depthwise window replays its buffer once per channel fold, the last replay of a stride
        for free; windows of one row or one pixel fill a pipeline of two.
        """
        kernel, size = node.pair("ConvKernelDim"), node.pair("IFMDim")
        if kernel == (1, 1) or 1 in size:
            return 2
        if not node.makes_depthwise:
            return 0
        rows, columns = node.pair("OFMDim")
        return -rows * columns * (node.pair("Stride")[1] - 1)


OPERATOR = _SlidingWindow()

"""What MVAU and VVAU share: refusals, the memory of weights, exact adder trees, ranges."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl.ops._protocol import Parameters, ValueRange, parameter
from adaqat_hw.rtl.packing import IntArray
from adaqat_hw.schema import HardwareNode


def refuse_unbuilt(node: HardwareNode) -> None:
    """Raise ConfigError when a node multiplies by XNOR or has thresholds inside."""
    if node.flag("binaryXnorMode"):
        raise ConfigError(
            f"Node {node.name!r} multiplies by XNOR (binaryXnorMode), which no RTL here does; use "
            "weights and activations of 2 bits or more."
        )
    if "thresholds" in node.parameters:
        raise ConfigError(
            f"Node {node.name!r} has thresholds inside its {node.op}, which no RTL has; build it "
            "with separate thresholding."
        )


def weights_of(
    node: HardwareNode, parameters: Parameters, shape: tuple[int, int], dimensions: str
) -> IntArray:
    """Return the weights of a node; raise ConfigError when they are missing or of other shape."""
    weights = parameter(node, parameters, "weights")
    if weights.shape != shape:
        raise ConfigError(
            f"The weights of node {node.name!r} have the shape {weights.shape!r}; its {dimensions} "
            f"are {shape!r}."
        )
    return weights


def packed(node: HardwareNode, pack: Callable[[], list[int]]) -> list[int]:
    """Return the words of a memory of weights; a ConfigError names the node that has none."""
    try:
        return pack()
    except ValueError as exc:
        raise ConfigError(f"The weights of node {node.name!r} cannot be packed: {exc}") from exc


def dot_range(weights: IntArray, axis: int, values: ValueRange) -> ValueRange:
    """Return the range of sums over ``axis`` of weights times values of a range."""
    low, high = weights * values.low, weights * values.high
    return ValueRange(
        int(np.minimum(low, high).sum(axis=axis).min()),
        int(np.maximum(low, high).sum(axis=axis).max()),
    )


def tree_bits(operands: int, width: int) -> int:
    """Return the full-adder bits of an exact adder tree: every level is one bit wider.

    >>> tree_bits(4, 3)
    13
    """
    bits = 0
    while operands > 1:
        width += 1
        bits += operands // 2 * width
        operands = -(-operands // 2)
    return bits

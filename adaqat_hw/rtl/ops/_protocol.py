"""Base class of all operators of :mod:`adaqat_hw.rtl.ops`: reference, ranges, Verilog, cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl.packing import IntArray, limits
from adaqat_hw.rtl.verilog_writer import NodeRtl
from adaqat_hw.schema import Family, HardwareNode, IntType
from adaqat_hw.schema.operators import Operator

Parameters = Mapping[str, IntArray]
# Plain numbers that describe one folded node, and what its LUTs and FFs follow.
Facts = dict[str, int]
Features = dict[str, float]
# A node to be measured and its parameters by key.
Sample = tuple[HardwareNode, dict[str, IntArray]]


@dataclass(frozen=True)
class ValueRange:
    """Smallest and largest value of a tensor."""

    low: int
    high: int

    @classmethod
    def of(cls, dtype: IntType) -> ValueRange:
        """Return all values of a type."""
        return cls(*limits(dtype))

    def fits(self, dtype: IntType) -> bool:
        """Tell whether a type holds every value."""
        low, high = limits(dtype)
        return low <= self.low and self.high <= high


class HardwareOperator(ABC):
    """One operator of :mod:`adaqat_hw.schema.operators`.

    ``record`` is its record. Tensors are in the order in which the hardware streams them, frames
    first; values are int64.
    """

    record: Operator

    def check(self, node: HardwareNode) -> None:  # noqa: B027
        """Raise ConfigError when a node wants what neither reference nor RTL does."""

    @abstractmethod
    def reference(
        self, node: HardwareNode, parameters: Parameters, *inputs: IntArray
    ) -> IntArray:  # fmt: skip
        """Return what the node makes of its inputs, bit for bit.

        Raises:
            ConfigError: a missing attribute or parameter.
            ValueError: a value outside its declared type; nothing wraps silently.
        """

    @abstractmethod
    def ranges(
        self, node: HardwareNode, parameters: Parameters, *inputs: ValueRange
    ) -> ValueRange:  # fmt: skip
        """Return a range that holds every output of inputs within their ranges."""

    @abstractmethod
    def verilog(
        self,
        node: HardwareNode,
        module: str,
        parameters: Parameters,
        data_files: Mapping[str, Path],
    ) -> NodeRtl:
        """Write a node as module ``module``; ``data_files`` are FINN's memory files by name.

        Raises:
            ConfigError: the node does not fit its RTL, or an attribute or parameter is missing.
        """

    @abstractmethod
    def features(self, facts: Facts, impl: str | None, family: Family) -> Features:
        """Return what a node's LUTs and FFs follow; ``bram_18k`` among them is a count."""

    def dsp_blocks(self, facts: Facts, impl: str | None, family: Family) -> int:
        """Return the DSP blocks of a node."""
        del facts, impl, family
        return 0

    def facts(self, node: HardwareNode, *, narrow: bool = True) -> Facts:
        """Return the facts of a node as it stands.

        Args:
            node: the node.
            narrow: whether its weights, if any, leave out the most negative value.

        Raises:
            ConfigError: an attribute that the cost depends on is missing.
        """
        source, target = node.inputs[0], node.outputs[0]
        return {
            "in_bits": source.dtype.bits,
            "in_elements": source.elements,
            "out_bits": target.dtype.bits,
            "out_elements": target.elements,
            "narrow": int(narrow),
            "in1_bits": node.inputs[-1].dtype.bits,
            "outputs": len(node.outputs),
        } | self.own_facts(node)

    def own_facts(self, node: HardwareNode) -> Facts:
        """Return the facts that only this operator has."""
        del node
        return {}

    def fixed_cycles(self, node: HardwareNode) -> int:
        """Return the cycles per frame that do not shrink with PE and SIMD."""
        del node
        return 0

    def samples(self, count: int, seed: int) -> Iterator[Sample]:
        """Yield nodes of this project's RTL to measure; ``count`` where they are random."""
        del count, seed
        yield from ()


def parameter(node: HardwareNode, parameters: Parameters, name: str) -> IntArray:
    """Return the node's array ``name``; raise ConfigError when it is missing."""
    key = node.parameters.get(name, f"{node.name}__{name}")
    if key not in parameters:
        raise ConfigError(f"Parameter {key!r} of node {node.name!r} is missing.")
    return parameters[key]


def pixel_shape(x: IntArray, vectors: int) -> tuple[int, ...]:
    """Return the shape between frames and channels: the input's, where it has ``vectors``."""
    middle = x.shape[1:-1]
    count = 1
    for size in middle:
        count *= size
    return middle if count == vectors else (vectors,) if vectors > 1 else ()

"""ElementwiseAdd: the sum of two streams of equal folding (hw/rtl/add)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

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
    require_wider,
    type_values,
)
from adaqat_hw.schema import Family, HardwareNode, IntType
from adaqat_hw.schema.operators import ADD


def add(
    first: ArrayLike,
    second: ArrayLike,
    *,
    first_type: IntType,
    second_type: IntType,
    output_type: IntType,
) -> IntArray:
    """Add two arrays of one shape.

    Raises:
        ValueError: other shapes, or a value outside its type.
    """
    x = require_range(first, first_type, "Add input 0")
    y = require_range(second, second_type, "Add input 1")
    if x.shape != y.shape:
        raise ValueError(f"Shapes {x.shape!r} and {y.shape!r} cannot be added: they must be equal.")
    return require_range(x + y, output_type, "Add output")


class _Add(HardwareOperator):
    record = ADD

    def reference(self, node: HardwareNode, parameters: Parameters, *inputs: IntArray) -> IntArray:
        x, y = inputs
        # One operand may be flat where the other is an image: only their order counts.
        return add(
            x,
            y.reshape(x.shape) if x.size == y.size else y,
            first_type=node.inputs[0].dtype,
            second_type=node.inputs[1].dtype,
            output_type=node.outputs[0].dtype,
        )

    def ranges(
        self, node: HardwareNode, parameters: Parameters, *inputs: ValueRange
    ) -> ValueRange:  # fmt: skip
        x, y = inputs
        return ValueRange(x.low + y.low, x.high + y.high)

    def verilog(
        self,
        node: HardwareNode,
        module: str,
        parameters: Parameters,
        data_files: Mapping[str, Path],
    ) -> NodeRtl:
        require_ports(node)
        first, second = node.inputs
        target = node.outputs[0]
        for stream in node.inputs:
            expect(node, stream.elements == target.elements, "the output", stream)
            if stream.beats != target.beats:
                raise ConfigError(
                    f"Node {node.name!r} adds {first.beats!r} and {second.beats!r} beats to "
                    f"{target.beats!r}; all must be equal, nothing is repeated."
                )
            require_wider(node, stream.dtype, target.dtype)
        values = {
            "PE": target.elements,
            **type_values("IN0_", first.dtype),
            **type_values("IN1_", second.dtype),
            "OUT_WIDTH": target.dtype.bits,
        }
        return core_rtl(node, module, "adq_add", values)

    def features(self, facts: Facts, impl: str | None, family: Family) -> Features:
        return {
            "in": facts["in_elements"] * (facts["in_bits"] + facts["in1_bits"]),
            "out": facts["out_elements"] * facts["out_bits"],
            "one": 1,
            "bram_18k": 0,
        }

    def samples(self, count: int, seed: int) -> Iterator[Sample]:
        for bits, pe, channels in sizes():
            yield sample_node(ADD, (bits, pe, channels), (bits + 1, pe, channels), PE=pe), {}


OPERATOR = _Add()

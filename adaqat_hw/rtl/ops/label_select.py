"""LabelSelect: the index of the largest value (hw/rtl/label_select)."""

from __future__ import annotations

import math
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
    pixel_shape,
)
from adaqat_hw.rtl.ops._samples import sample_node, sizes
from adaqat_hw.rtl.packing import IntArray, require_range
from adaqat_hw.rtl.verilog_writer import (
    NodeRtl,
    core_rtl,
    expect,
    require_ports,
    type_text,
    type_values,
)
from adaqat_hw.schema import Family, HardwareNode, IntType
from adaqat_hw.schema.operators import LABEL_SELECT


def label_select(inputs: ArrayLike, *, input_type: IntType, output_type: IntType) -> IntArray:
    """Return the index of the largest of (..., labels) as (..., 1).

    Of equal values the one of the lowest index wins.

    Raises:
        ValueError: no labels, or a value outside its type.
    """
    x = require_range(inputs, input_type, "Label select input")
    if x.ndim < 1 or not x.shape[-1]:
        raise ValueError(f"A label select needs (..., labels), not shape {x.shape!r}.")
    return require_range(x.argmax(axis=-1)[..., None], output_type, "Label select output")


class _LabelSelect(HardwareOperator):
    record = LABEL_SELECT

    def check(self, node: HardwareNode) -> None:
        if (largest := node.integer("K")) != 1:
            raise ConfigError(
                f"Node {node.name!r} wants the {largest!r} largest values; hw/rtl finds one "
                "(K = 1)."
            )

    def reference(self, node: HardwareNode, parameters: Parameters, *inputs: IntArray) -> IntArray:
        (x,) = inputs
        y = label_select(
            x.reshape(len(x), -1, node.channels),
            input_type=node.inputs[0].dtype,
            output_type=node.outputs[0].dtype,
        )
        return y.reshape(len(x), *pixel_shape(x, y.shape[1]), 1)

    def ranges(
        self, node: HardwareNode, parameters: Parameters, *inputs: ValueRange
    ) -> ValueRange:  # fmt: skip
        return ValueRange(0, node.channels - 1)

    def verilog(
        self,
        node: HardwareNode,
        module: str,
        parameters: Parameters,
        data_files: Mapping[str, Path],
    ) -> NodeRtl:
        require_ports(node)
        labels = node.channels
        source, target = node.inputs[0], node.outputs[0]
        expect(node, labels % source.elements == 0, f"{labels!r} labels", source)
        expect(node, target.elements == 1, "one index", target)
        if target.dtype.signed or target.dtype.bits < max((labels - 1).bit_length(), 1):
            raise ConfigError(
                f"Node {node.name!r} gives {type_text(target.dtype)}, which cannot hold the index "
                f"of each of {labels!r} labels."
            )
        values = {
            "LABELS": labels,
            "PE": source.elements,
            **type_values("", source.dtype),
            "OUT_WIDTH": target.dtype.bits,
        }
        return core_rtl(node, module, "adq_label_select", values)

    def own_facts(self, node: HardwareNode) -> Facts:
        return {"PE": node.pe, "Labels": node.channels}

    def features(self, facts: Facts, impl: str | None, family: Family) -> Features:
        pe, bits, index = facts["PE"], facts["in_bits"], math.log2(facts["Labels"])
        return {
            "compared": (pe - 1) * bits,
            "kept": bits,
            "indices": index * (1 + math.log2(pe)),
            "one": 1,
            "bram_18k": 0,
        }

    def samples(self, count: int, seed: int) -> Iterator[Sample]:
        for bits, pe, channels in sizes():
            yield (
                sample_node(
                    LABEL_SELECT, (bits, pe, channels), (8, 1, 1), Labels=channels, PE=pe, K=1
                ),
                {},
            )


OPERATOR = _LabelSelect()

"""StreamingFIFO: a queue; FINN's, or ``adq_fifo`` of hw/rtl with the depth the graph gives it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl.ops._finn import finn_rtl
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
from adaqat_hw.rtl.verilog_writer import NodeRtl, core_rtl, expect, require_ports
from adaqat_hw.schema import Family, HardwareNode
from adaqat_hw.schema.operators import FIFO

MIN_DEPTH = 2


class _Fifo(HardwareOperator):
    record = FIFO

    def reference(self, node: HardwareNode, parameters: Parameters, *inputs: IntArray) -> IntArray:
        return require_range(inputs[0], node.outputs[0].dtype, f"{node.op} input")

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
        """Write a queue; its attributes are those that :mod:`adaqat_hw.rtl.fifo_graph` sets."""
        if node.generator == "finn":
            return finn_rtl(node, module, data_files)
        require_ports(node)
        source, target = node.inputs[0], node.outputs[0]
        expect(node, target.elements == source.elements, "its input", target)
        if source.dtype.bits != target.dtype.bits:
            raise ConfigError(
                f"Node {node.name!r} takes values of {source.dtype.bits!r} bits and gives values "
                f"of {target.dtype.bits!r}; a FIFO changes nothing."
            )
        values = {
            "DEPTH": node.integer("depth", least=MIN_DEPTH),
            "WIDTH": source.elements * source.dtype.bits,
            "INDEX": node.integer("fifo_index", 0, least=0),
        }
        return core_rtl(node, module, "adq_fifo", values)

    def own_facts(self, node: HardwareNode) -> Facts:
        return {"depth": node.integer("depth", MIN_DEPTH)}

    def features(self, facts: Facts, impl: str | None, family: Family) -> Features:
        width, depth = facts["in_elements"] * facts["in_bits"], facts["depth"]
        return {
            "width": width,
            "ram_sites": 0 if depth <= 2 else width * math.ceil(depth / 32),
            "one": 1,
            "bram_18k": 0,
        }

    def samples(self, count: int, seed: int) -> Iterator[Sample]:
        for size in sizes():
            for depth in (2, 16, 64):
                yield sample_node(FIFO, size, size, depth=depth), {}


OPERATOR = _Fifo()

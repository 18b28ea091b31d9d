"""StreamingDataWidthConverter: the same values, another number per beat; RTL by FINN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from adaqat_hw.rtl.ops._finn import finn_rtl
from adaqat_hw.rtl.ops._protocol import Facts, Features, HardwareOperator, Parameters, ValueRange
from adaqat_hw.rtl.packing import IntArray, require_range
from adaqat_hw.rtl.verilog_writer import NodeRtl
from adaqat_hw.schema import Family, HardwareNode
from adaqat_hw.schema.operators import WIDTH_CONVERTER


class _WidthConverter(HardwareOperator):
    record = WIDTH_CONVERTER

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
        return finn_rtl(node, module, data_files)

    def features(self, facts: Facts, impl: str | None, family: Family) -> Features:
        """FINN's converter shifts by bits: down a tree of multiplexers, up into fixed places."""
        source, target = facts["in_elements"], facts["out_elements"]
        narrow, wide = sorted((source, target))
        bits, divides = facts["in_bits"], wide % narrow == 0
        levels = math.log2(wide / narrow)
        return {
            "in": source * bits,
            "out": target * bits,
            "unpacked": wide * bits * levels if divides and source > target else 0,
            "shifted": 0 if divides else (wide + narrow) * bits * math.log2(wide),
            "one": 1,
            "bram_18k": 0,
        }


OPERATOR = _WidthConverter()

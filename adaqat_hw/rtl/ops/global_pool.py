"""GlobalAccPool: the sum of every channel over all pixels (hw/rtl/global_acc_pool)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from numpy.typing import ArrayLike

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl.memory_map import map_ram
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
from adaqat_hw.rtl.verilog_writer import NodeRtl, core_rtl, expect, require_ports, require_wider
from adaqat_hw.schema import Family, HardwareNode, IntType
from adaqat_hw.schema.operators import GLOBAL_POOL


def global_sum(inputs: ArrayLike, *, input_type: IntType, output_type: IntType) -> IntArray:
    """Sum (n, ..., channels) over everything between to (n, channels).

    Raises:
        ValueError: fewer than two dimensions, or a value outside its type.
    """
    x = require_range(inputs, input_type, "Global pool input")
    if x.ndim < 2:
        raise ValueError(f"A global pool needs (n, ..., channels), not shape {x.shape!r}.")
    sums = x.sum(axis=tuple(range(1, x.ndim - 1)))
    return require_range(sums, output_type, "Global pool output")


class _GlobalPool(HardwareOperator):
    record = GLOBAL_POOL

    def reference(self, node: HardwareNode, parameters: Parameters, *inputs: IntArray) -> IntArray:
        (x,) = inputs
        pixels = x.reshape(len(x), -1, node.channels)
        return global_sum(
            pixels, input_type=node.inputs[0].dtype, output_type=node.outputs[0].dtype
        )

    def ranges(
        self, node: HardwareNode, parameters: Parameters, *inputs: ValueRange
    ) -> ValueRange:  # fmt: skip
        (x,), source = inputs, node.inputs[0]
        pixels = source.beats * source.elements // node.channels
        return ValueRange(x.low * pixels, x.high * pixels)

    def verilog(
        self,
        node: HardwareNode,
        module: str,
        parameters: Parameters,
        data_files: Mapping[str, Path],
    ) -> NodeRtl:
        require_ports(node)
        source, target = node.inputs[0], node.outputs[0]
        channels, pe = node.channels, source.elements
        expect(node, target.elements == pe, "its input", target)
        if channels % pe or target.beats != channels // pe or source.beats % target.beats:
            raise ConfigError(
                f"Node {node.name!r} sums {source.beats!r} beats of {pe!r} values to "
                f"{target.beats!r} beats, which does not match its {channels!r} channels."
            )
        require_wider(node, source.dtype, target.dtype)
        values = {
            "CHANNELS": channels,
            "PE": pe,
            "PIXELS": source.beats // target.beats,
            "IN_WIDTH": source.dtype.bits,
            "SIGNED": int(source.dtype.signed),
            "OUT_WIDTH": target.dtype.bits,
        }
        return core_rtl(node, module, "adq_global_acc_pool", values)

    def own_facts(self, node: HardwareNode) -> Facts:
        return {"PE": node.pe, "NumChannels": node.channels}

    def features(self, facts: Facts, impl: str | None, family: Family) -> Features:
        width = facts["out_elements"] * facts["out_bits"]
        folds = facts["NumChannels"] // facts["PE"]
        ram = map_ram(folds, width, family.memory)
        return {
            "width": width,
            "unfolded": width if folds == 1 else 0,
            "ram_sites": ram.lutram_sites,
            "counters": math.log2(folds) + 1,
            "one": 1,
            "bram_18k": ram.bram_18k,
        }

    def samples(self, count: int, seed: int) -> Iterator[Sample]:
        for bits, pe, channels in sizes():
            source, target = (bits, pe, channels), (bits + 6, pe, channels)
            yield sample_node(GLOBAL_POOL, source, target, NumChannels=channels, PE=pe), {}


OPERATOR = _GlobalPool()

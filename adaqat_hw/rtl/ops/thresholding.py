"""Thresholding: counts the thresholds that a value has reached; RTL by FINN."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl.memory_map import map_rom
from adaqat_hw.rtl.ops._finn import AXILITE_IN, finn_rtl
from adaqat_hw.rtl.ops._protocol import (
    Facts,
    Features,
    HardwareOperator,
    Parameters,
    ValueRange,
    parameter,
)
from adaqat_hw.rtl.packing import IntArray, require_range
from adaqat_hw.rtl.verilog_writer import NodeRtl
from adaqat_hw.schema import Family, HardwareNode, IntType
from adaqat_hw.schema.operators import THRESHOLDING

_THRESHOLD_FILE = re.compile(r"(.*)threshs_\d+_\d+\.dat")
_LEAST_BIAS = -(1 << 31)


def thresholding(
    inputs: ArrayLike,
    thresholds: ArrayLike,
    *,
    input_type: IntType,
    output_type: IntType,
    out_bias: int = 0,
) -> IntArray:
    """Return out_bias + count(x >= t) for inputs (..., channels).

    Args:
        inputs: integers (..., channels).
        thresholds: (channels, steps) or (1, steps), ascending along the steps.
        input_type: type of the inputs.
        output_type: type of the result.
        out_bias: value below the first threshold (FINN's ActVal).

    Raises:
        ValueError: thresholds that do not match or ascend, or a value outside its type.
    """
    x = require_range(inputs, input_type, "Thresholding input")
    t = np.asarray(thresholds)
    if t.dtype.kind not in "iu":
        raise ValueError(f"Thresholds must be integers, not {t.dtype.name!r}.")
    channels = x.shape[-1]
    if t.ndim != 2 or t.shape[0] not in (1, channels):
        raise ValueError(
            f"Thresholds of shape {t.shape!r} do not match {channels!r} channels: "
            "they must be (channels, steps) or (1, steps)."
        )
    if np.any(np.diff(t, axis=1) < 0):
        # The hardware searches by bisection, which needs order.
        raise ValueError("Thresholds must ascend along the steps.")
    flat = x.reshape(-1, channels)
    counts = np.empty_like(flat)
    for channel in range(channels):
        row = t[channel if t.shape[0] > 1 else 0]
        counts[:, channel] = np.searchsorted(row, flat[:, channel], side="right")
    return require_range(counts.reshape(x.shape) + out_bias, output_type, "Thresholding output")


class _Thresholding(HardwareOperator):
    record = THRESHOLDING

    def reference(self, node: HardwareNode, parameters: Parameters, *inputs: IntArray) -> IntArray:
        return thresholding(
            inputs[0],
            parameter(node, parameters, "thresholds"),
            input_type=node.inputs[0].dtype,
            output_type=node.outputs[0].dtype,
            out_bias=_bias(node),
        )

    def ranges(
        self, node: HardwareNode, parameters: Parameters, *inputs: ValueRange
    ) -> ValueRange:  # fmt: skip
        thresholds, bias = parameter(node, parameters, "thresholds"), _bias(node)
        lowest = (thresholds <= inputs[0].low).sum(axis=1).min()
        highest = (thresholds <= inputs[0].high).sum(axis=1).max()
        return ValueRange(bias + int(lowest), bias + int(highest))

    def verilog(
        self,
        node: HardwareNode,
        module: str,
        parameters: Parameters,
        data_files: Mapping[str, Path],
    ) -> NodeRtl:
        # FINN's own path leads to the folder in which it was generated.
        values = {"THRESHOLDS_PATH": _prefix(node, data_files)}
        tied_off = (*AXILITE_IN, "in1_V_TVALID", "in1_V_TDATA")
        return finn_rtl(node, module, data_files, tied_off=tied_off, values=values)

    def own_facts(self, node: HardwareNode) -> Facts:
        return {"PE": node.pe, "NumChannels": node.channels}

    def features(self, facts: Facts, impl: str | None, family: Family) -> Features:
        pe, accu, levels = facts["PE"], facts["in_bits"], facts["out_bits"]
        folds = facts["NumChannels"] // pe
        maps = [map_rom(folds * 2**stage, accu, family.memory) for stage in range(levels)]
        return {
            "compared": pe * levels * accu,
            "threshold_bits": pe * sum(m.logic_bits for m in maps),
            "passed_on": pe * levels * levels,
            "outputs": pe * levels,
            "one": 1,
            "bram_18k": pe * sum(m.bram_18k for m in maps),
        }


def _bias(node: HardwareNode) -> int:
    return node.integer("out_bias", 0, least=_LEAST_BIAS)


def _prefix(node: HardwareNode, data_files: Mapping[str, Path]) -> str:
    matches = (_THRESHOLD_FILE.fullmatch(name) for name in data_files)
    prefixes = {match.group(1) for match in matches if match}
    if len(prefixes) != 1:
        raise ConfigError(
            f"The files of node {node.name!r} hold thresholds of {len(prefixes)!r} prefixes, not "
            "of one (<prefix>threshs_<pe>_<stage>.dat); make the build again."
        )
    return prefixes.pop()


OPERATOR = _Thresholding()

"""Verilog of the small layers: pools, duplicate, add, global accumulate-pool, label select."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl.pooling import pooling_of
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

_Parameters = Mapping[str, NDArray[np.int64]]


def pool_rtl(node: HardwareNode, module: str, parameters: _Parameters) -> NodeRtl:
    """Write a maximum pool or a sum-and-shift pool."""
    del parameters
    require_ports(node, 1, 1)
    pooling = pooling_of(node)
    source, target = node.inputs[0], node.outputs[0]
    expect(node, target.elements == source.elements, "its input", target)
    if pooling.function == "max":
        _same_type(node, source.dtype, target.dtype)
        values = {"PE": source.elements, **_type("", source.dtype), "K": pooling.window}
        return _core(node, module, "adq_maxpool", values)
    if source.dtype.signed != target.dtype.signed:
        raise ConfigError(
            f"Node {node.name!r} averages {_say(source.dtype)} to {_say(target.dtype)}; both must "
            "be signed or both unsigned."
        )
    values = {
        "PE": source.elements,
        "IN_WIDTH": source.dtype.bits,
        "SIGNED": int(source.dtype.signed),
        "OUT_WIDTH": target.dtype.bits,
        "K": pooling.window,
        "SHIFT": pooling.shift,
    }
    sum_bits = source.dtype.bits + (pooling.window - 1).bit_length()
    if target.dtype.bits + pooling.shift < source.dtype.bits or pooling.shift >= sum_bits:
        raise ConfigError(
            f"Node {node.name!r} shifts sums of {sum_bits!r} bits by {pooling.shift!r} to "
            f"{_say(target.dtype)}, which leaves nothing of a value; make the build again."
        )
    return _core(node, module, "adq_avgpool", values)


def duplicate_rtl(node: HardwareNode, module: str, parameters: _Parameters) -> NodeRtl:
    """Write a duplicate: one data bus, one handshake per output."""
    del parameters
    count = integer(node, "NumOutputStreams")
    require_ports(node, 1, count)
    source = node.inputs[0]
    for target in node.outputs:
        expect(node, target.elements == source.elements, "its input", target)
        _same_type(node, source.dtype, target.dtype)

    def joined(end: str) -> str:
        return "{" + ", ".join(f"out{k}_V_{end}" for k in reversed(range(count))) + "}"

    ports = {key: value for key, value in through(node).items() if not key.startswith("out")}
    ports |= {f"out_V_{end}": joined(end) for end in ("TVALID", "TREADY")}
    ports["out_V_TDATA"] = "data"
    values = {"PE": source.elements, "WIDTH": source.dtype.bits, "OUTPUTS": count}
    body = f"  logic [{source.width - 1}:0] data;\n\n"
    body += instance("adq_duplicate", "core", values, ports) + "\n"
    body += "".join(f"  assign out{k}_V_TDATA = data;\n" for k in range(count))
    return NodeRtl(module, node_module(node, module, body), ("adq_duplicate",))


def add_rtl(node: HardwareNode, module: str, parameters: _Parameters) -> NodeRtl:
    """Write the sum of two streams of equal folding."""
    del parameters
    require_ports(node, 2, 1)
    first, second = node.inputs
    target = node.outputs[0]
    for stream in node.inputs:
        expect(node, stream.elements == target.elements, "the output", stream)
        if stream.beats != target.beats:
            raise ConfigError(
                f"Node {node.name!r} adds {first.beats!r} and {second.beats!r} beats to "
                f"{target.beats!r}; all must be equal, nothing is repeated."
            )
        _require_wider(node, stream.dtype, target.dtype)
    values = {
        "PE": target.elements,
        **_type("IN0_", first.dtype),
        **_type("IN1_", second.dtype),
        "OUT_WIDTH": target.dtype.bits,
    }
    return _core(node, module, "adq_add", values)


def global_acc_pool_rtl(node: HardwareNode, module: str, parameters: _Parameters) -> NodeRtl:
    """Write the sum of every channel over all pixels."""
    del parameters
    require_ports(node, 1, 1)
    source, target = node.inputs[0], node.outputs[0]
    channels, pe = integer(node, "NumChannels"), source.elements
    expect(node, target.elements == pe, "its input", target)
    if channels % pe or target.beats != channels // pe or source.beats % target.beats:
        raise ConfigError(
            f"Node {node.name!r} sums {source.beats!r} beats of {pe!r} values to {target.beats!r} "
            f"beats, which does not match its {channels!r} channels."
        )
    _require_wider(node, source.dtype, target.dtype)
    values = {
        "CHANNELS": channels,
        "PE": pe,
        "PIXELS": source.beats // target.beats,
        "IN_WIDTH": source.dtype.bits,
        "SIGNED": int(source.dtype.signed),
        "OUT_WIDTH": target.dtype.bits,
    }
    return _core(node, module, "adq_global_acc_pool", values)


def label_select_rtl(node: HardwareNode, module: str, parameters: _Parameters) -> NodeRtl:
    """Write the index of the largest value."""
    del parameters
    require_ports(node, 1, 1)
    labels, largest = integer(node, "Labels"), integer(node, "K")
    source, target = node.inputs[0], node.outputs[0]
    if largest != 1:
        raise ConfigError(
            f"Node {node.name!r} wants the {largest!r} largest values; hw/rtl finds one (K = 1)."
        )
    expect(node, labels % source.elements == 0, f"{labels!r} labels", source)
    expect(node, target.elements == 1, "one index", target)
    if target.dtype.signed or target.dtype.bits < max((labels - 1).bit_length(), 1):
        raise ConfigError(
            f"Node {node.name!r} gives {_say(target.dtype)}, which cannot hold the index of each "
            f"of {labels!r} labels."
        )
    values = {
        "LABELS": labels,
        "PE": source.elements,
        **_type("", source.dtype),
        "OUT_WIDTH": target.dtype.bits,
    }
    return _core(node, module, "adq_label_select", values)


def _require_wider(node: HardwareNode, source: IntType, target: IntType) -> None:
    if target.bits < source.bits or (source.signed and not target.signed):
        raise ConfigError(
            f"Node {node.name!r} sums {_say(source)} to {_say(target)}; a sum must not be "
            "narrower than what is summed, nor lose its sign."
        )


def _same_type(node: HardwareNode, source: IntType, target: IntType) -> None:
    if source != target:
        raise ConfigError(
            f"Node {node.name!r} takes {_say(source)} and gives {_say(target)}; both types must "
            "be equal."
        )


def _core(node: HardwareNode, module: str, core: str, values: Mapping[str, int]) -> NodeRtl:
    body = instance(core, "core", values, through(node))
    return NodeRtl(module, node_module(node, module, body), (core,))


def _type(prefix: str, dtype: IntType) -> dict[str, int]:
    return {f"{prefix}WIDTH": dtype.bits, f"{prefix}SIGNED": int(dtype.signed)}


def _say(dtype: IntType) -> str:
    return f"{'signed' if dtype.signed else 'unsigned'} values of {dtype.bits!r} bits"

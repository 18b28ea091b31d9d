"""Verilog of an MVAU: this project's or FINN's compute unit with its weight memory."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl.packing import hex_lines, mvau_weight_words, padded_width
from adaqat_hw.rtl.verilog_writer import (
    NodeRtl,
    expect,
    finn_module,
    instance,
    integer,
    node_module,
    stream_ports,
    through,
)
from adaqat_hw.schema import HardwareNode, IntType

_INT_TYPE = re.compile(r"(U?)INT([0-9]{1,3})")
_MAX_WEIGHT_BITS = 32
# With one, an MVAU waits for its next vector: 1,289 instead of 1,024 cycles per frame on an MLP.
# The second costs nothing in LUTs up to a fold of 16, some tens for the longest vectors.
_BUFFER_VECTORS = 2


def mvau_rtl(
    node: HardwareNode, module: str, parameters: Mapping[str, NDArray[np.int64]]
) -> NodeRtl:
    """Write an MVAU of either implementation, its weights inside."""
    if len(node.inputs) != 1 or len(node.outputs) != 1:
        raise ConfigError(
            f"Node {node.name!r} has {len(node.inputs)!r} inputs and {len(node.outputs)!r} outputs;"
            " an MVAU with its weights inside has one each."
        )
    if node.attributes.get("binaryXnorMode", 0):
        raise ConfigError(
            f"Node {node.name!r} multiplies by XNOR (binaryXnorMode), which no RTL here does; use "
            "weights and activations of 2 bits or more."
        )
    if "thresholds" in node.parameters:
        raise ConfigError(
            f"Node {node.name!r} has thresholds inside an MVAU, which no RTL has; build it with "
            "separate thresholding."
        )
    key = node.parameters.get("weights", f"{node.name}__weights")
    if key not in parameters:
        raise ConfigError(f"Parameter {key!r} of node {node.name!r} is missing.")
    pe, simd, mw, mh = (integer(node, name) for name in ("PE", "SIMD", "MW", "MH"))
    dtype = weight_type(node)
    if parameters[key].shape != (mw, mh):
        raise ConfigError(
            f"The weights of node {node.name!r} have the shape {parameters[key].shape!r}; its MW "
            f"and MH are {(mw, mh)!r}."
        )
    try:
        words = mvau_weight_words(parameters[key], pe, simd, dtype.bits, signed=dtype.signed)
        width = pe * simd * dtype.bits
        weight_file = f"{module}_weights.hex"
        texts = {weight_file: hex_lines(words, width)}
    except ValueError as exc:
        raise ConfigError(f"The weights of node {node.name!r} cannot be packed: {exc}") from exc
    source, target = node.inputs[0], node.outputs[0]
    expect(node, source.elements == simd, f"SIMD {simd!r}", source)
    expect(node, target.elements == pe, f"PE {pe!r}", target)
    if node.impl == "lut":
        body = instance(
            "adq_mvau_lut",
            "core",
            {
                "PE": pe,
                "SIMD": simd,
                "MW": mw,
                "MH": mh,
                "WEIGHT_WIDTH": dtype.bits,
                "WEIGHT_SIGNED": int(dtype.signed),
                "ACT_WIDTH": source.dtype.bits,
                "ACT_SIGNED": int(source.dtype.signed),
                "ACCU_WIDTH": target.dtype.bits,
                "ACCU_SIGNED": int(target.dtype.signed),
                "BUFFER_VECTORS": _BUFFER_VECTORS,
                "INIT_FILE": weight_file,
            },
            through(node),
        )
        return NodeRtl(module, node_module(node, module, body), ("adq_mvau_lut",), texts)
    if node.generator != "finn" or node.impl != "dsp":
        raise ConfigError(
            f"Node {node.name!r} is an MVAU of implementation {node.impl!r} from "
            f"{node.generator!r}; there are 'lut' from 'adaqat' and 'dsp' from 'finn'."
        )
    if node.attributes.get("pumpedCompute", 0):
        raise ConfigError(
            f"Node {node.name!r} wants a double-speed clock (pumpedCompute); the stitched design "
            "has one clock."
        )
    core = finn_module(node)
    bus = padded_width(pe * simd, dtype.bits)
    wires = (
        f"  logic [{bus - 1}:0] weights_TDATA;\n"
        "  logic weights_TVALID;\n  logic weights_TREADY;\n\n"
    )
    memory = instance(
        "adq_weight_stream",
        "weight_memory",
        {"DEPTH": len(words), "WIDTH": width, "INIT_FILE": weight_file},
        {"ap_clk": "ap_clk", "ap_rst_n": "ap_rst_n", **stream_ports("out0_V", "weights")},
    )
    ports = through(node) | {"ap_clk2x": "ap_clk"} | stream_ports("in1_V", "weights")
    body = wires + memory + "\n" + instance(core, "core", {"WEIGHT_WIDTH": dtype.bits}, ports)
    return NodeRtl(module, node_module(node, module, body), (core, "adq_weight_stream"), texts)


def weight_type(node: HardwareNode) -> IntType:
    """Return the type of a node's weights, from its two attributes or FINN's one."""
    name = node.attributes.get("weightDataType")
    if "weight_bits" in node.attributes or not isinstance(name, str):
        bits, signed = integer(node, "weight_bits"), node.attributes.get("weight_signed")
        said = f"'weight_bits' and 'weight_signed' of node {node.name!r} are {bits!r}, {signed!r}"
    else:
        found = _INT_TYPE.fullmatch(name)
        bits, signed = (int(found.group(2)), int(not found.group(1))) if found else (0, None)
        said = f"'weightDataType' of node {node.name!r} is {name!r}"
    if not 1 <= bits <= _MAX_WEIGHT_BITS or signed not in (0, 1):
        raise ConfigError(
            f"{said}; allowed are integers of 1..{_MAX_WEIGHT_BITS} bits, signed (1) or not (0)."
        )
    return IntType(bits=bits, signed=bool(signed))

"""Verilog of one hardware node: which module it is, its parameters, what is tied off.

All nodes look alike from outside: ap_clk, ap_rst_n, in<k>_V_*, out<k>_V_* (the contract of
:mod:`adaqat_hw.rtl.stitch`). An MVAU's weight memory lies inside its node.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl.packing import hex_lines, mvau_weight_words, padded_width
from adaqat_hw.rtl.verilog_names import comment, require_file_name, require_identifier
from adaqat_hw.schema import HardwareNode, IntType, Stream

_AXILITE_IN = (
    "s_axilite_AWVALID", "s_axilite_AWADDR", "s_axilite_WVALID", "s_axilite_WDATA",
    "s_axilite_WSTRB", "s_axilite_BREADY", "s_axilite_ARVALID", "s_axilite_ARADDR",
    "s_axilite_RREADY",
)  # fmt: skip
# Inputs of FINN's modules that are fixed here; their outputs stay open.
_TIED_OFF: dict[str, tuple[str, ...]] = {
    "Thresholding": (*_AXILITE_IN, "in1_V_TVALID", "in1_V_TDATA"),
    "FMPadding": _AXILITE_IN,
    "ConvolutionInputGenerator": (),
    "StreamingFIFO": (),
    "StreamingDataWidthConverter": (),
}
_THRESHOLD_FILE = re.compile(r"(.*)threshs_\d+_\d+\.dat")
_INT_TYPE = re.compile(r"(U?)INT([0-9]{1,3})")
_MAX_WEIGHT_BITS = 32
# With one, an MVAU waits for its next vector: 1,289 instead of 1,024 cycles per frame on an MLP.
# The second costs nothing in LUTs up to a fold of 16, some tens for the longest vectors.
_BUFFER_VECTORS = 2


@dataclass(frozen=True)
class NodeRtl:
    """Verilog of a node.

    ``text`` declares module ``module``. ``core`` is the module inside, whose sources are to be
    found. ``texts`` are data files made here, ``files`` data files of the build, by name.
    """

    module: str
    text: str
    cores: tuple[str, ...]
    texts: dict[str, str] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)


def node_rtl(
    node: HardwareNode,
    module: str,
    parameters: Mapping[str, NDArray[np.int64]],
    data_files: Mapping[str, Path],
) -> NodeRtl:
    """Write the Verilog of ``node`` as module ``module``.

    Args:
        node: the node.
        module: name of the module to declare, an identifier.
        parameters: the arrays of the graph's parameter file.
        data_files: memory files that FINN generated for this node, by name.

    Raises:
        ConfigError: there is no RTL for such a node, or an attribute or parameter is missing.
    """
    if node.op == "MVAU":
        return _mvau(node, module, parameters)
    if node.generator == "finn":
        return _finn(node, module, data_files)
    if node.op == "Pool":
        return _pool(node, module)
    raise ConfigError(
        f"Node {node.name!r} has the operator {node.op!r}, for which hw/rtl has no module; there "
        "are MVAU and Pool."
    )


def header(module: str, inputs: Sequence[Stream], outputs: Sequence[Stream]) -> str:
    """Return the head of a module with one AXI stream per stream."""
    lines = ["input  logic ap_clk", "input  logic ap_rst_n"]
    for k, stream in enumerate(inputs):
        lines += [
            f"input  logic [{stream.width - 1}:0] in{k}_V_TDATA",
            f"input  logic in{k}_V_TVALID",
            f"output logic in{k}_V_TREADY",
        ]
    for k, stream in enumerate(outputs):
        lines += [
            f"output logic [{stream.width - 1}:0] out{k}_V_TDATA",
            f"output logic out{k}_V_TVALID",
            f"input  logic out{k}_V_TREADY",
        ]
    ports = ",\n".join(f"    {line}" for line in lines)
    return f"module {module} (\n{ports}\n);\n"


def instance(
    module: str, name: str, parameters: Mapping[str, int | str], ports: Mapping[str, str]
) -> str:
    """Return an instance; text parameters become strings, ports are expressions."""
    values = ",\n".join(f"      .{key}({_literal(value)})" for key, value in parameters.items())
    connections = ",\n".join(f"      .{key}({value})" for key, value in ports.items())
    head = f"{module} #(\n{values}\n  ) {name}" if values else f"{module} {name}"
    return f"  {head} (\n{connections}\n  );\n"


def stream_ports(port: str, wire: str) -> dict[str, str]:
    """Return the three connections of an AXI stream port to wires of the same ending."""
    return {f"{port}_{end}": f"{wire}_{end}" for end in ("TDATA", "TVALID", "TREADY")}


def _through(node: HardwareNode) -> dict[str, str]:
    ports = {"ap_clk": "ap_clk", "ap_rst_n": "ap_rst_n"}
    for k in range(len(node.inputs)):
        ports |= stream_ports(f"in{k}_V", f"in{k}_V")
    for k in range(len(node.outputs)):
        ports |= stream_ports(f"out{k}_V", f"out{k}_V")
    return ports


def _module(node: HardwareNode, module: str, body: str) -> str:
    kind = f"{comment(node.op)} ({node.impl})" if node.impl else comment(node.op)
    layer = comment(node.layer) if node.layer is not None else "none"
    title = f"// Node {comment(node.name)}, {kind}, layer: {layer}.\n\n"
    return f"{title}{header(module, node.inputs, node.outputs)}\n{body}\nendmodule\n"


def _finn(node: HardwareNode, module: str, data_files: Mapping[str, Path]) -> NodeRtl:
    tied = _TIED_OFF.get(node.op)
    if tied is None or node.backend != "rtl":
        raise ConfigError(
            f"Node {node.name!r} ({node.op}, {node.backend}) has no RTL from FINN; there is RTL "
            f"for {', '.join(sorted(_TIED_OFF))} and MVAU."
        )
    core = _finn_module(node)
    ports = _through(node) | dict.fromkeys(tied, "'0")
    values: dict[str, int | str] = {}
    if node.op == "Thresholding":
        # FINN's own path leads to the folder in which it was generated.
        values["THRESHOLDS_PATH"] = _threshold_prefix(node, data_files)
    body = instance(core, "core", values, ports)
    return NodeRtl(module, _module(node, module, body), (core,), files=dict(data_files))


def _threshold_prefix(node: HardwareNode, data_files: Mapping[str, Path]) -> str:
    found = {match.group(1) for name in data_files if (match := _THRESHOLD_FILE.fullmatch(name))}
    if len(found) != 1:
        raise ConfigError(
            f"The files of node {node.name!r} hold thresholds of {len(found)!r} prefixes, not of "
            "one (<prefix>threshs_<pe>_<stage>.dat); make the build again."
        )
    return found.pop()


def _mvau(node: HardwareNode, module: str, parameters: Mapping[str, NDArray[np.int64]]) -> NodeRtl:
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
    dtype = _weight_type(node)
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
    _expect(node, source.elements == simd, f"SIMD {simd!r}", source)
    _expect(node, target.elements == pe, f"PE {pe!r}", target)
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
            _through(node),
        )
        return NodeRtl(module, _module(node, module, body), ("adq_mvau_lut",), texts)
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
    core = _finn_module(node)
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
    ports = _through(node) | {"ap_clk2x": "ap_clk"} | stream_ports("in1_V", "weights")
    body = wires + memory + "\n" + instance(core, "core", {"WEIGHT_WIDTH": dtype.bits}, ports)
    return NodeRtl(module, _module(node, module, body), (core, "adq_weight_stream"), texts)


def _pool(node: HardwareNode, module: str) -> NodeRtl:
    function = node.attributes.get("Function", "MaxPool")
    if function != "MaxPool":
        raise ConfigError(
            f"Node {node.name!r} pools with {function!r}; hw/rtl has a module for 'MaxPool' only."
        )
    kernel = node.attributes.get("KernelSize")
    if not isinstance(kernel, tuple) or not kernel or min(kernel) < 1:
        raise ConfigError(f"Attribute 'KernelSize' of {node.name!r} is {kernel!r}, not a size.")
    window = 1
    for size in kernel:
        window *= size
    stream = node.inputs[0]
    values: dict[str, int | str] = {
        "PE": stream.elements,
        "WIDTH": stream.dtype.bits,
        "SIGNED": int(stream.dtype.signed),
        "K": window,
    }
    _expect(node, node.outputs[0].elements == stream.elements, "its input", node.outputs[0])
    body = instance("adq_maxpool", "core", values, _through(node))
    return NodeRtl(module, _module(node, module, body), ("adq_maxpool",))


def integer(node: HardwareNode, name: str) -> int:
    """Return an integer attribute of a node; raise ConfigError when it has none."""
    value = node.attributes.get(name)
    if not isinstance(value, int) or value < 1:
        raise ConfigError(
            f"Attribute {name!r} of node {node.name!r} is {value!r}; it must be a positive integer."
        )
    return value


def _weight_type(node: HardwareNode) -> IntType:
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


def _finn_module(node: HardwareNode) -> str:
    if node.top_module is None:
        raise ConfigError(f"Node {node.name!r} from FINN names no top module; build it again.")
    return require_identifier(node.top_module, f"The top module of node {node.name!r}")


def _expect(node: HardwareNode, true: bool, wanted: str, stream: Stream) -> None:
    if not true:
        raise ConfigError(
            f"Stream {stream.name!r} carries {stream.elements!r} values per beat, which does not "
            f"match {wanted} of node {node.name!r}."
        )


def _literal(value: int | str) -> str:
    return (
        f'"{require_file_name(value, "A memory file")}"' if isinstance(value, str) else str(value)
    )

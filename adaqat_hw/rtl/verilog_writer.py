"""Pieces of generated Verilog that all kinds of nodes share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl.verilog_names import comment, require_file_name, require_identifier
from adaqat_hw.schema import HardwareNode, IntType, Stream


@dataclass(frozen=True)
class NodeRtl:
    """Verilog of a node.

    ``text`` declares module ``module``. ``cores`` are the modules inside, whose sources are to be
    found. ``texts`` are data files made here, ``files`` data files of the build, by name.
    """

    module: str
    text: str
    cores: tuple[str, ...]
    texts: dict[str, str] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)


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


def through(node: HardwareNode) -> dict[str, str]:
    """Return the ports of a core that carry the names of its node's."""
    ports = {"ap_clk": "ap_clk", "ap_rst_n": "ap_rst_n"}
    for k in range(len(node.inputs)):
        ports |= stream_ports(f"in{k}_V", f"in{k}_V")
    for k in range(len(node.outputs)):
        ports |= stream_ports(f"out{k}_V", f"out{k}_V")
    return ports


def node_module(node: HardwareNode, module: str, body: str) -> str:
    """Return the module of a node around ``body``."""
    kind = f"{comment(node.op)} ({node.impl})" if node.impl else comment(node.op)
    layer = comment(node.layer) if node.layer is not None else "none"
    title = f"// Node {comment(node.name)}, {kind}, layer: {layer}.\n\n"
    return f"{title}{header(module, node.inputs, node.outputs)}\n{body}\nendmodule\n"


def finn_module(node: HardwareNode) -> str:
    """Return the name of the module that FINN generated; ConfigError when there is none."""
    if node.top_module is None:
        raise ConfigError(f"Node {node.name!r} from FINN names no top module; build it again.")
    return require_identifier(node.top_module, f"The top module of node {node.name!r}")


def require_ports(node: HardwareNode) -> None:
    """Raise ConfigError when a node has another number of streams than its operator."""
    expected = node.operator.inputs, node.output_count
    if (len(node.inputs), len(node.outputs)) != expected:
        raise ConfigError(
            f"Node {node.name!r} ({node.op}) has {len(node.inputs)!r} inputs and "
            f"{len(node.outputs)!r} outputs; its operator has {expected[0]!r} and {expected[1]!r}."
        )


def require_wider(node: HardwareNode, source: IntType, target: IntType) -> None:
    """Raise ConfigError when a sum is narrower than what is summed."""
    if target.bits < source.bits or (source.signed and not target.signed):
        raise ConfigError(
            f"Node {node.name!r} sums {type_text(source)} to {type_text(target)}; a sum must not "
            "be narrower than what is summed, nor lose its sign."
        )


def require_same_type(node: HardwareNode, source: IntType, target: IntType) -> None:
    """Raise ConfigError when two types differ."""
    if source != target:
        raise ConfigError(
            f"Node {node.name!r} takes {type_text(source)} and gives {type_text(target)}; both "
            "types must be equal."
        )


def core_rtl(node: HardwareNode, module: str, core: str, values: Mapping[str, int]) -> NodeRtl:
    """Return a node that is one instance of ``core`` with the same ports."""
    body = instance(core, "core", values, through(node))
    return NodeRtl(module, node_module(node, module, body), (core,))


def type_values(prefix: str, dtype: IntType) -> dict[str, int]:
    """Return the two parameters of a type."""
    return {f"{prefix}WIDTH": dtype.bits, f"{prefix}SIGNED": int(dtype.signed)}


def type_text(dtype: IntType) -> str:
    """Return a type in words."""
    return f"{'signed' if dtype.signed else 'unsigned'} values of {dtype.bits!r} bits"


def expect(node: HardwareNode, true: bool, facts: str, stream: Stream) -> None:
    """Raise ConfigError when a stream does not fit its node."""
    if not true:
        raise ConfigError(
            f"Stream {stream.name!r} carries {stream.elements!r} values per beat, which does not "
            f"match {facts} of node {node.name!r}."
        )


def _literal(value: int | str) -> str:
    return (
        f'"{require_file_name(value, "A memory file")}"' if isinstance(value, str) else str(value)
    )

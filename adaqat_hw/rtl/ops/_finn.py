"""Verilog of a node around a module that FINN generated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from adaqat_hw.rtl.verilog_writer import NodeRtl, finn_module, instance, node_module, through
from adaqat_hw.schema import HardwareNode

AXILITE_IN = (
    "s_axilite_AWVALID", "s_axilite_AWADDR", "s_axilite_WVALID", "s_axilite_WDATA",
    "s_axilite_WSTRB", "s_axilite_BREADY", "s_axilite_ARVALID", "s_axilite_ARADDR",
    "s_axilite_RREADY",
)  # fmt: skip


def finn_rtl(
    node: HardwareNode,
    module: str,
    data_files: Mapping[str, Path],
    *,
    tied_off: Iterable[str] = (),
    values: Mapping[str, int | str] | None = None,
) -> NodeRtl:
    """Write a node around FINN's module.

    Args:
        node: the node.
        module: name of the module to declare.
        data_files: memory files that FINN generated for this node, by name.
        tied_off: inputs of FINN's module that are fixed to 0; its outputs stay open.
        values: parameters of FINN's module.
    """
    core = finn_module(node)
    ports = through(node) | dict.fromkeys(tied_off, "'0")
    body = instance(core, "core", values or {}, ports)
    return NodeRtl(module, node_module(node, module, body), (core,), files=dict(data_files))

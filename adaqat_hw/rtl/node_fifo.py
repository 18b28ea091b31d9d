"""Verilog of a FIFO node: ``adq_fifo`` of ``hw/rtl`` with the depth the graph gives it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl.fifo_graph import MIN_DEPTH
from adaqat_hw.rtl.verilog_writer import (
    NodeRtl,
    expect,
    instance,
    integer,
    node_module,
    require_ports,
    through,
)
from adaqat_hw.schema import HardwareNode


def fifo_rtl(
    node: HardwareNode, module: str, parameters: Mapping[str, NDArray[np.int64]]
) -> NodeRtl:
    """Write a queue; its attributes are those that :mod:`adaqat_hw.rtl.fifo_graph` sets."""
    del parameters
    require_ports(node, 1, 1)
    source, target = node.inputs[0], node.outputs[0]
    expect(node, target.elements == source.elements, "its input", target)
    if source.dtype.bits != target.dtype.bits:
        raise ConfigError(
            f"Node {node.name!r} takes values of {source.dtype.bits!r} bits and gives values of "
            f"{target.dtype.bits!r}; a FIFO changes nothing."
        )
    depth, index = integer(node, "depth"), node.attributes.get("fifo_index", 0)
    if depth < MIN_DEPTH or not isinstance(index, int):
        raise ConfigError(
            f"Node {node.name!r} has the depth {depth!r} and the index {index!r}; a FIFO needs a "
            f"depth of {MIN_DEPTH} or more and an integer index."
        )
    values: dict[str, int | str] = {
        "DEPTH": depth,
        "WIDTH": source.elements * source.dtype.bits,
        "INDEX": index,
    }
    body = instance("adq_fifo", "core", values, through(node))
    return NodeRtl(module, node_module(node, module, body), ("adq_fifo",))

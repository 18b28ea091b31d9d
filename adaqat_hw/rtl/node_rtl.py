"""Verilog of one hardware node: which module it is, its parameters, what is tied off.

All nodes look alike from outside: ap_clk, ap_rst_n, in<k>_V_*, out<k>_V_* (the contract of
:mod:`adaqat_hw.rtl.stitch`). An MVAU's weight memory lies inside its node.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl.node_fifo import fifo_rtl
from adaqat_hw.rtl.node_mvau import mvau_rtl
from adaqat_hw.rtl.node_small import (
    add_rtl,
    duplicate_rtl,
    global_acc_pool_rtl,
    label_select_rtl,
    pool_rtl,
)
from adaqat_hw.rtl.verilog_writer import (
    NodeRtl,
    finn_module,
    header,
    instance,
    node_module,
    stream_ports,
    through,
)
from adaqat_hw.rtl.vvau import vvau_rtl
from adaqat_hw.schema import HardwareNode

__all__ = ["NodeRtl", "header", "instance", "node_rtl", "stream_ports"]

_Parameters = Mapping[str, NDArray[np.int64]]

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
# This project's modules by operator. An MVAU may also be FINN's.
_OWN: dict[str, Callable[[HardwareNode, str, _Parameters], NodeRtl]] = {
    "MVAU": mvau_rtl,
    "StreamingFIFO": fifo_rtl,
    "Pool": pool_rtl,
    "DuplicateStreams": duplicate_rtl,
    "ElementwiseAdd": add_rtl,
    "AddStreams": add_rtl,
    "GlobalAccPool": global_acc_pool_rtl,
    "LabelSelect": label_select_rtl,
    "VVAU": vvau_rtl,
}


def node_rtl(
    node: HardwareNode,
    module: str,
    parameters: _Parameters,
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
    if node.generator == "finn" and node.op != "MVAU":
        return _finn(node, module, data_files)
    write = _OWN.get(node.op)
    if write is None:
        raise ConfigError(
            f"Node {node.name!r} has the operator {node.op!r}, for which hw/rtl has no module; "
            f"there are {', '.join(sorted(_OWN))}."
        )
    return write(node, module, parameters)


def _finn(node: HardwareNode, module: str, data_files: Mapping[str, Path]) -> NodeRtl:
    tied = _TIED_OFF.get(node.op)
    if tied is None or node.backend != "rtl":
        raise ConfigError(
            f"Node {node.name!r} ({node.op}, {node.backend}) has no RTL from FINN; there is RTL "
            f"for {', '.join(sorted(_TIED_OFF))} and MVAU."
        )
    core = finn_module(node)
    ports = through(node) | dict.fromkeys(tied, "'0")
    values: dict[str, int | str] = {}
    if node.op == "Thresholding":
        # FINN's own path leads to the folder in which it was generated.
        values["THRESHOLDS_PATH"] = _threshold_prefix(node, data_files)
    body = instance(core, "core", values, ports)
    return NodeRtl(module, node_module(node, module, body), (core,), files=dict(data_files))


def _threshold_prefix(node: HardwareNode, data_files: Mapping[str, Path]) -> str:
    found = {match.group(1) for name in data_files if (match := _THRESHOLD_FILE.fullmatch(name))}
    if len(found) != 1:
        raise ConfigError(
            f"The files of node {node.name!r} hold thresholds of {len(found)!r} prefixes, not of "
            "one (<prefix>threshs_<pe>_<stage>.dat); make the build again."
        )
    return found.pop()

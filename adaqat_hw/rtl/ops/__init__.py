"""One module per hardware operator: what it computes, its Verilog and its cost."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl.ops._protocol import (
    Facts,
    Features,
    HardwareOperator,
    Parameters,
    ValueRange,
)
from adaqat_hw.rtl.verilog_writer import NodeRtl
from adaqat_hw.schema import HardwareNode
from adaqat_hw.schema.operators import OPERATORS, Generator, Operator

__all__ = ["Facts", "Features", "HardwareOperator", "ValueRange", "node_rtl", "operator_module"]


@cache
def operator_module(record: Operator) -> HardwareOperator:
    """Return what ``adaqat_hw/rtl/ops/<module>.py`` says about an operator."""
    module = importlib.import_module(f"adaqat_hw.rtl.ops.{record.module}")
    operator = module.OPERATOR
    assert isinstance(operator, HardwareOperator)
    assert operator.record is record
    return operator


def node_rtl(
    node: HardwareNode,
    module: str,
    parameters: Parameters,
    data_files: Mapping[str, Path],
) -> NodeRtl:
    """Write the Verilog of ``node`` as module ``module``.

    All nodes look alike from outside: ap_clk, ap_rst_n, in<k>_V_*, out<k>_V_* (the contract of
    :mod:`adaqat_hw.rtl.stitch`). Memories of weights lie inside their node.

    Args:
        node: the node.
        module: name of the module to declare, an identifier.
        parameters: the arrays of the graph's parameter file.
        data_files: memory files that FINN generated for this node, by name.

    Raises:
        ConfigError: there is no RTL for such a node, or an attribute or parameter is missing.
    """
    record = node.operator
    if node.generator not in record.generators:
        lacking = "hw/rtl has no module" if node.generator == "adaqat" else "FINN has no RTL"
        raise ConfigError(
            f"Node {node.name!r} has the operator {node.op!r}, for which {lacking}; there is one "
            f"for {_generated_by(node.generator)}."
        )
    if node.generator == "finn" and node.backend != "rtl":
        raise ConfigError(
            f"Node {node.name!r} ({node.op}, {node.backend}) has no RTL from FINN; build it again."
        )
    operator = operator_module(record)
    operator.check(node)
    return operator.verilog(node, module, parameters, data_files)


def _generated_by(generator: Generator) -> str:
    return ", ".join(sorted(each.name for each in OPERATORS if generator in each.generators))

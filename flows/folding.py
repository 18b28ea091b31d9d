"""Set PE and SIMD: FINN's folding to a throughput, then the request's own folding."""

from __future__ import annotations

from typing import Any

from flow_state import FlowState, Refused
from layers import base_op

_FOLDS = ("PE", "SIMD")
# PE or SIMD of an op must divide the attribute named here.
_DIVIDES = {
    ("MVAU", "PE"): "MH",
    ("MVAU", "SIMD"): "MW",
    ("Thresholding", "PE"): "NumChannels",
    ("FMPadding", "SIMD"): "NumChannels",
    ("ConvolutionInputGenerator", "SIMD"): "IFMChannels",
    ("Pool", "PE"): "Channels",
}


def unfold(state: FlowState) -> None:
    """Set PE = SIMD = 1 everywhere, the smallest and slowest accelerator."""
    from qonnx.custom_op.registry import getCustomOp

    for node in state.model.graph.node:
        instance = getCustomOp(node)
        types = instance.get_nodeattr_types()
        for name in _FOLDS:
            if name in types:
                instance.set_nodeattr(name, 1)
        if "parallel_window" in types:
            instance.set_nodeattr("parallel_window", 0)


def apply_folding(state: FlowState) -> None:
    """Apply ``request.folding``, PE and SIMD by hardware node name.

    Raises:
        Refused: a node or attribute that does not exist, or a value that does not divide.
    """
    from qonnx.custom_op.registry import getCustomOp

    folding = state.request.folding or {}
    nodes = {n.name: n for n in state.model.graph.node}
    problems = []
    for name, values in folding.items():
        if name not in nodes:
            problems.append(f"folding names {name!r}, which is no node; there are {list(nodes)!r}.")
            continue
        instance = getCustomOp(nodes[name])
        for key, value in values.items():
            fault = _fault(instance, base_op(nodes[name].op_type), name, key, value)
            if fault is None:
                instance.set_nodeattr(key, value)
            else:
                problems.append(fault)
    problems += _pool_faults(state)
    if problems:
        raise Refused(problems)


def _fault(instance: Any, op: str, name: str, key: str, value: int) -> str | None:
    if key not in _FOLDS or key not in instance.get_nodeattr_types():
        have = [x for x in _FOLDS if x in instance.get_nodeattr_types()]
        return f"folding of {name!r} sets {key!r}; allowed are {have!r}."
    total = instance.get_nodeattr(_DIVIDES[op, key]) if (op, key) in _DIVIDES else None
    if value < 1 or (total is not None and total % value):
        return f"folding of {name!r} sets {key} = {value!r}, which must divide {total!r}."
    return None


def _pool_faults(state: FlowState) -> list[str]:
    """A pool reads its window channel by channel: both sides must take as many at once."""
    from qonnx.custom_op.registry import getCustomOp

    faults = []
    for node in state.model.graph.node:
        if base_op(node.op_type) != "Pool":
            continue
        window = state.model.find_producer(node.input[0])
        pe = getCustomOp(node).get_nodeattr("PE")
        simd = getCustomOp(window).get_nodeattr("SIMD") if window is not None else pe
        if pe != simd:
            faults.append(
                f"PE of {node.name!r} is {pe!r} and SIMD of {window.name!r} is {simd!r}; a pool "
                "and its window must have the same."
            )
    return faults

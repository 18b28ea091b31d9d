"""Set PE and SIMD: FINN's folding to a throughput, then the request's own folding."""

from __future__ import annotations

import numpy as np

from adaqat_hw.schema.operators import find_operator
from flows.flow_state import FlowState, Refused
from flows.graph_types import HardwareOp, hardware_op

_FOLDS = ("PE", "SIMD")


def unfold(state: FlowState) -> None:
    """Set PE = SIMD = 1 everywhere, the smallest and slowest accelerator."""
    for node in state.model.graph.node:
        instance = hardware_op(node)
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
    folding = state.request.folding or {}
    nodes = {n.name: n for n in state.model.graph.node}
    problems = []
    for name, values in folding.items():
        if name not in nodes:
            problems.append(
                f"The folding names {name!r}, which is no node; there are {list(nodes)!r}."
            )
            continue
        instance = hardware_op(nodes[name])
        for key, value in values.items():
            fault = _fault(instance, nodes[name].op_type, name, key, value)
            if fault is None:
                instance.set_nodeattr(key, value)
            else:
                problems.append(fault)
    problems += _window_faults(state)
    if problems:
        raise Refused(problems)


def _fault(instance: HardwareOp, op: str, name: str, key: str, value: int) -> str | None:
    if key not in _FOLDS or key not in instance.get_nodeattr_types():
        have = [x for x in _FOLDS if x in instance.get_nodeattr_types()]
        return f"The folding of {name!r} sets {key!r}; allowed are {have!r}."
    total = _total(instance, op, key)
    if value < 1 or (total is not None and total % value):
        return f"The folding of {name!r} sets {key} = {value!r}, which must divide {total!r}."
    return None


def _total(instance: HardwareOp, op: str, key: str) -> int | None:
    """Return what PE or SIMD of a node must divide, None where nothing is known."""
    record = find_operator(op)
    fold = next((each for each in record.folds if each.name == key), None) if record else None
    if fold is None:
        return None
    if fold.divides is None:
        return int(instance.get_normal_output_shape()[-1])
    return int(np.prod(instance.get_nodeattr(fold.divides)))


def _window_faults(state: FlowState) -> list[str]:
    """A pool or VVAU reads its window channel by channel: both sides must take as many at once."""
    faults = []
    for node in state.model.graph.node:
        record = find_operator(node.op_type)
        if record is None or record.window != "takes":
            continue
        window = state.model.find_producer(node.input[0])
        before = find_operator(window.op_type) if window is not None else None
        if window is None or before is None or before.window != "makes":
            continue
        instance, lanes = hardware_op(node), hardware_op(window).get_nodeattr("SIMD")
        pe = instance.get_nodeattr("PE")
        if pe != lanes:
            faults.append(
                f"PE of {node.name!r} is {pe!r} and SIMD of {window.name!r} is {lanes!r}; a pool "
                "or depthwise convolution and its window must have the same."
            )
        parallel_window = hardware_op(window).get_nodeattr("parallel_window")
        folds = [fold.name for fold in record.folds]
        if "SIMD" in folds and instance.get_nodeattr("SIMD") > 1 and not parallel_window:
            faults.append(
                f"SIMD of {node.name!r} is {instance.get_nodeattr('SIMD')!r}; above 1 it needs "
                "the window at once, which only FINN's own folding chooses."
            )
    return faults

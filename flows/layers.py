"""Map hardware nodes to the network's layers, by weights first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from adaqat_hw.schema.operators import find_operator, operator
from flows.flow_state import FlowState, MacLayer
from flows.graph_types import Model
from flows.network import signature


def is_weighted(node: NodeProto) -> bool:
    """Tell whether a node multiplies with weights."""
    record = find_operator(node.op_type)
    return record is not None and record.weighted


def map_layers(state: FlowState) -> None:
    """Fill ``state.layer_of`` for every node of ``state.model``.

    Nodes with weights are matched by them; one that matches none gets the next free layer in
    graph order, with a remark, but one that only moves channels is a shortcut without parameters
    and becomes ``shortcut<k>``. Operators with a row of their own get its name and a number, k
    counting from 0 (``maxpool<k>``, ``add<k>``, ...).
    """
    model = state.model
    weighted = [n for n in model.graph.node if is_weighted(n)]
    shortcuts = [n for n in weighted if _only_moves(_weights(model, n), state.layers)]
    weighted = [n for n in weighted if n not in shortcuts]
    layers, guessed = match_layers([_weights(model, n) for n in weighted], state.layers)
    named: dict[str, str | None] = {n.name: x for n, x in zip(weighted, layers, strict=True)}
    named |= {node.name: f"shortcut{k}" for k, node in enumerate(shortcuts)}
    for node, name, guess in zip(weighted, layers, guessed, strict=True):
        if guess:
            state.remark(
                f"{node.name} was counted into layer {name!r} by its position: no layer of the "
                "file has its weights."
            )
    counts: dict[str, int] = {}
    for node in model.graph.node:
        if (kind := _kind(node)) is not None:
            named[node.name] = f"{kind}{counts.get(kind, 0)}"
            counts[kind] = counts.get(kind, 0) + 1
    state.layer_of = {n.name: _layer(model, n, named) for n in model.graph.node}


def _kind(node: NodeProto) -> str | None:
    record = find_operator(node.op_type)
    if record is None or record.layer != "own":
        return None
    if record.row_of is not None:
        attribute, value, row = record.row_of
        if [a.s for a in node.attribute if a.name == attribute] == [value.encode()]:
            return row
    return record.row


def match_layers(
    matrices: list[NDArray[Any] | None], layers: list[MacLayer]
) -> tuple[list[str | None], list[bool]]:
    """Match weight matrices to layers.

    Args:
        matrices: (output channels, weights per channel) of each hardware node in graph order,
            None where it has no constant weights.
        layers: the network's layers in graph order.

    Returns:
        The layer of each node (None when there are more nodes than layers), and whether it was
        found by position instead of by weights.
    """
    free = list(layers)
    names: list[str | None] = [None] * len(matrices)
    for index, matrix in enumerate(matrices):
        if matrix is None:
            continue
        matrix_signature = signature(matrix)
        layer = next((x for x in free if _same(x.signature, matrix_signature)), None)
        if layer is not None:
            free.remove(layer)
            names[index] = layer.name
    guessed = [name is None for name in names]
    for index, name in enumerate(names):
        if name is None and free:
            names[index] = free.pop(0).name
    return names, [guess and names[k] is not None for k, guess in enumerate(guessed)]


def _only_moves(matrix: NDArray[Any] | None, layers: list[MacLayer]) -> bool:
    """Tell whether a matrix, no layer's own, puts every input to one output of its own."""
    if matrix is None or not np.isin(matrix, (0, 1)).all():
        return False
    if any(_same(layer.signature, signature(matrix)) for layer in layers):
        return False
    return bool((matrix.sum(axis=0) == 1).all() and (matrix.sum(axis=1) <= 1).all())


def nearest_layer(state: FlowState, node: NodeProto) -> str | None:
    """Return the last multiply-accumulate layer before ``node``, whatever lies between."""
    seen, queue = set(), [node]
    while queue:
        current = queue.pop(0)
        if current.name in seen:
            continue
        seen.add(current.name)
        if is_weighted(current) and state.layer_of.get(current.name):
            return state.layer_of[current.name]
        queue += [p for x in current.input if (p := state.model.find_producer(x)) is not None]
    return None


def _same(ours: NDArray[np.int64] | None, theirs: NDArray[np.int64]) -> bool:
    """Compare signatures; lowering a grouped convolution pads channels with zeros."""
    if ours is None or ours.shape[0] != theirs.shape[0] or ours.shape[1] > theirs.shape[1]:
        return False
    padded = np.zeros_like(theirs)
    padded[:, : ours.shape[1]] = ours
    return bool(np.array_equal(padded, theirs))


def _weights(model: Model, node: NodeProto) -> NDArray[Any] | None:
    """Return (output channels, weights per channel)."""
    weights, parameters = model.get_initializer(node.input[1]), operator(node.op_type).parameters
    if weights is None or parameters is None:
        return None
    matrix = np.moveaxis(np.asarray(weights), parameters.outputs_axis, 0)
    return matrix.reshape(len(matrix), -1)


def _layer(model: Model, node: NodeProto, named: dict[str, str | None]) -> str | None:
    if node.name in named:
        return named[node.name]
    if _counted_into(node) == "consumer":
        owner = _downstream(model, node, named)
        return owner if owner is not None else _upstream(model, node, named)
    if _counted_into(node) == "producer":
        return _upstream(model, node, named)
    return None


def _counted_into(node: NodeProto) -> str | None:
    record = find_operator(node.op_type)
    return record.layer if record is not None else None


def _is_passed(node: NodeProto) -> bool:
    record = find_operator(node.op_type)
    return record is not None and record.passed


def _downstream(model: Model, node: NodeProto, named: dict[str, str | None]) -> str | None:
    while True:
        readers = model.find_consumers(node.output[0])
        if len(readers) != 1:
            return None
        node = readers[0]
        if node.name in named:
            return named[node.name]
        if _counted_into(node) == "producer":
            return _upstream(model, node, named)
        if _counted_into(node) != "consumer":
            return None


def _upstream(model: Model, node: NodeProto, named: dict[str, str | None]) -> str | None:
    """Follow the first input up to a layer with weights or an addition; pools are passed."""
    while _is_passed(node):
        producer = model.find_producer(node.input[0])
        if producer is None:
            return None
        if not _is_passed(producer):
            return named.get(producer.name)
        node = producer
    return None

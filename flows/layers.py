"""Map hardware nodes to the network's layers, by weights first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from flows.flow_state import FlowState, MacLayer
from flows.graph_types import Model
from flows.network import signature

WEIGHTED_OPS = ("MVAU", "VVAU")
_OWNED_BY_CONSUMER = (
    "FMPadding",
    "ConvolutionInputGenerator",
    "StreamingFIFO",
    "StreamingDataWidthConverter",
)
_PASS_UPSTREAM = (*_OWNED_BY_CONSUMER, "Pool", "Thresholding", "DuplicateStreams")
# Layers without weights: their rows are named by what they do and counted from 0.
_UNNAMED = {
    "Pool": "maxpool",
    "ElementwiseAdd": "add",
    "AddStreams": "add",
    "GlobalAccPool": "globalpool",
    "LabelSelect": "labelselect",
}


def base_op(op_type: str) -> str:
    """Return FINN's op type without its backend suffix."""
    return op_type.removesuffix("_rtl").removesuffix("_hls")


def map_layers(state: FlowState) -> None:
    """Fill ``state.layer_of`` for every node of ``state.model``.

    MVAUs are matched by their weights; one that matches none gets the next free layer in graph
    order, with a remark, but one that only moves channels is a shortcut without parameters and
    becomes ``shortcut<k>``. Max pools get ``maxpool<k>``, average pools ``avgpool<k>``, additions
    ``add<k>``, global pools ``globalpool<k>``, k counting from 0.
    """
    model = state.model
    weighted = [n for n in model.graph.node if base_op(n.op_type) in WEIGHTED_OPS]
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
    functions = [a.s for a in node.attribute if a.name == "Function"]
    if base_op(node.op_type) == "Pool" and functions == [b"QuantAvgPool"]:
        return "avgpool"
    return _UNNAMED.get(base_op(node.op_type))


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
        wanted = signature(matrix)
        layer = next((x for x in free if _same(x.signature, wanted)), None)
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
        if base_op(current.op_type) in WEIGHTED_OPS and state.layer_of.get(current.name):
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
    """Return (output channels, weights per channel); MVAUs keep (MW, MH), VVAUs (C, 1, k, k)."""
    weights = model.get_initializer(node.input[1])
    if weights is None:
        return None
    if base_op(node.op_type) == "VVAU":
        return np.asarray(weights).reshape(weights.shape[0], -1)
    return np.asarray(weights).T


def _layer(model: Model, node: NodeProto, named: dict[str, str | None]) -> str | None:
    if node.name in named:
        return named[node.name]
    if base_op(node.op_type) in _OWNED_BY_CONSUMER:
        owner = _downstream(model, node, named)
        return owner if owner is not None else _upstream(model, node, named)
    if base_op(node.op_type) in ("Thresholding", "DuplicateStreams"):
        return _upstream(model, node, named)
    return None


def _downstream(model: Model, node: NodeProto, named: dict[str, str | None]) -> str | None:
    while True:
        readers = model.find_consumers(node.output[0])
        if len(readers) != 1:
            return None
        node = readers[0]
        if node.name in named:
            return named[node.name]
        if base_op(node.op_type) in ("Thresholding", "DuplicateStreams"):
            return _upstream(model, node, named)
        if base_op(node.op_type) not in _OWNED_BY_CONSUMER:
            return None


def _upstream(model: Model, node: NodeProto, named: dict[str, str | None]) -> str | None:
    """Follow the first input up to a layer with weights or an addition; pools are passed."""
    while base_op(node.op_type) in _PASS_UPSTREAM:
        producer = model.find_producer(node.input[0])
        if producer is None:
            return None
        if base_op(producer.op_type) not in _PASS_UPSTREAM:
            return named.get(producer.name)
        node = producer
    return None

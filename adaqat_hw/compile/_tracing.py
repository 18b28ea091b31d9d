"""Trace tensors of a QONNX graph to their producers and scales, for the pre-flight checks."""

from __future__ import annotations

import numpy as np

from adaqat_hw.qonnx_graph import MAC_OPS, QUANT_OPS, Array, Node, QonnxGraph

# Operators that carry values on without computing with them.
MOVES = ("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout")
_PASS = (*MOVES, "MaxPool", "Pad", "GlobalAveragePool", "ReduceMean", "AveragePool", "Trunc")
SUPPORTED = {*MAC_OPS, *QUANT_OPS, *_PASS, "BatchNormalization", "Relu", "Constant"}


def scale_of(graph: QonnxGraph, tensor: str) -> Array | None:
    """Return the scale of a tensor of integers times a scale, or None where it is none."""
    node = graph.source_of(tensor, (*MOVES, "MaxPool"))
    if node is not None and node.op in QUANT_OPS and len(node.inputs) in (2, 4):
        scale = graph.quantizer(node).scale
        return None if scale is None else scale.reshape(-1)
    if node is not None and node.op == "Add":
        left, right = (scale_of(graph, name) for name in node.inputs)
        if left is not None and right is not None and np.array_equal(left, right):
            return left
    return None


def named_elsewhere(graph: QonnxGraph, tensor: str) -> bool:
    """Tell whether what a tensor lacks is the fault of an operator that is named itself."""
    node = graph.source_of(tensor, _PASS)
    if node is None or graph.affine(node) is not None:
        return False
    return node.op not in (*SUPPORTED, "Add")


def origin_of(graph: QonnxGraph, tensor: str) -> tuple[Node | None, str, tuple[str, ...]]:
    """Follow a tensor up through moves, pools and affines with one constant.

    Returns:
        The node where that ends (None at the network's input), the tensor that it makes, and
        the names of the additions on the way.
    """
    added: list[str] = []
    while (node := graph.producer.get(tensor)) is not None:
        affine = graph.affine(node)
        if node.op in _PASS and node.inputs:
            tensor = node.inputs[0]
        elif affine is not None and affine[1] is not None and affine[1].size == 1:
            tensor = affine[0]
            if node.op in ("Add", "Sub"):
                added.append(node.name or node.outputs[0])
        else:
            break
    return node, tensor, tuple(added)


def weight_shape(graph: QonnxGraph, tensor: str) -> tuple[int, ...] | None:
    """Return the shape of constant weights behind their quantizer, or None."""
    node = graph.source_of(tensor, ("Transpose", "Reshape", "Identity", *QUANT_OPS))
    name = tensor
    while name in graph.producer and graph.producer[name].inputs:
        name = graph.producer[name].inputs[0]
    value = graph.values.get(name)
    return None if value is None or node is not None else tuple(value.shape)

"""Shortcuts without parameters as convolutions with a matrix of zeros and ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from flows.flow_state import FlowState
from flows.graph_types import Model, known_shape

_BITS = 2  # of the weights 0 and 1, with a sign


def as_convolutions(state: FlowState) -> None:
    """Replace every chain of strided slices, and channels padded after it, by a 1x1 convolution.

    That is the shortcut of option A in ResNets: every s-th pixel, new channels of zeros. Its
    weight is 1 where output channel ``before + c`` meets input channel ``c``, 0 elsewhere, so the
    result is the same bit for bit; FINN and this project's MVAU take it as any other layer.
    """
    from qonnx.transformation.infer_shapes import InferShapes

    model = state.model
    if not any(_is_slice(node) for node in model.graph.node):
        return
    model = model.transform(InferShapes())
    firsts = [n for n in model.graph.node if _starts(model, n)]
    for node in firsts:
        _replace(model, node)
    state.model = model


def _replace(model: Model, first: NodeProto) -> None:
    chain = _chain(model, first)
    if chain is None:
        return
    nodes, strides, before, after = chain
    channels = known_shape(model, first.input[0])[1]
    weights = np.zeros((before + channels + after, channels, 1, 1), dtype=np.float32)
    weights[before + np.arange(channels), np.arange(channels)] = 1.0
    quantized = _constant_quant(model, weights)
    conv = helper.make_node(
        "Conv",
        [first.input[0], quantized.output[0]],
        [nodes[-1].output[0]],
        kernel_shape=[1, 1],
        strides=strides,
        pads=[0, 0, 0, 0],
        dilations=[1, 1],
        group=1,
        name=f"shortcut_{first.name or first.output[0]}",
    )
    at = list(model.graph.node).index(first)
    for node in nodes:
        model.graph.node.remove(node)
    model.graph.node.insert(at, conv)
    model.graph.node.insert(at, quantized)


def _chain(model: Model, first: NodeProto) -> tuple[list[NodeProto], list[int], int, int] | None:
    """Return the nodes from ``first`` on, the strides and the channels padded on both sides.

    None where a slice takes anything but every s-th pixel from the first on.
    """
    strides, nodes = {2: 1, 3: 1}, []
    node: NodeProto | None = first
    while node is not None and node.op_type == "Slice":
        steps = _strides(model, node)
        if steps is None:
            return None
        for axis, step in steps.items():
            strides[axis] *= step
        nodes.append(node)
        node = _only_reader(model, node)
    before, after = 0, 0
    if node is not None and node.op_type == "Pad" and (pads := _padding(model, node)) is not None:
        nodes.append(node)
        before, after = pads
    return nodes, [strides[2], strides[3]], before, after


def _strides(model: Model, node: NodeProto) -> dict[int, int] | None:
    shape = model.get_tensor_shape(node.input[0])
    listed = [_integers(model, name) for name in node.input[1:]]
    values = [v for v in listed if v is not None]
    if shape is None or len(shape) != 4 or len(values) < 2 or len(values) != len(listed):
        return None
    starts, ends = values[0], values[1]
    axes = values[2] if len(values) > 2 else list(range(len(starts)))
    steps = values[3] if len(values) > 3 else [1] * len(starts)
    strides = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        to_the_end = start == 0 and end >= shape[axis] and step >= 1
        if axis % 4 not in (2, 3) or not to_the_end:
            return None
        strides[axis % 4] = step
    return strides


def _padding(model: Model, node: NodeProto) -> tuple[int, int] | None:
    listed = _integers(model, node.input[1]) if len(node.input) > 1 else None
    listed = listed or [x for a in node.attribute if a.name == "pads" for x in a.ints]
    value = model.get_initializer(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if len(listed) != 8 or (value is not None and np.any(value != 0)):
        return None
    mode = next((a.s for a in node.attribute if a.name == "mode"), b"constant")
    channels = (listed[1], listed[5])
    if mode != b"constant" or any(listed[k] for k in (0, 2, 3, 4, 6, 7)) or min(channels) < 0:
        return None
    return channels


def _integers(model: Model, name: str) -> list[int] | None:
    value = model.get_initializer(name)
    return None if value is None else [int(x) for x in np.asarray(value).reshape(-1)]


def _only_reader(model: Model, node: NodeProto) -> NodeProto | None:
    readers = model.find_consumers(node.output[0])
    return readers[0] if len(readers) == 1 else None


def _starts(model: Model, node: NodeProto) -> bool:
    return _is_slice(node) and not _is_slice(model.find_producer(node.input[0]))


def _is_slice(node: NodeProto | None) -> bool:
    return node is not None and node.op_type == "Slice"


def _constant_quant(model: Model, weights: NDArray[np.float32]) -> NodeProto:
    """Return a quantizer of constant weights, 0 and 1, with a scale of 1."""
    values = {"weight": weights, "scale": 1.0, "zero": 0.0, "bits": float(_BITS)}
    names = []
    for value in values.values():
        name = model.make_new_valueinfo_name()
        model.set_initializer(name, np.asarray(value, dtype=np.float32))
        names.append(name)
    output = model.make_new_valueinfo_name()
    model.set_tensor_shape(output, list(weights.shape))
    return helper.make_node(
        "Quant",
        names,
        [output],
        domain="qonnx.custom_op.general",
        signed=1,
        narrow=1,
        rounding_mode="ROUND",
    )

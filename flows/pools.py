"""Bring average pools into the forms that FINN turns into hardware."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from adaqat_hw.qonnx_graph import attributes_of
from flows.flow_state import FlowState
from flows.graph_types import Model


def normalise(state: FlowState) -> None:
    """Write every mean over all pixels as a GlobalAveragePool, other average pools as NHWC.

    Exporters write global pooling as ReduceMean or as an AveragePool of the image's size too. A
    QuantAvgPool2d is what FINN makes of an average pool with a truncation behind it.
    """
    from qonnx.transformation.change_datalayout import ChangeDataLayoutQuantAvgPool2d
    from qonnx.transformation.infer_shapes import InferShapes

    model = state.model
    for node in list(model.graph.node):
        if _is_mean(model, node) or _is_whole_image(model, node):
            node.op_type = "GlobalAveragePool"
            del node.input[1:]
            del node.attribute[:]
    model = model.transform(InferShapes())
    if any(n.op_type == "QuantAvgPool2d" for n in model.graph.node):
        model = model.transform(ChangeDataLayoutQuantAvgPool2d()).transform(InferShapes())
    state.model = model


def _is_mean(model: Model, node: NodeProto) -> bool:
    shape = model.get_tensor_shape(node.input[0]) if node.op_type == "ReduceMean" else None
    if shape is None or len(shape) != 4:
        return False
    flags = attributes_of(node)
    axes = flags.get("axes")
    if len(node.input) > 1:
        axes = model.get_initializer(node.input[1])
    if axes is None or flags.get("keepdims", 1) != 1:
        return False
    return sorted(int(axis) % 4 for axis in np.asarray(axes).reshape(-1)) == [2, 3]


def _is_whole_image(model: Model, node: NodeProto) -> bool:
    shape = model.get_tensor_shape(node.input[0]) if node.op_type == "AveragePool" else None
    if shape is None or len(shape) != 4:
        return False
    flags = attributes_of(node)
    return list(flags.get("kernel_shape", ())) == list(shape[2:]) and not any(flags.get("pads", ()))

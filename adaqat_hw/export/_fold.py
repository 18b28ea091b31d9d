"""Fold the constants of an exported graph in one pass."""

from __future__ import annotations

import qonnx.core.onnx_exec as oxe
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.infer_shapes import InferShapes

_KEPT = ("Quant", "BipolarQuant")


def fold_constants(model: ModelWrapper) -> ModelWrapper:
    """Replace nodes that compute constants (shapes, in the main) by initializers, in place.

    qonnx's own FoldConstants folds one node, infers all shapes again and starts over, which takes
    minutes for a transformer; its cleanup finds nothing left to fold after this.
    """
    model = model.transform(InferShapes())
    graph, context = model.graph, model.make_empty_exec_context()
    opset = model.model.opset_import[0].version
    constants = {x.name for x in graph.initializer}
    folded = []
    for node in graph.node:
        if node.op_type in _KEPT or len(node.output) != 1:
            continue
        shape = node.op_type == "Shape" and model.get_tensor_shape(node.input[0]) is not None
        if not shape and not all(x in constants for x in node.input if x):
            continue
        for name in node.input:
            model.get_tensor_shape(name, fix_missing_init_shape=True)
        oxe.execute_node(node, context, graph, opset_version=opset)
        model.set_initializer(node.output[0], context[node.output[0]])
        constants.add(node.output[0])
        folded.append(node)
    for node in folded:
        graph.node.remove(node)
    return model

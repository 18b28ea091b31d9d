"""Export with Brevitas, clean up with qonnx, and name the nodes after the layers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import qonnx.core.onnx_exec as oxe
import torch
from brevitas.export import export_qonnx
from onnx import numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.util.cleanup import cleanup_model

from adaqat_hw.errors import ExportMismatch
from adaqat_hw.export.inspect import NodeBits, read_graph_bits
from adaqat_hw.quant import QuantizedNetwork

_QUANTIZERS = ("Quant", "BipolarQuant")
# The default (dynamo) exporter writes global average pooling as ReduceMean, which FINN does not
# match, and keeps weights in a second file. Seen with torch 2.13; delete when neither is so.
_EXPORTER = {"dynamo": False, "opset_version": 13}


def write_qonnx(net: QuantizedNetwork, path: Path) -> None:
    """Write ``net`` as one QONNX file for batch size 1, its layers' nodes named after them.

    Raises:
        ExportMismatch: a layer has no node of its own in the graph, or a node no layer.
    """
    dtype = torch.int64 if net.integer_input else torch.float32
    sample = torch.zeros(1, *net.spec.input_shape, dtype=dtype)
    raw = path.with_name(f".{path.name}.raw")
    try:
        with warnings.catch_warnings():
            # The exporter warns that it is not the default one.
            warnings.simplefilter("ignore")
            export_qonnx(net.eval(), sample, export_path=str(raw), **_EXPORTER)
        model = cleanup_model(_fold_constants(ModelWrapper(str(raw))))
    finally:
        raw.unlink(missing_ok=True)
    _resize_by_factors(model)
    products = [x.name for x in net.spec.layers if x.kind == "matmul"]
    name_layers(model.model, layer_weights(net), products)
    model.save(str(path))


def layer_weights(net: QuantizedNetwork) -> dict[str, np.ndarray[Any, Any]]:
    """Return the float weights of every layer that has any, by name, in execution order."""
    state = net.network.state_dict()
    return {name: state[f"{name}.weight"].cpu().numpy() for name in net.weight_widths}


def name_layers(
    model: onnx.ModelProto,
    weights: Mapping[str, np.ndarray[Any, Any]],
    products: Sequence[str] = (),
) -> None:
    """Rename each Conv, MatMul and Gemm to the layer whose weights it holds.

    Nodes are matched by the weights' values, in graph order where two layers hold equal ones.
    ``products`` are the products of two activations in execution order, which is the graph's.

    Raises:
        ExportMismatch: a node without a layer, or a layer without a node.
    """
    tensors = {x.name: x for x in model.graph.initializer}
    nodes = {n.name: n for n in model.graph.node}
    open_layers = dict(weights)
    layer_bits = read_graph_bits(model, "the exported graph")
    matmuls = [bits.node for bits in layer_bits if bits.product]
    if len(matmuls) != len(products):
        raise ExportMismatch(
            f"The exported graph has {len(matmuls)} products of two activations {matmuls!r}, the "
            f"network {len(products)} {list(products)!r}; the exporter changed or duplicated a "
            "layer."
        )
    for node, name in zip(matmuls, products, strict=True):
        nodes[node].name = name
    for bits in layer_bits:
        if bits.product:
            continue
        match = next(
            (layer for layer, value in open_layers.items() if _holds(bits, tensors, value)), None
        )
        if match is None:
            raise ExportMismatch(
                f"Node {bits.node!r} ({bits.op}) of the exported graph holds the weights of no "
                f"layer that is left ({', '.join(map(repr, open_layers)) or 'none'}); the exporter "
                "changed or duplicated a layer."
            )
        del open_layers[match]
        nodes[bits.node].name = match
    if open_layers:
        raise ExportMismatch(
            f"Layers {', '.join(map(repr, open_layers))} have no node in the exported graph; the "
            "exporter dropped or merged them."
        )


def _holds(
    bits: NodeBits, tensors: Mapping[str, onnx.TensorProto], value: np.ndarray[Any, Any]
) -> bool:
    if bits.weight_tensor is None:
        return False
    held = np.asarray(numpy_helper.to_array(tensors[bits.weight_tensor]))
    return np.array_equal(held, value) or (held.ndim == 2 and np.array_equal(held.T, value))


def _resize_by_factors(model: ModelWrapper) -> None:
    """Say by which factors a Resize enlarges, in place of the size, which includes the batch."""
    for node in model.graph.node:
        if node.op_type != "Resize" or len(node.input) < 4 or not node.input[3]:
            continue
        before, after = (model.get_tensor_shape(x) for x in (node.input[0], node.output[0]))
        factors = np.array(after, dtype=np.float32) / np.array(before, dtype=np.float32)
        size, name = node.input[3], f"{node.name}_factors"
        model.set_initializer(name, factors)
        node.input[2] = name
        del node.input[3]
        if not model.find_consumers(size):
            held = [x for x in model.graph.initializer if x.name == size]
            model.graph.initializer.remove(held[0])


def _fold_constants(model: ModelWrapper) -> ModelWrapper:
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
        if node.op_type in _QUANTIZERS or len(node.output) != 1:
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

"""Fold what depends on constants and fixed shapes only, so that a file is judged as it is built."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from adaqat_hw.compile._qonnx_graph import attributes_of

# What exporters compute shapes and scales with; nothing here makes a tensor larger than its inputs.
_FOLDED = (
    *("Shape", "Gather", "Unsqueeze", "Squeeze", "Concat", "Cast", "Identity", "Reshape", "Slice"),
    *("Transpose", "Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Neg", "Floor"),
)
_LARGEST = 2**20  # elements; larger weights are left to their node


def fold_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose constant nodes are initializers; ``model`` stays as it is.

    What cannot be computed is left in the graph, where it is judged like any node. Quantizers of
    weights are left too.
    """
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    graph = folded.graph
    values: dict[str, Any] = {x.name: x for x in graph.initializer}
    shapes = _shapes(folded) if any(n.op_type == "Shape" for n in graph.node) else {}
    kept = []
    for node in graph.node:
        found = _value(node, values, shapes, folded)
        if found is None:
            kept.append(node)
            continue
        tensor = numpy_helper.from_array(found, node.output[0])
        graph.initializer.append(tensor)
        values[node.output[0]] = tensor
    del graph.node[:]
    graph.node.extend(kept)
    return folded


def _value(
    node: onnx.NodeProto, values: dict[str, Any], shapes: dict[str, Any], model: onnx.ModelProto
) -> np.ndarray[Any, Any] | None:
    if node.op_type not in (*_FOLDED, "Constant") or len(node.output) != 1:
        return None
    if node.op_type == "Shape" and not attributes_of(node):
        return shapes.get(node.input[0])
    if node.op_type == "Constant":
        value = attributes_of(node).get("value")
        return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else None
    constants = [x for name in node.input if (x := values.get(name)) is not None]
    if not constants or len(constants) < len(node.input):
        return None
    if any(int(np.prod(x.dims)) > _LARGEST for x in constants):
        return None
    try:
        arrays = [numpy_helper.to_array(x) for x in constants]
        # Two small constants can broadcast to a huge one.
        if np.prod(np.broadcast_shapes(*(a.shape for a in arrays)), dtype=float) > _LARGEST:
            return None
    except ValueError:
        pass  # an operator whose inputs do not broadcast, like Concat
    return _execute(node, arrays, model)


def _execute(
    node: onnx.NodeProto, arrays: list[np.ndarray[Any, Any]], model: onnx.ModelProto
) -> np.ndarray[Any, Any] | None:
    from onnx.reference import ReferenceEvaluator

    graph = onnx.helper.make_graph(
        [node],
        "constant",
        [_info(n, a) for n, a in zip(node.input, arrays, strict=True)],
        [onnx.helper.make_empty_tensor_value_info(node.output[0])],
    )
    imports = [x for x in model.opset_import if x.domain in ("", "ai.onnx")]
    one = onnx.helper.make_model(graph, opset_imports=imports, ir_version=model.ir_version)
    try:
        feed = dict(zip(node.input, arrays, strict=True))
        outputs: Any = ReferenceEvaluator(one).run(None, feed)
        return np.asarray(outputs[0])
    except Exception:  # what cannot be computed is judged as it stands
        return None


def _info(name: str, array: np.ndarray[Any, Any]) -> onnx.ValueInfoProto:
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnx.helper.make_tensor_value_info(name, kind, array.shape)


def _shapes(model: onnx.ModelProto) -> dict[str, Any]:
    """Return the fixed shapes of tensors as arrays, of the inputs at least."""
    known = [*model.graph.input, *model.graph.value_info]
    found = {}
    for value in known:
        dims = value.type.tensor_type.shape.dim
        if dims and all(d.HasField("dim_value") and d.dim_value > 0 for d in dims):
            found[value.name] = np.array([d.dim_value for d in dims], dtype=np.int64)
    return found

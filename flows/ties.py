"""Rounding ties: thresholds that round them as quantizers do, and frames that differ by one.

FINN turns a quantizer into thresholds, which round a value exactly between two levels up; the
quantizer rounds it to even. Sums and integers that are quantized again hit such points often, so
their integer thresholds are moved to round to even too. What is left is a value that float noise
moves across such a point. A frame that differs for this reason alone agrees with the QONNX file
once every activation is moved by a ten-thousandth of a level, up or down; a wrong build does not.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_state import FlowError, FlowState
from network import constant_of

NUDGE = 1e-4
_PRODUCTS = ("MatMul", "XnorPopcountMatMul")
# Thresholds are float32 numbers; this near an integer they are it. Those of sums and of values
# that are quantized again are quotients of scales. Those of products also hold batch norm's
# statistics, which come near an integer by chance, so that only float32's own error counts.
_QUOTIENT_NOISE, _PRODUCT_NOISE = 2e-6, 1.2e-7


def round_thresholds(state: FlowState) -> None:
    """Make the thresholds of integer inputs integers, so that ties round to even."""
    from finn.transformation.streamline.round_thresholds import RoundAndClipThresholds
    from qonnx.custom_op.registry import getCustomOp

    model = state.model
    for node in [n for n in model.graph.node if n.op_type == "MultiThreshold"]:
        if model.get_tensor_datatype(node.input[0]).is_integer():
            first = int(np.rint(getCustomOp(node).get_nodeattr("out_bias")))
            producer = model.find_producer(node.input[0])
            of_product = producer is not None and producer.op_type in _PRODUCTS
            noise = _PRODUCT_NOISE if of_product else _QUOTIENT_NOISE
            exact = to_even(model.get_initializer(node.input[1]), first, noise)
            model.set_initializer(node.input[1], exact)
    state.model = model.transform(RoundAndClipThresholds())


def to_even(thresholds: NDArray[Any], first: int, noise: float) -> NDArray[np.float32]:
    """Round thresholds of integers up, those at an integer so that the tie goes to even.

    Args:
        thresholds: (channels, steps); step k leads from level ``first + k`` to the next one.
        first: level below the first threshold.
        noise: relative error of the thresholds.

    Returns:
        The smallest integer of each step that reaches the upper level.
    """
    values = np.asarray(thresholds, dtype=np.float64)
    nearest = np.rint(values)
    near = np.abs(values - nearest) <= noise * np.maximum(1.0, np.abs(values))
    lower = first + np.arange(values.shape[-1])
    tie = nearest + (lower % 2 == 0)
    return np.where(near, tie, np.ceil(values)).astype(np.float32)


def nudged_logits(model: Any, inputs: NDArray[np.float32], direction: int) -> NDArray[np.float64]:
    """Execute the QONNX file with every inner activation moved towards the next level.

    Args:
        model: ModelWrapper of the file, with one input.
        inputs: (n, ...) float frames.
        direction: 1 for up, -1 for down, 0 for the file as it is.

    Returns:
        (n, classes) logits.
    """
    from qonnx.core.onnx_exec import execute_onnx

    moved = _nudged(model, direction * NUDGE)
    source, target = moved.graph.input[0].name, moved.graph.output[0].name
    rows = [execute_onnx(moved, {source: frame[np.newaxis]})[target] for frame in inputs]
    return np.concatenate([np.asarray(r, dtype=np.float64).reshape(1, -1) for r in rows])


def _nudged(model: Any, levels: float) -> Any:
    from onnx import TensorProto, helper
    from qonnx.transformation.infer_shapes import InferShapes

    if levels == 0:
        return model.transform(InferShapes())
    moved = deepcopy(model).transform(InferShapes())
    entry = moved.graph.input[0].name
    for node in [n for n in moved.graph.node if n.op_type in ("Quant", "IntQuant")]:
        tensor = node.input[0]
        if tensor == entry or constant_of(moved, tensor) is not None:
            continue
        scale, shape = constant_of(moved, node.input[1]), moved.get_tensor_shape(tensor)
        if scale is None or shape is None:
            raise FlowError(f"the scale or the shape of quantizer {node.name!r} is unknown")
        offset, output = f"{node.output[0]}_nudge", f"{node.output[0]}_nudged"
        moved.graph.value_info.append(
            helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
        )
        moved.set_initializer(offset, (scale * levels).astype(np.float32))
        add = helper.make_node("Add", [tensor, offset], [output], name=f"{output}_add")
        node.input[0] = output
        moved.graph.node.insert(list(moved.graph.node).index(node), add)
    return moved

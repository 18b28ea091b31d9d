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
from onnx import NodeProto, TensorProto, helper

from adaqat_hw.qonnx_graph import QUANT_OPS
from flows.bipolar import is_inclusive, require_marks
from flows.flow_state import FlowError, FlowState
from flows.graph_types import Model, custom_op, known_initializer
from flows.network import MOVES, constant_of, data_input

NUDGE = 1e-4
# Of the largest value: far above float32's error in a sum, far below a level.
THRESHOLD_NUDGE = 1e-5
# (levels, signs): which way ties go; up for signs only is what the integer thresholds do.
WAYS = ((1, 1), (-1, -1), (0, 1))
_PRODUCTS = ("MatMul",)
# Thresholds are float32 numbers; this near an integer they are it. Those of sums and of values
# that are quantized again are quotients of scales. Those of products also hold batch norm's
# statistics, which come near an integer by chance, so that only float32's own error counts.
_QUOTIENT_NOISE, _PRODUCT_NOISE = 2e-6, 1.2e-7


def round_thresholds(state: FlowState) -> None:
    """Make the thresholds of integer inputs integers, so that ties round to even."""
    from finn.transformation.streamline.round_thresholds import RoundAndClipThresholds

    require_marks(state)
    model = state.model
    for node in [n for n in model.graph.node if n.op_type == "MultiThreshold"]:
        if model.get_tensor_datatype(node.input[0]).is_integer():
            first = int(np.rint(custom_op(node).get_nodeattr("out_bias")))
            producer = model.find_producer(node.input[0])
            of_product = producer is not None and producer.op_type in _PRODUCTS
            noise = _PRODUCT_NOISE if of_product else _QUOTIENT_NOISE
            thresholds = known_initializer(model, node.input[1])
            exact = integer_thresholds(thresholds, None if is_inclusive(node) else first, noise)
            model.set_initializer(node.input[1], exact)
    state.model = model.transform(RoundAndClipThresholds())


def integer_thresholds(
    thresholds: NDArray[Any], first: int | None, noise: float
) -> NDArray[np.float32]:
    """Round thresholds of integers up, those at an integer so that the tie goes to even.

    Args:
        thresholds: (channels, steps); step k leads from level ``first + k`` to the next one.
        first: level below the first threshold, or None where a tie goes up (BipolarQuant).
        noise: relative error of the thresholds.

    Returns:
        The smallest integer of each step that reaches the upper level.
    """
    values = np.asarray(thresholds, dtype=np.float64)
    nearest = np.rint(values)
    near = np.abs(values - nearest) <= noise * np.maximum(1.0, np.abs(values))
    lower = 1 if first is None else first + np.arange(values.shape[-1])
    tie = nearest + (np.asarray(lower) % 2 == 0)
    return np.where(near, tie, np.ceil(values)).astype(np.float32)


def nudged_logits(
    model: Model, inputs: NDArray[np.float32], direction: int, signs: int | None = None
) -> NDArray[np.float64]:
    """Execute a float graph with every inner activation moved towards the next level.

    Args:
        model: ModelWrapper of the QONNX file, or of what a step made of it, with one input.
        inputs: (n, ...) float frames.
        direction: 1 for up, -1 for down, 0 for the graph as it is.
        signs: the direction of what is quantized to two levels, where it is another.

    Returns:
        (n, classes) logits.
    """
    from qonnx.core.onnx_exec import execute_onnx

    moved = _nudged(model, inputs, direction, direction if signs is None else signs)
    source, target = moved.graph.input[0].name, moved.graph.output[0].name
    rows = [execute_onnx(moved, {source: frame[np.newaxis]})[target] for frame in inputs]
    return np.concatenate([np.asarray(r, dtype=np.float64).reshape(1, -1) for r in rows])


def _nudged(model: Model, inputs: NDArray[np.float32], direction: int, signs: int) -> Model:
    from qonnx.transformation.infer_shapes import InferShapes

    if direction == signs == 0:
        return model.transform(InferShapes())
    moved = deepcopy(model).transform(InferShapes())
    quantizers = [n for n in moved.graph.node if n.op_type in (*QUANT_OPS, "MultiThreshold")]
    largest = _largest_inputs(moved, quantizers, inputs[:1])
    first = _input_quantizer(moved)
    for node in quantizers:
        tensor = node.input[0]
        if node.output[0] == first or constant_of(moved, tensor) is not None:
            continue
        way = signs if node.op_type == "BipolarQuant" or is_inclusive(node) else direction
        shape = moved.get_tensor_shape(tensor)
        if node.op_type == "MultiThreshold":
            amount: NDArray[Any] | None = np.asarray(largest[tensor] * THRESHOLD_NUDGE)
        else:
            scale = constant_of(moved, node.input[1])
            amount = scale * NUDGE if scale is not None else None
        if amount is None or shape is None:
            raise FlowError(f"the scale or the shape of quantizer {node.name!r} is unknown")
        offset, output = f"{node.output[0]}_nudge", f"{node.output[0]}_nudged"
        moved.graph.value_info.append(
            helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
        )
        moved.set_initializer(offset, (way * amount).astype(np.float32))
        add = helper.make_node("Add", [tensor, offset], [output], name=f"{output}_add")
        node.input[0] = output
        moved.graph.node.insert(list(moved.graph.node).index(node), add)
    return moved


def _largest_inputs(
    model: Model, nodes: list[NodeProto], inputs: NDArray[np.float32]
) -> dict[str, float]:
    """Return the largest magnitude that each threshold node reads; it has no scale to go by."""
    from qonnx.core.onnx_exec import execute_onnx

    read = [n.input[0] for n in nodes if n.op_type == "MultiThreshold"]
    if not read:
        return {}
    feed = {model.graph.input[0].name: inputs}
    values = execute_onnx(model, feed, return_full_exec_context=True)
    return {tensor: float(np.max(np.abs(values[tensor]))) for tensor in read}


def _input_quantizer(model: Model) -> str | None:
    """Return what the input's own quantizer puts out; the host computes that exactly."""
    tensor = model.graph.input[0].name
    while len(readers := model.find_consumers(tensor)) == 1:
        node = readers[0]
        if node.op_type in (*QUANT_OPS, "MultiThreshold"):
            return str(node.output[0])
        if node.op_type not in MOVES and data_input(model, node) is None:
            return None
        tensor = node.output[0]
    return None

"""Bring a QONNX file from elsewhere into the form of this project's own exports.

Nothing here changes what the network computes: shapes that are constants become constants, what
only a host can do is cut off and recorded, and quantizers to -1 and +1 become integers of which
this project's and FINN's layers know.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from adaqat_hw.qonnx_graph import QUANT_OPS, QonnxGraph
from adaqat_hw.schema import InputStep
from flows.flow_state import FlowState, Refused
from flows.graph_types import Model
from flows.network import MOVES, constant_of, data_input

_StepOp = Literal["add", "sub", "mul", "div"]
# An operation, its constant, and the shape of what it is applied to.
_Step = tuple[_StepOp, NDArray[np.float32], tuple[int, ...]]

_AFFINE: dict[str, _StepOp] = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div"}
_ORDERED = ("Reshape", "Flatten", "Identity", "Squeeze", "Unsqueeze")
_QUANT_DOMAIN = "qonnx.custom_op.general"


def fold_constants(state: FlowState) -> None:
    """Compute what depends on constants and fixed shapes only; quantizers of weights stay."""
    from qonnx.transformation.infer_shapes import InferShapes

    model = state.model
    if any(n.op_type == "Shape" for n in model.graph.node):
        model = model.transform(InferShapes())
    while constants := QonnxGraph(model.model).computed():
        left = [n for n in model.graph.node if not n.output or n.output[0] not in constants]
        del model.graph.node[:]
        model.graph.node.extend(left)
        for tensor, value in constants.items():
            model.set_initializer(tensor, value)
        model = model.transform(InferShapes())  # it may tell shapes that were not known
    state.model = model.cleanup()


def cut_softmax(state: FlowState) -> None:
    """Remove a softmax at the network's end; it does not change which class is the largest."""
    model = state.model
    node = model.find_producer(model.graph.output[0].name)
    if node is None or node.op_type not in ("Softmax", "LogSoftmax"):
        return
    if node.op_type == "LogSoftmax" or not _over_classes(model, node):
        raise Refused(
            [f"{node.op_type} {node.name!r} at the end is no softmax over the classes; take it "
             "in software and end the network with its logits."]
        )  # fmt: skip
    _bypass_last(model, node)
    state.softmax = True
    state.remark("The softmax at the end is left to the host: the accelerator puts out logits.")


def quantize_declared_input(state: FlowState) -> None:
    """Put a quantizer at an input that the file declares to be integers (qonnx's annotation).

    It changes nothing of what such an input may be; the later steps read the type off it.
    """
    model, tensor = state.model, state.input_name
    datatype = model.get_tensor_datatype(tensor)
    readers = model.find_consumers(tensor)
    if datatype.name == "FLOAT32" or not datatype.is_integer() or quantizer_ahead(model, tensor):
        return
    declared = f"{tensor}_declared"
    for node in readers:
        node.input[:] = [declared if name == tensor else name for name in node.input]
    if datatype.name == "BIPOLAR":
        operator, values = "BipolarQuant", [1.0]
        flags: dict[str, Any] = {}
    else:
        # TERNARY is INT2 without -2.
        signed = int(datatype.min() < 0)
        narrow = int(datatype.name == "TERNARY")
        operator, values = "Quant", [1.0, 0.0, float(datatype.bitwidth())]
        flags = {"signed": signed, "narrow": narrow, "rounding_mode": "ROUND"}
    node = helper.make_node(
        operator, [tensor, *_constants(model, declared, values)], [declared],
        name=declared, domain=_QUANT_DOMAIN, **flags,
    )  # fmt: skip
    model.graph.node.insert(0, node)
    from qonnx.core.datatype import DataType

    model.set_tensor_datatype(tensor, DataType["FLOAT32"])
    model.set_tensor_shape(declared, model.get_tensor_shape(tensor))
    state.remark(f"The file declares its input to be {datatype.name} integers; it is taken so.")


def quantizer_ahead(model: Model, tensor: str) -> bool:
    """Tell whether only moves and constant affines lie between a tensor and its one quantizer."""
    while True:
        readers = model.find_consumers(tensor)
        if len(readers) != 1:
            return False
        node = readers[0]
        if node.op_type in QUANT_OPS:
            return bool(node.input[0] == tensor)
        if node.op_type not in MOVES and data_input(model, node) is None:
            return False
        tensor = node.output[0]


def cut_affine(state: FlowState) -> None:
    """Take the constant affine before the input's quantizer off; record it in ``state.steps``."""
    model, tensor = state.model, state.input_name
    if not quantizer_ahead(model, tensor):
        return  # network.input_quantizer says why
    shape, ordered = tuple(state.input_shape), True
    steps: list[_Step] = []
    affine: list[NodeProto] = []
    while (node := model.find_consumers(tensor)[0]).op_type not in QUANT_OPS:
        if node.op_type in MOVES:
            ordered = ordered and node.op_type in _ORDERED
        else:
            steps += _steps_of(model, node, tensor, shape, ordered)
            affine.append(node)
        tensor = node.output[0]
        if node.op_type in MOVES:
            shape = tuple(model.get_tensor_shape(tensor) or ())
    for node in affine:
        source = data_input(model, node)
        assert source is not None, "only constant affines lie before the quantizer"
        _bypass(model, node, source)
    state.steps = tuple(_as_input(step, state.input_shape) for step in steps)


def apply_steps(steps: tuple[InputStep, ...], inputs: NDArray[Any]) -> NDArray[np.float32]:
    """Compute in float32 what the network computes before its input quantizer.

    Args:
        steps: the recorded affine.
        inputs: (n, ...) raw inputs in the network's own layout.
    """
    values = np.asarray(inputs, dtype=np.float32)
    for step in steps:
        constant = np.asarray(step.values, dtype=np.float32).reshape(step.shape)
        values = getattr(np, _UFUNC[step.op])(values, constant)
    return np.asarray(values, dtype=np.float32)


def undo_steps(steps: tuple[InputStep, ...], values: NDArray[Any]) -> NDArray[np.float32]:
    """Return raw inputs that the affine brings to ``values``, but for rounding."""
    raw = np.asarray(values, dtype=np.float64)
    for step in reversed(steps):
        constant = np.asarray(step.values, dtype=np.float64).reshape(step.shape)
        raw = getattr(np, _UFUNC[_INVERSE[step.op]])(raw, constant)
    return raw.astype(np.float32)


_UFUNC = {"add": "add", "sub": "subtract", "mul": "multiply", "div": "divide"}
_INVERSE = {"add": "sub", "sub": "add", "mul": "div", "div": "mul"}


def _steps_of(
    model: Model, node: NodeProto, tensor: str, shape: tuple[int, ...], ordered: bool
) -> list[_Step]:
    side = list(node.input).index(tensor)
    value = np.asarray(constant_of(model, node.input[1 - side]), dtype=np.float32)
    if value.size != 1 and not ordered:
        raise Refused(
            [f"{node.op_type} {node.name!r} before the input quantizer has a constant of "
             f"{value.size} values behind a transposition; put it before the transposition, or "
             "take it in software."]
        )  # fmt: skip
    if side == 1 and node.op_type == "Sub":  # c - x
        return [("mul", np.full((), -1.0, dtype=np.float32), shape), ("add", value, shape)]
    return [(_AFFINE[node.op_type], value, shape)]


def _as_input(step: _Step, input_shape: tuple[int, ...]) -> InputStep:
    """Write a constant so that it broadcasts against frames as the network takes them."""
    op, value, shape = step
    if value.size == 1:
        return InputStep(op=op, values=(float(value.reshape(-1)[0]),), shape=())
    if shape == tuple(input_shape):
        fitting = value.reshape((1,) * (len(shape) - value.ndim) + value.shape)[0]
    else:
        fitting = np.broadcast_to(value, shape).reshape(input_shape)[0]
    return InputStep(
        op=op, values=tuple(float(x) for x in fitting.reshape(-1)), shape=fitting.shape
    )


def _over_classes(model: Model, node: NodeProto) -> bool:
    shape = model.get_tensor_shape(node.input[0]) or ()
    axis = {a.name: a.i for a in node.attribute}.get("axis")
    return math.prod(shape) == max(shape, default=0) and axis in (None, -1, len(shape) - 1)


def _bypass(model: Model, node: NodeProto, source: str) -> None:
    for reader in model.find_consumers(node.output[0]):
        reader.input[:] = [source if x == node.output[0] else x for x in reader.input]
    model.graph.node.remove(node)


def _bypass_last(model: Model, node: NodeProto) -> None:
    source, target = node.input[0], node.output[0]
    model.graph.node.remove(node)
    for other in model.graph.node:
        other.input[:] = [target if x == source else x for x in other.input]
        other.output[:] = [target if x == source else x for x in other.output]


def _constants(model: Model, stem: str, values: list[float]) -> list[str]:
    names = [f"{stem}_{k}" for k in range(len(values))]
    for name, value in zip(names, values, strict=True):
        model.set_initializer(name, np.asarray(value, dtype=np.float32))
    return names

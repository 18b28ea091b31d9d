"""Cut the host interface off the graph (input quantizer, output scale): integers in and out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from adaqat_hw.schema import HostInterface, InputStep, IntType
from flows.flow_state import FlowState, InputQuantizer, Refused
from flows.graph_types import DataType, Model, known_shape
from flows.normalize_qonnx import apply_steps, undo_steps

_NCHW_TO_NHWC = [0, 2, 3, 1]


def cut_host_interface(state: FlowState) -> None:
    """Remove the input quantizer and the output scale from ``state.model``; set ``state.host``.

    Raises:
        Refused: the graph does not begin with a quantizer, or does not end in integers.
    """
    quantizer = state.quantizer
    model = state.model
    nchw = len(state.input_shape) == 4
    input_type = _cut_head(model, quantizer.bits, quantizer.signed)
    scale, bias = _cut_tail(model)
    tensor_in, tensor_out = model.graph.input[0].name, model.graph.output[0].name
    output_shape = known_shape(model, tensor_out)[1:]
    state.host = HostInterface(
        input_scale=quantizer.scale,
        input_dtype=input_type,
        input_narrow=quantizer.narrow,
        input_steps=state.steps,
        input_bipolar=quantizer.bipolar,
        output_softmax=state.softmax,
        input_nchw=nchw,
        input_shape=known_shape(model, tensor_in)[1:],
        output_shape=output_shape,
        output_dtype=_output_type(model.get_tensor_datatype(tensor_out)),
        output_scale=_per_class(scale, output_shape),
        output_bias=_per_class(bias, output_shape),
    )
    state.model = _tidy(model)


def quantize_inputs(host: HostInterface, inputs: NDArray[Any]) -> NDArray[np.int64]:
    """Quantize float inputs as the software in front of the accelerator does.

    Args:
        host: the host interface.
        inputs: (n, ...) in the network's own layout.

    Returns:
        (n, *host.input_shape) integers.
    """
    dtype = host.input_dtype
    low, high = dtype_range(dtype.bits, dtype.signed, host.input_narrow)
    values = apply_steps(host.input_steps, inputs)
    if host.input_bipolar:
        integers = np.where(values >= 0, high, low).astype(np.int64)
    else:
        scaled = np.round(values / np.float32(host.input_scale))
        integers = np.clip(scaled, low, high).astype(np.int64)
    if host.input_nchw and len(host.input_shape) == 3:
        integers = np.transpose(integers, (0, 2, 3, 1))
    return integers.reshape(len(integers), *host.input_shape)


def logits(host: HostInterface, outputs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Scale integer outputs (n, ...) to the network's logits (n, classes)."""
    flat = outputs.reshape(len(outputs), -1).astype(np.float64)
    scale, bias = np.asarray(host.output_scale), np.asarray(host.output_bias)
    return np.asarray(flat * scale + bias, dtype=np.float64)


def raw_values(
    quantizer: InputQuantizer, steps: tuple[InputStep, ...], integers: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return raw inputs (n, ...) that the host quantizes to ``integers`` in the same layout."""
    if quantizer.bipolar:
        integers = np.where(integers > 0, 1, -1)
    return undo_steps(steps, integers * quantizer.scale)


def int_type(datatype: DataType, tensor: str) -> IntType:
    """Convert a qonnx data type; raise Refused when it is no plain integer."""
    name = datatype.name
    if name == "BINARY" or name == "TERNARY" or name.startswith(("INT", "UINT")):
        return IntType(bits=int(datatype.bitwidth()), signed=bool(datatype.signed()))
    raise Refused([f"The data type of {tensor} is {name!r}; the accelerator needs integers."])


def _output_type(datatype: DataType) -> IntType:
    """Return the output's type so far; a float output is left to check_supported to explain."""
    if not datatype.is_integer():
        return IntType(bits=32, signed=True)
    return int_type(datatype, "the output")


def dtype_range(bits: int, signed: bool, narrow: bool) -> tuple[int, int]:
    """Return the lowest and highest integer of a quantizer."""
    if not signed:
        return 0, 2**bits - 1 - int(narrow)
    return -(2 ** (bits - 1)) + int(narrow), 2 ** (bits - 1) - 1


def _cut_head(model: Model, bits: int, signed: bool) -> IntType:
    graph = model.graph
    source = graph.input[0].name
    quantized: IntType | None = None
    shape = model.get_tensor_shape(source)
    datatype: DataType | None = None
    tensor = source
    transposed = False
    while True:
        readers = model.find_consumers(tensor)
        if len(readers) != 1:
            break
        node = readers[0]
        if node.op_type == "MultiThreshold" and quantized is None:
            datatype = model.get_tensor_datatype(node.output[0])
            quantized = int_type(datatype, "the quantized input")
        elif node.op_type == "Transpose" and not transposed and _is_to_nhwc(node):
            transposed = True
        elif node.op_type not in ("Reshape", "Flatten") or transposed:
            break
        graph.node.remove(node)
        tensor = node.output[0]
        shape = model.get_tensor_shape(tensor)
    if quantized is None:
        operators = [n.op_type for n in model.find_consumers(source)]
        raise Refused(
            [
                f"After streamlining, the network begins with {operators!r} instead of its input "
                "quantizer; the quantizer must be the only reader of the input."
            ]
        )
    if (quantized.bits, quantized.signed) != (bits, signed):
        raise Refused(
            [
                f"FINN made {quantized!r} of the input quantizer, which has {bits} bits and "
                f"signed={signed!r}; use a per-tensor quantizer without zero point."
            ]
        )
    for node in graph.node:
        for k, name in enumerate(node.input):
            if name == tensor:
                node.input[k] = source
    model.set_tensor_shape(source, shape)
    model.set_tensor_datatype(source, datatype)
    if transposed:
        from qonnx.core import data_layout

        model.set_tensor_layout(source, data_layout.NHWC)
    return quantized


def _is_to_nhwc(node: NodeProto) -> bool:
    perm = [list(a.ints) for a in node.attribute if a.name == "perm"]
    return perm == [_NCHW_TO_NHWC]


def _cut_tail(model: Model) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    graph = model.graph
    target = graph.output[0].name
    scale, bias = np.ones(1), np.zeros(1)
    while True:
        node = model.find_producer(target)
        if node is None or node.op_type not in ("Mul", "Add", "Sub", "Div"):
            return scale, bias
        side = [k for k in range(2) if model.get_initializer(node.input[k]) is not None]
        if len(side) != 1 or (side[0] == 0 and node.op_type in ("Sub", "Div")):
            return scale, bias
        value = np.asarray(model.get_initializer(node.input[side[0]]), dtype=np.float64).reshape(-1)
        source = node.input[1 - side[0]]
        producer = model.find_producer(source)
        if producer is None or len(model.find_consumers(source)) != 1:
            return scale, bias
        if node.op_type in ("Mul", "Div"):
            scale = scale * (value if node.op_type == "Mul" else 1.0 / value)
        else:
            bias = bias + scale * (value if node.op_type == "Add" else -value)
        shape, datatype = model.get_tensor_shape(source), model.get_tensor_datatype(source)
        graph.node.remove(node)
        producer.output[0] = target
        model.set_tensor_shape(target, shape)
        model.set_tensor_datatype(target, datatype)


def _per_class(values: NDArray[np.float64], output_shape: tuple[int, ...]) -> tuple[float, ...]:
    classes = int(np.prod(output_shape))
    if values.size not in (1, classes):
        raise Refused(
            [
                f"The output scale has {values.size} values for {classes} outputs; the network "
                "must end in a layer with one scale, or one per class."
            ]
        )
    return tuple(float(x) for x in values)


def _tidy(model: Model) -> Model:
    from qonnx.transformation.general import (
        GiveReadableTensorNames,
        GiveUniqueNodeNames,
        RemoveUnusedTensors,
        SortGraph,
    )
    from qonnx.transformation.infer_data_layouts import InferDataLayouts
    from qonnx.transformation.infer_datatypes import InferDataTypes
    from qonnx.transformation.infer_shapes import InferShapes

    for transformation in (
        RemoveUnusedTensors(),
        SortGraph(),
        GiveUniqueNodeNames(),
        GiveReadableTensorNames(),
        InferShapes(),
        InferDataTypes(),
        InferDataLayouts(),
    ):
        model = model.transform(transformation)
    return model

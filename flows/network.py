"""Read the layers and the input quantizer of a QONNX file before the flow transforms it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from adaqat_hw.qonnx_graph import AFFINE_OPS, MAC_OPS, QUANT_OPS, attributes_of
from flows.flow_state import InputQuantizer, MacLayer, Refused
from flows.graph_types import Model

MOVES = ("Transpose", "Reshape", "Flatten", "Identity", "Squeeze", "Unsqueeze")


def mac_layers(model: Model, names: tuple[str, ...]) -> list[MacLayer]:
    """List the multiply-accumulate layers in graph order.

    Args:
        model: ModelWrapper of the file as it was written.
        names: their names where they are known, else the nodes' names are used.

    Raises:
        Refused: ``names`` are not as many as the layers.
    """
    nodes = [n for n in model.graph.node if n.op_type in MAC_OPS]
    if names and len(names) != len(nodes):
        raise Refused(
            [
                f"The request names {len(names)} layers {list(names)!r} but the file has "
                f"{len(nodes)} multiply-accumulate nodes; export the network again."
            ]
        )
    layers = []
    for index, node in enumerate(nodes):
        name = names[index] if names else node.name or f"{node.op_type.lower()}{index}"
        layers.append(MacLayer(name, node.op_type, _layer_signature(model, node)))
    return layers


def signature(columns: NDArray[Any]) -> NDArray[np.int64]:
    """Sort the absolute integer weights of each output channel, largest first.

    Args:
        columns: (output channels, weights per channel) integer weights.
    """
    return -np.sort(-np.abs(np.rint(columns).astype(np.int64)), axis=1)


def input_quantizer(model: Model, tensor: str) -> InputQuantizer:
    """Return the quantizer that the network's input runs into.

    Raises:
        Refused: there is none, or not one that integers can replace.
    """
    while True:
        readers = model.find_consumers(tensor)
        if len(readers) == 1 and readers[0].op_type in MOVES:
            tensor = readers[0].output[0]
            continue
        quants = [n for n in readers if n.op_type in QUANT_OPS]
        break
    if len(quants) != 1 or len(readers) != 1:
        operators = ", ".join(n.op_type for n in readers) or "nothing"
        raise Refused(
            [
                f"The network's input goes into {operators}, not into one quantizer; put a "
                "quantizer of at most 8 bits at the input and export again."
            ]
        )
    quant = quants[0]
    if quant.op_type == "BipolarQuant":
        return _bipolar_input(model, quant)
    scale, zero, bits = (constant_of(model, quant.input[k]) for k in (1, 2, 3))
    if scale is None or zero is None or bits is None or scale.size != 1 or np.any(zero != 0):
        raise Refused(
            [
                f"Input quantizer {quant.name!r} must have one constant scale and the zero point "
                "0; export again with a per-tensor symmetric input quantizer."
            ]
        )
    flags = attributes_of(quant)
    return InputQuantizer(
        scale=float(scale.reshape(-1)[0]),
        bits=int(bits.reshape(-1)[0]),
        signed=bool(flags.get("signed", 1)),
        narrow=bool(flags.get("narrow", 0)),
    )


def data_input(model: Model, node: NodeProto) -> str | None:
    """Return what a constant affine (x + c, c - x, x * c, x / c) is of, or None for others."""
    if node.op_type not in AFFINE_OPS or len(node.input) != 2:
        return None
    values = [constant_of(model, name) for name in node.input]
    side = next((k for k, v in enumerate(values) if v is not None), None)
    if side is None or values[1 - side] is not None or (node.op_type == "Div" and side == 0):
        return None
    value = np.asarray(values[side])
    if not np.all(np.isfinite(value)):
        return None
    if node.op_type in ("Mul", "Div") and np.any(value == 0):
        return None
    return str(node.input[1 - side])


def _bipolar_input(model: Model, quant: NodeProto) -> InputQuantizer:
    scale = constant_of(model, quant.input[1])
    if scale is None or scale.size != 1:
        raise Refused([f"Input quantizer {quant.name!r} must have one constant scale."])
    bits = 1 if as_bits(model, quant.output[0]) else 2
    return InputQuantizer(float(scale.reshape(-1)[0]), bits, bits == 2, bits == 2, bipolar=True)


def as_bits(model: Model, tensor: str) -> bool:
    """Tell whether -1 and +1 can be bits 0 and 1 here: a constant can pass all that follows."""
    return all(_lets_pass(model, n) for n in model.find_consumers(tensor))


def _lets_pass(model: Model, node: NodeProto) -> bool:
    if node.op_type in (*MOVES, "MaxPool"):
        return as_bits(model, node.output[0])
    if node.op_type == "Conv":
        pads = [list(a.ints) for a in node.attribute if a.name == "pads"]
        named = [a.s for a in node.attribute if a.name == "auto_pad"]
        return not any(map(any, pads)) and not any(x.startswith(b"SAME") for x in named)
    if data_input(model, node) is not None:
        return as_bits(model, node.output[0])
    return node.op_type in ("MatMul", "Gemm")


def constant_of(model: Model, tensor: str) -> NDArray[Any] | None:
    """Return the value of a constant tensor, or None."""
    value = model.get_initializer(tensor)
    if value is not None:
        return np.asarray(value)
    producer = model.find_producer(tensor)
    if producer is None:
        return None
    if producer.op_type == "Constant":
        return numpy_helper.to_array(helper.get_attribute_value(producer.attribute[0]))
    if producer.op_type == "Identity":
        return constant_of(model, producer.input[0])
    return None


def _layer_signature(model: Model, node: NodeProto) -> NDArray[np.int64] | None:
    weights = _integer_weights(model, node.input[1])
    if weights is None:
        return None
    flags = attributes_of(node)
    if node.op_type == "Conv":
        return signature(weights.reshape(weights.shape[0], -1))
    if weights.ndim != 2:
        return None
    rows_are_inputs = node.op_type == "MatMul" or not flags.get("transB", 0)
    return signature(weights.T if rows_are_inputs else weights)


def _integer_weights(model: Model, tensor: str) -> NDArray[np.float64] | None:
    """Evaluate a weight tensor as integers: value of the Quant node divided by its scale."""
    producer = model.find_producer(tensor)
    if producer is None:
        return None
    if producer.op_type == "Transpose":
        inner = _integer_weights(model, producer.input[0])
        if inner is None:
            return None
        flags = attributes_of(producer)
        return np.transpose(inner, flags.get("perm"))
    if producer.op_type not in QUANT_OPS:
        return None
    values = [constant_of(model, x) for x in producer.input]
    if any(v is None for v in values):
        return None
    weights = np.asarray(values[0], dtype=np.float64)
    scale = np.asarray(values[1], dtype=np.float64)
    if producer.op_type == "BipolarQuant":
        return np.where(weights >= 0, 1.0, -1.0)
    from qonnx.custom_op.general.quant import quant

    flags = attributes_of(producer)
    rounding = flags.get("rounding_mode", "ROUND")
    # In float32 as the network computes it: float64 would round some ties the other way.
    quantized = quant(
        np.asarray(values[0], dtype=np.float32),
        np.asarray(values[1], dtype=np.float32),
        np.asarray(values[2], dtype=np.float32),
        np.asarray(values[3], dtype=np.float32),
        bool(flags.get("signed", 1)),
        bool(flags.get("narrow", 0)),
        rounding,
    )
    return np.asarray(quantized, dtype=np.float64) / scale

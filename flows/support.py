"""Which nodes of the hardware graph cannot be built, and why."""

from __future__ import annotations

from typing import Any

from onnx import NodeProto

from adaqat_hw.schema.operators import Requirement, base_op, find_operator
from flows.flow_state import FlowState
from flows.graph_types import Model, custom_op, known_shape
from flows.layers import is_weighted, map_layers, nearest_layer

_REASONS = {
    "ElementwiseMul": "a multiplication that could not be moved into weights or thresholds has no "
    "RTL; put a quantizer after the layer",
    "TopK": "an argmax has RTL for k = 1 and logits of one scale; give the last layer one scale "
    "for all its weights, or take the largest logits in software",
    "Relu": "a ReLU that no quantizer follows directly has no RTL; put one right after it",
    "Requant": "a quantizer of 9 bits or more has no RTL; use at most 8 bits",
    "Quant": "its quantizer cannot be turned into thresholds; use at most 8 bits and zero point 0",
    "Softmax": "a softmax in the network has no RTL; take it in software",
    "StreamingConcat": "a concatenation has no RTL yet",
    "Concat": "a concatenation has no RTL yet",
    "GlobalAveragePool": "what it averages is not quantized to integers; quantize it",
    "ReduceMean": "a mean over anything but all pixels has no RTL; use global or max pooling",
    "AveragePool": "average pooling without a truncation (Trunc) right after it has no RTL; use "
    "global average pooling, max pooling or a stride",
    "QuantAvgPool2d": "what it averages is not quantized to integers; quantize it",
    "Slice": "a slice has RTL only as every s-th pixel from the first on",
    "Pad": "channels can be padded with zeros only behind strided slices",
    "Crop": "cutting a tensor has no RTL; use a strided convolution or pooling",
    "BatchNormalization": "a batch norm without a quantizer after it has no RTL; quantize its "
    "output",
    "MatMul": "its weights or its inputs are not quantized to integers; quantize both",
    "Conv": "its weights or its inputs are not quantized to integers; quantize both",
    "Im2Col": "its inputs are not quantized to integers; quantize them",
    "MultiThreshold": "its quantizer cannot be turned into integer thresholds",
    "Transpose": "a change of layout inside the network has no RTL; use convolutions, max "
    "pooling, one flatten and linear layers in this order",
    "Shuffle": "a change of layout inside the network has no RTL; use convolutions, max pooling, "
    "one flatten and linear layers in this order",
    "Reshape": "a reshape inside the network has no RTL; flatten once, before the linear layers",
    "Flatten": "a flatten that is not right before a linear layer has no RTL",
    "Mul": "a scale that could not be moved into thresholds has no RTL; put a quantizer after it",
    "Add": "an addition whose two sides have different scales has no RTL; put the same quantizer "
    "(one scale) on both sides",
}
# What streamlining leaves behind around another problem; named only where there is no other.
_CONSEQUENCES = (
    *("Transpose", "Shuffle", "Reshape", "Flatten", "Im2Col", "MatMul", "Conv", "Mul", "Add"),
    *("ElementwiseMul", "MultiThreshold"),
)
_ALIASES = {
    "InnerShuffle": "Shuffle",
    "OuterShuffle": "Shuffle",
    "ElementwiseMaximum": "Relu",
    "ElementwiseMax": "Relu",
}


def unsupported_nodes(state: FlowState) -> list[str]:
    """List every node of the hardware graph that cannot be built, one sentence each."""
    map_layers(state)
    model = state.model
    faults = [(n, why) for n in model.graph.node if (why := _reason(model, n)) is not None]
    causes = [(n, why) for n, why in faults if base_op(n.op_type) not in _CONSEQUENCES]
    problems = [f"{_where(state, node)}: {why}." for node, why in causes or faults]
    return list(dict.fromkeys(problems))


def _reason(model: Model, node: NodeProto) -> str | None:
    op = base_op(node.op_type)
    op = _ALIASES.get(op, op)
    record = find_operator(op)
    if record is not None and node.domain.startswith("finn.custom_op.fpgadataflow"):
        if record.inputs > 1 and (reason := _join_reason(model, node)) is not None:
            return reason
        return next(filter(None, (_unmet(node, each) for each in record.requires)), None)
    return _REASONS.get(op, f"the operation {op!r} has no RTL")


def _unmet(node: NodeProto, requirement: Requirement) -> str | None:
    value = _attribute(node, requirement.attribute)
    if value in requirement.allowed:
        return None
    return requirement.reason.format(value=value, allowed=", ".join(map(str, requirement.allowed)))


def _join_reason(model: Model, node: NodeProto) -> str | None:
    if any(model.get_initializer(name) is not None for name in node.input):
        return (
            "the addition of a constant (a bias) that could not be moved into thresholds has no "
            "RTL; put a quantizer after the layer"
        )
    if not all(model.get_tensor_datatype(name).is_integer() for name in node.input):
        return _REASONS["Add"]
    shapes = [known_shape(model, name) for name in node.input]
    if shapes[0] != shapes[1]:
        return f"the two sides of an addition have the shapes {shapes!r}; they must be equal"
    return None


def _attribute(node: NodeProto, name: str) -> Any:
    return custom_op(node).get_nodeattr(name)


def _where(state: FlowState, node: NodeProto) -> str:
    own = state.layer_of.get(node.name)
    if own is not None and is_weighted(node):
        return f"Layer {own!r} ({node.op_type})"
    before = nearest_layer(state, node)
    place = f"after layer {before!r}" if before is not None else "before the first layer"
    return f"{node.op_type} {place}"

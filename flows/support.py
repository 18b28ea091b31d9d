"""What can be built: the one table of supported hardware nodes, and why others cannot."""

from __future__ import annotations

from typing import Any, Literal

from flow_state import FlowState
from layers import base_op, map_layers, nearest_layer

# FINN generates the RTL of "finn" nodes; those of "adaqat" are modules of hw/rtl. An MVAU is
# either, as chosen for it.
GENERATOR: dict[str, Literal["finn", "adaqat", "choice"]] = {
    "MVAU": "choice",
    "Thresholding": "finn",
    "FMPadding": "finn",
    "ConvolutionInputGenerator": "finn",
    "StreamingFIFO": "finn",
    "StreamingDataWidthConverter": "finn",
    "Pool": "adaqat",
}
_REASONS = {
    "DuplicateStreams": "a branch (one tensor read by several layers) has no RTL yet; use a "
    "network without skip connections",
    "ElementwiseAdd": "an addition of two tensors or of a bias (residual add) has no RTL yet; use "
    "a network without skip connections",
    "AddStreams": "a residual addition has no RTL yet; use a network without skip connections",
    "ElementwiseMul": "a multiplication that could not be moved into weights or thresholds has no "
    "RTL; put a quantizer after the layer",
    "GlobalAccPool": "global average pooling has no RTL yet; use max pooling and a flatten",
    "VVAU": "a depthwise convolution has no RTL yet; use ordinary convolutions (groups=1)",
    "LabelSelect": "an argmax in the network has no RTL; remove it and take the argmax of the "
    "logits in software",
    "TopK": "an argmax in the network has no RTL; take the argmax of the logits in software",
    "Relu": "a ReLU that no quantizer follows directly has no RTL; put one right after it",
    "Requant": "a quantizer of 9 bits or more has no RTL; use at most 8 bits",
    "Quant": "its quantizer cannot be turned into thresholds; use at most 8 bits and zero point 0",
    "XnorPopcountMatMul": "binary weights with binary activations (xnor) have no RTL; use 2 bits",
    "Softmax": "a softmax in the network has no RTL; take it in software",
    "StreamingConcat": "a concatenation has no RTL yet",
    "Concat": "a concatenation has no RTL yet",
    "GlobalAveragePool": "global average pooling has no RTL yet; use max pooling and a flatten",
    "ReduceMean": "average pooling has no RTL yet; use max pooling",
    "AveragePool": "average pooling has no RTL yet; use max pooling",
    "QuantAvgPool2d": "average pooling has no RTL yet; use max pooling",
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
    "Add": "an addition that could not be moved into thresholds has no RTL",
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
    found = [(n, reason) for n in state.model.graph.node if (reason := _reason(n)) is not None]
    causes = [(n, reason) for n, reason in found if base_op(n.op_type) not in _CONSEQUENCES]
    problems = [f"{_where(state, node)}: {reason}." for node, reason in causes or found]
    return list(dict.fromkeys(problems))


def _reason(node: Any) -> str | None:
    op = base_op(node.op_type)
    op = _ALIASES.get(op, op)
    if op in GENERATOR and node.domain.startswith("finn.custom_op.fpgadataflow"):
        return _pool_reason(node) if op == "Pool" else None
    return _REASONS.get(op, f"the operation {op!r} has no RTL")


def _pool_reason(node: Any) -> str | None:
    from qonnx.custom_op.registry import getCustomOp

    function = getCustomOp(node).get_nodeattr("Function")
    if function == "MaxPool":
        return None
    return f"pooling with {function!r} has no RTL yet; use max pooling"


def _where(state: FlowState, node: Any) -> str:
    own = state.layer_of.get(node.name)
    if own is not None:
        return f"Layer {own!r} ({node.op_type})"
    before = nearest_layer(state, node)
    place = f"after layer {before!r}" if before is not None else "before the first layer"
    return f"{node.op_type} {place}"

"""Quantizers to -1 and +1: weights become 2-bit integers, activations 1-bit thresholds.

A weight is -1 or +1, which INT2 holds. An activation ``s * (x >= 0 ? 1 : -1)`` is ``2 s b - s``
with the bit ``b``; streamlining moves both constants into the next layer's thresholds. A constant
cannot pass a padded convolution (padding is 0, no bit) nor an addition, so there the activation is
-1 or +1 itself, of two equal thresholds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from onnx import NodeProto, helper

from flows.flow_state import FlowError, FlowState, Refused
from flows.graph_types import Model
from flows.network import as_bits, constant_of

# A threshold that is met exactly leads to the upper level, whereas quantizers round to even.
INCLUSIVE = "inclusive"
_DOMAIN = "qonnx.custom_op.general"


def write_as_integers(state: FlowState) -> None:
    """Replace every BipolarQuant of ``state.model``; the file's own graph keeps them."""
    model = state.model
    for node in [n for n in model.graph.node if n.op_type == "BipolarQuant"]:
        scale = constant_of(model, node.input[1])
        if scale is None or not np.all(np.isfinite(scale)) or np.any(scale <= 0):
            raise Refused([f"The scale of {node.name!r} must be a positive constant."])
        weights = constant_of(model, node.input[0])
        if weights is not None:
            _write_weights(model, node, weights, scale)
        elif scale.size != 1:
            raise Refused(
                [f"{node.name!r} has {scale.size} scales for its activations; one is possible."]
            )
        else:
            _write_activation(model, node, float(scale.reshape(-1)[0]))
    state.inclusive = _marked(model)


def is_inclusive(node: NodeProto) -> bool:
    """Tell whether a MultiThreshold was a BipolarQuant."""
    return any(a.name == INCLUSIVE for a in node.attribute)


def require_marks(state: FlowState) -> None:
    """Raise FlowError when a transformation lost the mark of a threshold."""
    if (left := _marked(state.model)) != state.inclusive:
        raise FlowError(
            f"of {state.inclusive} thresholds made of bipolar quantizers {left} are left"
        )


def _marked(model: Model) -> int:
    return sum(is_inclusive(n) for n in model.graph.node)


def _write_weights(
    model: Model, node: NodeProto, weights: NDArray[Any], scale: NDArray[Any]
) -> None:
    signs = np.where(np.asarray(weights) >= 0, scale, -scale).astype(np.float32)
    name = _constant(model, node, "signs", signs)
    others = [_constant(model, node, k, v) for k, v in (("zero", 0.0), ("bits", 2.0))]
    _replace(
        model,
        node,
        [
            helper.make_node(
                "Quant", [name, node.input[1], *others], [node.output[0]], name=node.name,
                domain=_DOMAIN, signed=1, narrow=1, rounding_mode="ROUND",
            )
        ],
    )  # fmt: skip


def _write_activation(model: Model, node: NodeProto, scale: float) -> None:
    source, target = node.input[0], node.output[0]
    bits = as_bits(model, target)
    steps = [[0.0]] if bits else [[0.0, 0.0]]
    kind, bias = ("BINARY", 0.0) if bits else ("INT2", -1.0)
    attributes: dict[str, Any] = {"out_dtype": kind, "out_bias": bias, INCLUSIVE: 1}
    inner = [f"{target}_level", f"{target}_scaled"]
    nodes = [
        helper.make_node(
            "MultiThreshold", [source, _constant(model, node, "steps", steps)], inner[:1],
            name=node.name, domain=_DOMAIN, **attributes,
        )
    ]  # fmt: skip
    factor = _constant(model, node, "factor", [2 * scale if bits else scale])
    nodes.append(helper.make_node("Mul", [inner[0], factor], [inner[1] if bits else target]))
    if bits:
        offset = _constant(model, node, "offset", [-scale])
        nodes.append(helper.make_node("Add", [inner[1], offset], [target]))
    _replace(model, node, nodes)


def _constant(model: Model, node: NodeProto, role: str, value: ArrayLike) -> str:
    name = f"{node.output[0]}_{role}"
    model.set_initializer(name, np.asarray(value, dtype=np.float32))
    return name


def _replace(model: Model, node: NodeProto, others: list[NodeProto]) -> None:
    place = list(model.graph.node).index(node)
    model.graph.node.remove(node)
    for k, other in enumerate(others):
        model.graph.node.insert(place + k, other)

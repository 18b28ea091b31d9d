"""Checks of pooling, padding and arg-max in a QONNX graph; each returns reasons, or none."""

from __future__ import annotations

import numpy as np
import onnx

from adaqat_hw.build._qonnx_graph import Graph, attributes_of, text_of

_SHORTCUT = (
    "it belongs to a shortcut without parameters (every second pixel, channels of zeros), which "
    "has no RTL; use a 1x1 convolution as shortcut (option B)"
)
SOFTWARE = "it belongs into software; end the network with its logits"


def check_max_pool(graph: Graph, node: onnx.NodeProto) -> list[str]:
    """Two dimensions, no padding, no dilation."""
    attributes = attributes_of(node)
    reasons = []
    if attributes.get("ceil_mode", 0):
        reasons.append("max pooling with ceil_mode has no RTL")
    if any(d != 1 for d in attributes.get("dilations", ())):
        reasons.append("max pooling with dilation has no RTL")
    if any(attributes.get("pads", ())):
        reasons.append("max pooling with padding has no RTL")
    if len(attributes.get("kernel_shape", (0, 0))) != 2:
        reasons.append("only 2-D max pooling has RTL")
    return reasons


def check_global(graph: Graph, node: onnx.NodeProto) -> list[str]:
    """A mean over all pixels becomes a sum; its scale goes into what follows."""
    attributes = attributes_of(node)
    if node.op_type == "ReduceMean":
        axes = attributes.get("axes")
        if len(node.input) > 1:
            axes = graph.values.get(node.input[1])
        found = None if axes is None else sorted(int(x) % 4 for x in np.asarray(axes).reshape(-1))
        if found != [2, 3] or attributes.get("keepdims", 1) != 1:
            return ["a mean over anything but all pixels has no RTL (axes 2 and 3, keepdims=1)"]
    return _needs_integers(graph, node)


def check_average_pool(graph: Graph, node: onnx.NodeProto) -> list[str]:
    """Over the whole image, or with a truncation of the sum behind it."""
    attributes = attributes_of(node)
    kernel = list(attributes.get("kernel_shape", ()))
    shape = graph.shape(node.input[0])
    if shape is not None and kernel == list(shape[2:]) and not any(attributes.get("pads", ())):
        return _needs_integers(graph, node)
    after = graph.consumers.get(node.output[0], [])
    scaled = graph.consumers.get(after[0].output[0], []) if len(after) == 1 else []
    if not (len(scaled) == 1 and after[0].op_type == "Mul" and scaled[0].op_type == "Trunc"):
        return [
            "average pooling has RTL only over the whole image, or with a truncation (Trunc) "
            "right after it; use max pooling, a stride or global average pooling"
        ]
    if len(kernel) != 2 or kernel[0] != kernel[1] or any(attributes.get("pads", ())):
        return [f"average pooling with the kernel {kernel!r} or padding has no RTL; use a square"]
    return _needs_integers(graph, node)


def check_trunc(graph: Graph, node: onnx.NodeProto) -> list[str]:
    """After an average pool, where it becomes a shift."""
    before = graph.source(node.input[0], ("Mul",))
    if before is None or before.op_type != "AveragePool":
        return ["a truncation has RTL only after average pooling"]
    rounding = text_of(attributes_of(node).get("rounding_mode", "FLOOR")).upper()
    return [] if rounding == "FLOOR" else [f"it rounds by {rounding!r}; only 'FLOOR' is possible"]


def check_slice(graph: Graph, node: onnx.NodeProto) -> list[str]:
    """One shortcut has several slices and a padding; the first of them is named."""
    before = graph.source(node.input[0], ())
    return [] if before is not None and before.op_type == "Slice" else [_SHORTCUT]


def check_pad(graph: Graph, node: onnx.NodeProto) -> list[str]:
    """Pixels may be padded, channels not."""
    pads = attributes_of(node).get("pads")
    if len(node.input) > 1:
        pads = graph.values.get(node.input[1])
    if pads is None:
        return ["its padding is computed at run time"]
    listed = [int(x) for x in np.asarray(pads).reshape(-1)]
    before = graph.source(node.input[0], ())
    if before is not None and before.op_type == "Slice":
        return []
    if len(listed) == 8 and (any(listed[:2]) or any(listed[4:6])):
        return [_SHORTCUT]
    return []


def check_top_k(graph: Graph, node: onnx.NodeProto) -> list[str]:
    """The index of the largest logit, as the network's output."""
    count = graph.values.get(node.input[1]) if len(node.input) > 1 else None
    if count is None or int(np.asarray(count).reshape(-1)[0]) != 1:
        return ["only the index of the largest logit has RTL (TopK with k = 1); " + SOFTWARE]
    if graph.consumers.get(node.output[0]) or graph.consumers.get(node.output[1]):
        return ["the index of the largest logit must be the network's output"]
    return []


def _needs_integers(graph: Graph, node: onnx.NodeProto) -> list[str]:
    data = node.input[0]
    if graph.scale(data) is not None or graph.blames(data):
        return []
    return ["what it averages is not quantized; put a quantizer before it"]

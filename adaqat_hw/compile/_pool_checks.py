"""Checks of pooling, padding and arg-max in a QONNX graph; each returns reasons, or none."""

from __future__ import annotations

import numpy as np

from adaqat_hw.compile._tracing import named_elsewhere, scale_of
from adaqat_hw.qonnx_graph import Node, QonnxGraph

_SLICE = (
    "a slice has RTL only as every s-th pixel from the first on (a shortcut without parameters)"
)
_CHANNELS = "channels can be padded with zeros only behind such a slice"
SOFTWARE = "it belongs into software; end the network with its logits"


def check_max_pool(graph: QonnxGraph, node: Node) -> list[str]:
    """Two dimensions, no padding, no dilation."""
    attributes = node.attributes
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


def check_global(graph: QonnxGraph, node: Node) -> list[str]:
    """A mean over all pixels becomes a sum; its scale goes into what follows."""
    attributes = node.attributes
    if node.op == "ReduceMean":
        axes = attributes.get("axes")
        if len(node.inputs) > 1:
            axes = graph.values.get(node.inputs[1])
        numbers = None if axes is None else sorted(int(x) % 4 for x in np.asarray(axes).reshape(-1))
        if numbers != [2, 3] or attributes.get("keepdims", 1) != 1:
            return ["a mean over anything but all pixels has no RTL (axes 2 and 3, keepdims=1)"]
    return _needs_integers(graph, node)


def check_average_pool(graph: QonnxGraph, node: Node) -> list[str]:
    """Over the whole image, or with a truncation of the sum behind it."""
    attributes = node.attributes
    kernel = list(attributes.get("kernel_shape", ()))
    shape = graph.shape(node.inputs[0])
    if shape is not None and kernel == list(shape[2:]) and not any(attributes.get("pads", ())):
        return _needs_integers(graph, node)
    after = graph.consumers(node.outputs[0])
    scaled = graph.consumers(after[0].outputs[0]) if len(after) == 1 else []
    if not (len(scaled) == 1 and after[0].op == "Mul" and scaled[0].op == "Trunc"):
        return [
            "average pooling has RTL only over the whole image, or with a truncation (Trunc) "
            "right after it; use max pooling, a stride or global average pooling"
        ]
    if len(kernel) != 2 or kernel[0] != kernel[1] or any(attributes.get("pads", ())):
        return [f"average pooling with the kernel {kernel!r} or padding has no RTL; use a square"]
    return _needs_integers(graph, node)


def check_trunc(graph: QonnxGraph, node: Node) -> list[str]:
    """After an average pool, where it becomes a shift."""
    before = graph.source_of(node.inputs[0], ("Mul",))
    if before is None or before.op != "AveragePool":
        return ["a truncation has RTL only after average pooling"]
    rounding = str(node.attributes.get("rounding_mode", "FLOOR")).upper()
    return [] if rounding == "FLOOR" else [f"it rounds by {rounding!r}; only 'FLOOR' is possible"]


def check_slice(graph: QonnxGraph, node: Node) -> list[str]:
    """Every s-th pixel becomes a convolution with a matrix of zeros and ones."""
    listed = [graph.values.get(name) for name in node.inputs[1:] if name]
    if len(listed) < 3 or any(value is None for value in listed):
        return [_SLICE]
    starts, ends, axes, *steps = ([int(x) for x in np.asarray(v).reshape(-1)] for v in listed)
    sizes = graph.shape(node.inputs[0])
    for start, end, axis in zip(starts, ends, axes, strict=True):
        to_the_end = end >= (sizes[axis] if sizes else np.iinfo(np.int32).max)
        if start != 0 or not to_the_end or axis % 4 not in (2, 3):
            return [_SLICE]
    if steps and min(steps[0]) < 1:
        return [_SLICE]
    if graph.source_of(node.inputs[0], ("Slice",)) is None:
        return [_SLICE]
    return [] if _follows_slice(graph, node) else _needs_integers(graph, node, "takes")


def check_pad(graph: QonnxGraph, node: Node) -> list[str]:
    """Pixels may be padded; channels only in a shortcut without parameters, with zeros."""
    pads = node.attributes.get("pads")
    if len(node.inputs) > 1:
        pads = graph.values.get(node.inputs[1])
    if pads is None:
        return ["its padding is computed at run time"]
    listed = [int(x) for x in np.asarray(pads).reshape(-1)]
    if len(listed) != 8 or not (any(listed[:2]) or any(listed[4:6])):
        return []
    value = graph.values.get(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    plain = value is None or not np.any(value)
    only_channels = not any(listed[k] for k in (0, 2, 3, 4, 6, 7))
    return [] if _follows_slice(graph, node) and plain and only_channels else [_CHANNELS]


def _follows_slice(graph: QonnxGraph, node: Node) -> bool:
    before = graph.source_of(node.inputs[0], ())
    return before is not None and before.op == "Slice"


def check_top_k(graph: QonnxGraph, node: Node) -> list[str]:
    """The index of the largest logit, as the network's output."""
    count = graph.values.get(node.inputs[1]) if len(node.inputs) > 1 else None
    if count is None or int(np.asarray(count).reshape(-1)[0]) != 1:
        return ["only the index of the largest logit has RTL (TopK with k = 1); " + SOFTWARE]
    if any(graph.consumers(name) for name in node.outputs):
        return ["the index of the largest logit must be the network's output"]
    return []


def _needs_integers(graph: QonnxGraph, node: Node, verb: str = "averages") -> list[str]:
    data = node.inputs[0]
    if scale_of(graph, data) is not None or named_elsewhere(graph, data):
        return []
    return [f"what it {verb} is not quantized; put a quantizer before it"]

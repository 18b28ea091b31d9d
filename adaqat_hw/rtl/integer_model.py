"""IntegerModel: compute what the accelerator of a HardwareGraph must put out, in integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl import reference
from adaqat_hw.rtl.packing import IntArray, require_range
from adaqat_hw.rtl.pooling import pooling_of
from adaqat_hw.rtl.vvau import vvau
from adaqat_hw.schema import HardwareGraph, HardwareNode, IntType

# All outputs of an operator carry the same tensor; only DuplicateStreams has several.
_IDENTITIES = ("StreamingFIFO", "StreamingDataWidthConverter", "DuplicateStreams")
_SUMS = ("ElementwiseAdd", "AddStreams")


class IntegerModel:
    """Run frames through the reference models of a graph's nodes.

    Tensors are kept in the order in which the hardware streams them, so that each one
    reshaped to its stream's folded shape is exactly what is on that stream.

    Args:
        graph: the hardware graph; its nodes may stand in any order.
        parameters: the arrays of the graph's parameter file.

    Raises:
        ConfigError: an operator that has no model, a missing attribute or parameter, a tensor
            that no node or more than one makes, or a cycle.
    """

    _OPERATORS: ClassVar[dict[str, str]] = {
        "MVAU": "_mvau",
        "VVAU": "_vvau",
        "Thresholding": "_thresholding",
        "FMPadding": "_padding",
        "ConvolutionInputGenerator": "_window",
        "Pool": "_pool",
        "GlobalAccPool": "_global_acc_pool",
        "LabelSelect": "_label_select",
        **dict.fromkeys(_SUMS, "_add"),
        **dict.fromkeys(_IDENTITIES, "_identity"),
    }

    def __init__(self, graph: HardwareGraph, parameters: Mapping[str, IntArray]) -> None:
        self.graph = graph
        self._parameters = parameters
        self._steps: list[tuple[HardwareNode, Callable[..., IntArray]]] = []
        lanes: dict[str, int | None] = {}  # depthwise order of a tensor, None: ordinary
        for node in _in_order(graph):
            method = self._OPERATORS.get(node.op)
            if method is None:
                raise ConfigError(
                    f"Node {node.name!r} has the operator {node.op!r}, for which there is no "
                    f"integer model; there are {', '.join(sorted(self._OPERATORS))}."
                )
            if node.op in ("MVAU", "VVAU") and "thresholds" in node.parameters:
                raise ConfigError(
                    f"Node {node.name!r} has thresholds inside its {node.op}, for which there is "
                    "no integer model; build it with separate thresholding."
                )
            _check_ports(node)
            order = _check_order(node, [lanes.get(stream.name) for stream in node.inputs])
            lanes.update((stream.name, order) for stream in node.outputs)
            self._steps.append((node, getattr(self, method)))

    def run(self, frames: ArrayLike) -> IntArray:
        """Return the outputs (n, *output_shape) of frames (n, *input_shape).

        Raises:
            ValueError: a frame of the wrong shape, or a value outside a declared type.
        """
        outputs = self.trace(frames)[self.graph.output_stream.name]
        return outputs.reshape(-1, *self.graph.host.output_shape)

    def trace(self, frames: ArrayLike) -> dict[str, IntArray]:
        """Return every tensor of the graph by stream name, frames first."""
        host = self.graph.host
        x = require_range(frames, host.input_dtype, "Input frames")
        if x.shape[1:] != host.input_shape:
            raise ValueError(f"Frames must be (n, *{host.input_shape!r}), not {x.shape!r}.")
        tensors = {self.graph.input_stream.name: x}
        for node, operator in self._steps:
            try:
                y = operator(node, *(tensors[stream.name] for stream in node.inputs))
            except ValueError as exc:
                raise ValueError(f"{node.name}: {exc}") from exc
            tensors.update((stream.name, y) for stream in node.outputs)
        return tensors

    def _parameter(self, node: HardwareNode, name: str) -> IntArray:
        key = node.parameters.get(name, f"{node.name}__{name}")
        if key not in self._parameters:
            raise ConfigError(f"Parameter {key!r} of node {node.name!r} is missing.")
        return self._parameters[key]

    def _mvau(self, node: HardwareNode, x: IntArray) -> IntArray:
        weights = self._parameter(node, "weights")
        vectors = x.reshape(len(x), -1, weights.shape[0])
        y = reference.mvau(
            vectors,
            weights,
            input_type=node.inputs[0].dtype,
            weight_type=_weight_type(node, weights),
            output_type=node.outputs[0].dtype,
        )
        return y.reshape(len(x), *_spatial(x, y.shape[1]), y.shape[-1])

    def _vvau(self, node: HardwareNode, x: IntArray) -> IntArray:
        weights = self._parameter(node, "weights")
        return vvau(
            x,
            weights,
            node.outputs[0].elements,
            input_type=node.inputs[0].dtype,
            weight_type=_weight_type(node, weights),
            output_type=node.outputs[0].dtype,
        )

    def _thresholding(self, node: HardwareNode, x: IntArray) -> IntArray:
        bias = node.attributes.get("out_bias", 0)
        return reference.thresholding(
            x,
            self._parameter(node, "thresholds"),
            input_type=node.inputs[0].dtype,
            output_type=node.outputs[0].dtype,
            out_bias=_as_int(node, "out_bias", bias),
        )

    def _padding(self, node: HardwareNode, x: IntArray) -> IntArray:
        top, left, bottom, right = _ints(node, "Padding", 4)
        return reference.pad(x, (top, left, bottom, right), dtype=node.inputs[0].dtype)

    def _window(self, node: HardwareNode, x: IntArray) -> IntArray:
        height, width = _ints(node, "IFMDim", 2)
        channels = _int(node, "IFMChannels")
        kernel_h, kernel_w = _ints(node, "ConvKernelDim", 2)
        stride_h, stride_w = _ints(node, "Stride", 2)
        dilation_h, dilation_w = _ints(node, "Dilation", 2)
        return reference.sliding_window(
            x.reshape(len(x), height, width, channels),
            (kernel_h, kernel_w),
            dtype=node.inputs[0].dtype,
            stride=(stride_h, stride_w),
            dilation=(dilation_h, dilation_w),
            depthwise_simd=_window_lanes(node),
        )

    def _pool(self, node: HardwareNode, x: IntArray) -> IntArray:
        pooling = pooling_of(node)
        lanes = node.outputs[0].elements
        if pooling.function == "max":
            return reference.max_pool(x, pooling.window, lanes, dtype=node.inputs[0].dtype)
        return reference.sum_pool(
            x,
            pooling.window,
            lanes,
            shift=pooling.shift,
            input_type=node.inputs[0].dtype,
            output_type=node.outputs[0].dtype,
        )

    def _global_acc_pool(self, node: HardwareNode, x: IntArray) -> IntArray:
        pixels = x.reshape(len(x), -1, _int(node, "NumChannels"))
        return reference.global_acc_pool(
            pixels, input_type=node.inputs[0].dtype, output_type=node.outputs[0].dtype
        )

    def _label_select(self, node: HardwareNode, x: IntArray) -> IntArray:
        if _int(node, "K") != 1:
            raise ConfigError(f"Node {node.name!r} wants the {_int(node, 'K')!r} largest; K is 1.")
        y = reference.label_select(
            x.reshape(len(x), -1, _int(node, "Labels")),
            input_type=node.inputs[0].dtype,
            output_type=node.outputs[0].dtype,
        )
        return y.reshape(len(x), *_spatial(x, y.shape[1]), 1)

    def _add(self, node: HardwareNode, x: IntArray, y: IntArray) -> IntArray:
        # One operand may be flat where the other is an image: only their order counts.
        return reference.add(
            x,
            y.reshape(x.shape) if x.size == y.size else y,
            first_type=node.inputs[0].dtype,
            second_type=node.inputs[1].dtype,
            output_type=node.outputs[0].dtype,
        )

    def _identity(self, node: HardwareNode, x: IntArray) -> IntArray:
        return require_range(x, node.outputs[0].dtype, f"{node.op} input")


def _weight_type(node: HardwareNode, values: IntArray) -> IntType:
    """Return the declared type of the weights, or the narrowest that holds them."""
    if "weight_bits" in node.attributes:
        signed = _as_int(node, "weight_signed", node.attributes.get("weight_signed", 1))
        return IntType(bits=_int(node, "weight_bits"), signed=bool(signed))
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    bits = max(high.bit_length(), (-low - 1).bit_length() if low else 0) + (low < 0)
    return IntType(bits=max(bits, 1), signed=low < 0)


def _spatial(x: IntArray, vectors: int) -> tuple[int, ...]:
    """Shape between frames and channels: as the input has it, where it has one."""
    middle = x.shape[1:-1]
    return middle if int(np.prod(middle)) == vectors else (vectors,) if vectors > 1 else ()


def _window_lanes(node: HardwareNode) -> int | None:
    if not _as_int(node, "depthwise", node.attributes.get("depthwise", 0)):
        return None
    return node.inputs[0].elements


def _in_order(graph: HardwareGraph) -> list[HardwareNode]:
    """Return the nodes so that each stands behind those it reads from."""
    known = {graph.input_stream.name}
    waiting, order = list(graph.nodes), []
    while waiting:
        later = []
        for node in waiting:
            if any(stream.name not in known for stream in node.inputs):
                later.append(node)
                continue
            for stream in node.outputs:
                if stream.name in known:
                    raise ConfigError(f"Node {node.name!r} makes {stream.name!r}, made already.")
                known.add(stream.name)
            order.append(node)
        if len(later) == len(waiting):
            missing = next(s.name for s in later[0].inputs if s.name not in known)
            raise ConfigError(
                f"Node {later[0].name!r} reads {missing!r}, which no node before it makes."
            )
        waiting = later
    if graph.output_stream.name not in known:
        raise ConfigError(f"No node makes the graph's output {graph.output_stream.name!r}.")
    return order


def _check_ports(node: HardwareNode) -> None:
    inputs = 2 if node.op in _SUMS else 1
    outputs = _int(node, "NumOutputStreams") if node.op == "DuplicateStreams" else 1
    if (len(node.inputs), len(node.outputs)) != (inputs, outputs):
        raise ConfigError(
            f"Node {node.name!r} ({node.op}) has {len(node.inputs)!r} inputs and "
            f"{len(node.outputs)!r} outputs; its integer model has {inputs!r} and {outputs!r}."
        )


def _check_order(node: HardwareNode, lanes: list[int | None]) -> int | None:
    """Return the order of the node's output; refuse a window that is read in another order."""
    if node.op == "ConvolutionInputGenerator":
        return _window_lanes(node)
    if node.op == "Pool" or (node.op == "VVAU" and set(_ints(node, "Kernel", 2)) != {1}):
        if lanes[0] != node.outputs[0].elements:
            does = "pools" if node.op == "Pool" else "convolves"
            raise ConfigError(
                f"Node {node.name!r} {does} {node.outputs[0].elements!r} channels at a time, but "
                f"the sliding window before it sends {lanes[0]!r}; give both the same parallelism."
            )
        return None
    if len(set(lanes)) > 1:
        raise ConfigError(
            f"Node {node.name!r} joins streams of different order: one comes from a sliding "
            "window in depthwise order; put the join elsewhere."
        )
    return lanes[0] if node.op in (*_IDENTITIES, *_SUMS, "Thresholding") else None


def _attribute(node: HardwareNode, name: str) -> int | str | tuple[int, ...]:
    if name not in node.attributes:
        raise ConfigError(f"Node {node.name!r} ({node.op}) has no attribute {name!r}.")
    return node.attributes[name]


def _as_int(node: HardwareNode, name: str, value: int | str | tuple[int, ...]) -> int:
    if not isinstance(value, int):
        raise ConfigError(f"Attribute {name!r} of {node.name!r} is {value!r}, not an integer.")
    return value


def _int(node: HardwareNode, name: str) -> int:
    return _as_int(node, name, _attribute(node, name))


def _ints(node: HardwareNode, name: str, count: int) -> tuple[int, ...]:
    value = _attribute(node, name)
    if not isinstance(value, tuple) or len(value) != count:
        raise ConfigError(
            f"Attribute {name!r} of {node.name!r} is {value!r}, not {count} integers."
        )
    return value

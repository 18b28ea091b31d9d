"""IntegerModel: compute what the accelerator of a HardwareGraph must put out, in integers."""

from __future__ import annotations

from collections.abc import Mapping

from numpy.typing import ArrayLike

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl.ops import HardwareOperator, ValueRange, operator_module
from adaqat_hw.rtl.packing import IntArray, require_range
from adaqat_hw.rtl.verilog_writer import require_ports, type_text
from adaqat_hw.schema import HardwareGraph, HardwareNode


class IntegerModel:
    """Run frames through the references of a graph's operators.

    Tensors are kept in the order in which the hardware streams them, so that each one
    reshaped to its stream's folded shape is exactly what is on that stream.

    Args:
        graph: the hardware graph; its nodes may stand in any order.
        parameters: the arrays of the graph's parameter file.

    Raises:
        ConfigError: an operator that has no model, a missing attribute or parameter, a tensor
            that no node or more than one makes, a cycle, or a stream whose type does not hold
            what its node can put out.
    """

    def __init__(self, graph: HardwareGraph, parameters: Mapping[str, IntArray]) -> None:
        self.graph = graph
        self._parameters = parameters
        self._steps: list[tuple[HardwareNode, HardwareOperator]] = []
        lanes: dict[str, int | None] = {}  # depthwise order of a tensor, None: ordinary
        for node in _in_order(graph):
            operator = operator_module(node.operator)
            operator.check(node)
            require_ports(node)
            order = _check_order(node, [lanes.get(stream.name) for stream in node.inputs])
            lanes.update((stream.name, order) for stream in node.outputs)
            self._steps.append((node, operator))
        self._check_types()

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
            inputs = [tensors[stream.name] for stream in node.inputs]
            try:
                y = operator.reference(node, self._parameters, *inputs)
            except ValueError as exc:
                raise ValueError(f"{node.name}: {exc}") from exc
            tensors.update((stream.name, y) for stream in node.outputs)
        return tensors

    def ranges(self) -> dict[str, ValueRange]:
        """Return the values that every tensor can have, by stream name.

        They follow from the range of the input's type and the parameters, node by node; what the
        streams declare is not believed.
        """
        ranges = {self.graph.input_stream.name: ValueRange.of(self.graph.host.input_dtype)}
        for node, operator in self._steps:
            inputs = [ranges[stream.name] for stream in node.inputs]
            result = operator.ranges(node, self._parameters, *inputs)
            ranges.update((stream.name, result) for stream in node.outputs)
        return ranges

    def _check_types(self) -> None:
        ranges = self.ranges()
        for node, _ in self._steps:
            for stream in node.outputs:
                values = ranges[stream.name]
                if not values.fits(stream.dtype):
                    raise ConfigError(
                        f"Node {node.name!r} ({node.op}) can put out {values.low!r}.."
                        f"{values.high!r}, but its stream {stream.name!r} carries "
                        f"{type_text(stream.dtype)}; build it with a wider output."
                    )


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


def _check_order(node: HardwareNode, lanes: list[int | None]) -> int | None:
    """Return the order of the node's output; refuse a window that is read in another order."""
    if node.operator.window == "makes":
        return node.inputs[0].elements if node.makes_depthwise else None
    if node.takes_depthwise:
        if lanes[0] != node.outputs[0].elements:
            raise ConfigError(
                f"Node {node.name!r} ({node.op}) takes {node.outputs[0].elements!r} channels at a "
                f"time, but the sliding window before it sends {lanes[0]!r}; give both the same "
                "parallelism."
            )
        return None
    if len(set(lanes)) > 1:
        raise ConfigError(
            f"Node {node.name!r} joins streams of different order: one comes from a sliding "
            "window in depthwise order; put the join elsewhere."
        )
    return lanes[0] if node.operator.window == "keeps" else None

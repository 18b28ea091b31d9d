"""Check how the nodes of a HardwareGraph are joined by streams."""

from __future__ import annotations

from collections.abc import Sequence

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import HardwareGraph, HardwareNode, Stream


def check_streams(graph: HardwareGraph) -> None:
    """Check that every stream has one producer and one consumer that agree on its beats.

    Raises:
        ConfigError: no node, two nodes of one name, a stream without end or with two, or two
            ends that differ in values per beat, bits or beats per frame.
    """
    if not graph.nodes:
        raise ConfigError(f"The hardware graph of {graph.network!r} has no nodes.")
    names = [node.name for node in graph.nodes]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"Two nodes of the hardware graph are named {name!r}.")
    sources = [("the graph's input", graph.input_stream)]
    used = [("the graph's output", graph.output_stream)]
    for node in graph.nodes:
        sources += [(f"node {node.name!r}", stream) for stream in node.outputs]
        used += [(f"node {node.name!r}", stream) for stream in node.inputs]
    producers = _by_name(sources, "is produced by")
    consumers = _by_name(used, "is consumed by")
    for name, (user, received) in consumers.items():
        if name not in producers:
            raise ConfigError(
                f"Stream {name!r}, consumed by {user}, has no producer; each stream needs exactly "
                "one producer and one consumer."
            )
        maker, sent = producers[name]
        if _beat(sent) != _beat(received):
            raise ConfigError(
                f"Stream {name!r} leaves {maker} as {_say(sent)} and enters {user} as "
                f"{_say(received)}; a data width converter is missing between them."
            )
    for name, (maker, _) in producers.items():
        if name not in consumers:
            raise ConfigError(
                f"Stream {name!r}, produced by {maker}, has no consumer; each stream needs exactly "
                "one producer and one consumer."
            )


def outer_streams(nodes: Sequence[HardwareNode]) -> tuple[list[Stream], list[Stream]]:
    """Return the streams that enter and that leave a group of nodes, in node order."""
    produced = {stream.name for node in nodes for stream in node.outputs}
    used = {stream.name for node in nodes for stream in node.inputs}
    inputs = [s for node in nodes for s in node.inputs if s.name not in produced]
    outputs = [s for node in nodes for s in node.outputs if s.name not in used]
    return inputs, outputs


def _by_name(ends: list[tuple[str, Stream]], verb: str) -> dict[str, tuple[str, Stream]]:
    table: dict[str, tuple[str, Stream]] = {}
    for owner, stream in ends:
        if stream.name in table:
            raise ConfigError(
                f"Stream {stream.name!r} {verb} {table[stream.name][0]} and by {owner}; each "
                "stream needs exactly one producer and one consumer."
            )
        if stream.elements < 1 or stream.beats < 1 or stream.dtype.bits < 1:
            raise ConfigError(f"Stream {stream.name!r} is {_say(stream)}; all must be positive.")
        table[stream.name] = (owner, stream)
    return table


def _beat(stream: Stream) -> tuple[int, int, int]:
    return stream.elements, stream.dtype.bits, stream.beats


def _say(stream: Stream) -> str:
    return f"{stream.beats!r} beats of {stream.elements!r} values of {stream.dtype.bits!r} bits"

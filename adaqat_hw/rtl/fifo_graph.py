"""Put this project's FIFOs into a HardwareGraph: one per stream between nodes, with its depth.

FINN's flow inserts a FIFO node into every stream. Here each becomes ``adq_fifo`` of ``hw/rtl``,
whose depth is a parameter, so that a new depth never runs FINN again; a stream between two
layers that has no FIFO gets one.
"""

from __future__ import annotations

from collections.abc import Mapping

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl.ops.fifo import MIN_DEPTH
from adaqat_hw.schema import HardwareGraph, HardwareNode, Resources
from adaqat_hw.schema.operators import FIFO


def with_fifos(graph: HardwareGraph, depths: Mapping[str, int] | int) -> HardwareGraph:
    """Return ``graph`` with this project's FIFOs, the nodes in topological order as before.

    Args:
        graph: the hardware graph, as the flow wrote it or as this function returned it.
        depths: beats by the name of the FIFO node, all of them, or one depth for all.

    Raises:
        ConfigError: a depth below 2, or a FIFO without depth or a depth without FIFO.
    """
    named = None if isinstance(depths, int) else dict(depths)
    complete = _completed(graph)
    result: list[HardwareNode] = []
    index = 0
    for node in complete.nodes:
        if node.operator is not FIFO or len(node.inputs) != 1 or len(node.outputs) != 1:
            result.append(node)
            continue
        if named is not None and node.name not in named:
            raise ConfigError(
                f"The FIFO {node.name!r} has no depth in the record of FIFO depths; size the "
                "FIFOs of this build again."
            )
        depth = named.pop(node.name) if named is not None else int(str(depths))
        if depth < MIN_DEPTH:
            raise ConfigError(
                f"The depth of FIFO {node.name!r} is {depth!r}; at least {MIN_DEPTH} is needed."
            )
        result.append(_own(node, index, depth))
        index += 1
    if named:
        raise ConfigError(
            f"The record of FIFO depths names {sorted(named)[0]!r}, which is no FIFO of this "
            "build; size its FIFOs again."
        )
    return complete.model_copy(update={"nodes": tuple(result)})


def fifo_nodes(graph: HardwareGraph) -> list[HardwareNode]:
    """Return the FIFOs of ``graph`` in the order of their ``fifo_index``."""
    return [node for node in graph.nodes if "fifo_index" in node.attributes]


def capacity(node: HardwareNode) -> int:
    """Return the depth that stands for no limit: two frames and a bit."""
    return 2 * node.inputs[0].beats + 64


def _own(node: HardwareNode, index: int, depth: int) -> HardwareNode:
    return node.model_copy(
        update={
            "generator": "adaqat",
            "backend": "rtl",
            "top_module": None,
            "files": (),
            "attributes": {"depth": depth, "fifo_index": index},
        }
    )


def _completed(graph: HardwareGraph) -> HardwareGraph:
    """Insert a FIFO into each inner stream that neither starts nor ends at one."""
    consumers = {stream.name: node for node in graph.nodes for stream in node.inputs}
    taken = {node.name for node in graph.nodes}
    streams = {s.name for node in graph.nodes for s in (*node.inputs, *node.outputs)}
    renamed: dict[str, str] = {}
    nodes: list[HardwareNode] = []
    for node in graph.nodes:
        inputs = tuple(
            s.model_copy(update={"name": renamed.get(s.name, s.name)}) for s in node.inputs
        )
        nodes.append(node.model_copy(update={"inputs": inputs}))
        for stream in node.outputs:
            consumer = consumers.get(stream.name)
            if consumer is None or FIFO in (node.operator, consumer.operator):
                continue
            name = _free(f"fifo_{stream.name}", taken)
            after = stream.model_copy(update={"name": _free(f"{stream.name}_queued", streams)})
            renamed[stream.name] = after.name
            nodes.append(
                HardwareNode(
                    name=name, op=FIFO.name, backend="rtl", layer=node.layer, generator="adaqat",
                    inputs=(stream,), outputs=(after,), attributes={}, cycles=0,
                    estimate=Resources(),
                )
            )  # fmt: skip
    return graph.model_copy(update={"nodes": tuple(nodes)})


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name

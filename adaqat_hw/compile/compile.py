"""Compile stage: pre-flight, FINN in its own process, FINN's estimates as a ResourceReport."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from adaqat_hw.compile.environment import Environment, Local
from adaqat_hw.compile.flow import run_flow
from adaqat_hw.compile.preflight import require_buildable
from adaqat_hw.compile.tool_checks import require_goal
from adaqat_hw.errors import StageFailed
from adaqat_hw.schema import (
    Board,
    BuildRequest,
    HardwareGraph,
    LayerResources,
    ResourceReport,
    add_resources,
    sha256_file,
)


def compile_design(
    request: BuildRequest,
    board: Board,
    variant: str,
    folder: Path,
    note: Callable[[str], None],
    where: Environment | None = None,
) -> tuple[str, list[str]]:
    """Run the FINN flow; write request.json, board.json and resources-finn_estimate.json.

    ``where`` is the environment of the tools, this machine by default; it is checked first,
    with Vivado where the goal needs it, and recorded in environment.json.

    Raises:
        UnsupportedNetwork: layers that nothing can build, all of them named.
        StageFailed: FINN failed; one sentence with the cause and the log's path.
    """
    where = where or Local()
    require_buildable(Path(request.model))
    place = where.describe()
    vivado = require_goal(request.goal, board, where, folder)
    place.model_copy(update={"vivado": vivado}).write(folder / "environment.json")
    request.write(folder / "request.json")
    board.write(folder / "board.json")
    result, graph = run_flow(request, folder, lambda event: note(_text(event)), where=where)
    if graph is None:
        raise StageFailed("compile", "the flow ended without a hardware graph", folder / result.log)
    estimate = finn_estimate(graph, folder, variant, result.tool_versions.get("finn-plus", "?"))
    estimate.write(folder / "resources-finn_estimate.json")
    files = ["request.json", "board.json", "resources-finn_estimate.json", "result.json"]
    files += [output.path for output in result.outputs]
    impls = [node.impl for node in graph.nodes if node.impl is not None]
    counts = " and ".join(f"{impls.count(i)} in {i.upper()}s" for i in sorted(set(impls)))
    text = (
        f"{len(graph.nodes)} hardware nodes, {len(impls)} MVAUs ({counts}), FINN estimates "
        f"{graph.cycles_estimated} cycles per frame"
    )
    if (sentence := request.folding_sentence(graph.cycles_estimated)) is not None:
        text += f". {sentence}"
    return text, list(dict.fromkeys(files))


def _text(event: dict[str, Any]) -> str:
    return f"{event.get('index', '?')}/{event.get('total', '?')} {event.get('step', '')}"


def layer_rows(
    graph: HardwareGraph, cost: Callable[[str], Any]
) -> tuple[tuple[LayerResources, ...], tuple[str, ...]]:
    """Group nodes into rows of their layer; ``cost`` maps a node's name to its Resources.

    Returns the rows in graph order and the names of nodes that belong to no layer.
    """
    groups: dict[str, list[str]] = {}
    loose: list[str] = []
    for node in graph.nodes:
        if node.layer is None:
            loose.append(node.name)
        else:
            groups.setdefault(node.layer, []).append(node.name)
    rows = tuple(
        LayerResources(
            layer=layer, nodes=tuple(names), resources=add_resources(cost(n) for n in names)
        )
        for layer, names in groups.items()
    )
    return rows, tuple(loose)


def finn_estimate(graph: HardwareGraph, folder: Path, variant: str, version: str) -> ResourceReport:
    """Return FINN's own resource estimate of the graph, per layer and in total."""
    costs = {node.name: node.estimate for node in graph.nodes}
    rows, loose = layer_rows(graph, costs.__getitem__)
    source = folder / "hardware.json"
    return ResourceReport(
        plan=variant,
        stage="finn_estimate",
        part=graph.part,
        tool="finn-plus",
        tool_version=version,
        total=add_resources(costs.values()),
        layer_sum=add_resources(row.resources for row in rows),
        layers=rows,
        unmatched=loose,
        source_file=source.name,
        source_sha256=sha256_file(source),
    )

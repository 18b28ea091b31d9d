"""Compile a network: checks first, then the request's backend, then its estimate as a record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adaqat_hw.compile.backend import Backend, backend_named, require_buildable
from adaqat_hw.compile.design import Design, layer_rows
from adaqat_hw.compile.environment import Environment, Local
from adaqat_hw.compile.tool_checks import require_goal
from adaqat_hw.run import BuildFolder
from adaqat_hw.schema import (
    Board,
    BuildRequest,
    BuildResult,
    ResourceReport,
    add_resources,
    sha256_file,
)


def compile_design(
    request: BuildRequest,
    board: Board,
    variant: str,
    folder: BuildFolder,
    note: Callable[[str], None],
    environment: Environment | None = None,
) -> tuple[str, list[str]]:
    """Compile ``request`` with its backend; write request, board, environment and estimate.

    ``environment`` is where the tools run, this machine by default; it is checked first, with
    Vivado where the goal needs it.

    Raises:
        ConfigError: the request names an unknown backend.
        UnsupportedNetwork: layers that the backend cannot build, all of them named.
        StageFailed: the compiler failed; one sentence with the cause and the log's path.
    """
    environment = environment or Local()
    backend = backend_named(request.backend)
    require_buildable(backend, Path(request.model))
    place = environment.describe()
    vivado = require_goal(request.goal, board, environment, folder.path)
    place.model_copy(update={"vivado": vivado}).write(folder.environment)
    request.write(folder.request)
    board.write(folder.board)
    design = backend.compile(request, folder, environment, note)
    result = BuildResult.read(folder.result)
    report = estimate_report(design, backend, variant, result.tool_versions.get(backend.tool, "?"))
    written = report.write(folder.resources(backend.estimate))
    files = folder.relative(folder.request, folder.board, written, folder.result)
    files += [output.path for output in result.outputs]
    text = _text(design)
    if (sentence := request.folding_sentence(design.graph.cycles_estimated)) is not None:
        text += f". {sentence}"
    return text, list(dict.fromkeys(files))


def _text(design: Design) -> str:
    graph = design.graph
    impls = [node.impl for node in graph.nodes if node.impl is not None]
    counts = " and ".join(f"{impls.count(i)} in {i.upper()}s" for i in sorted(set(impls)))
    return (
        f"{len(graph.nodes)} hardware nodes, {len(impls)} MVAUs ({counts}), estimated "
        f"{graph.cycles_estimated} cycles per frame"
    )


def estimate_report(design: Design, backend: Backend, variant: str, version: str) -> ResourceReport:
    """Return the backend's own resource estimate of a design, per layer and in total."""
    graph = design.graph
    costs = {node.name: node.estimate for node in graph.nodes}
    rows, loose = layer_rows(graph, costs.__getitem__)
    source = design.folder.hardware
    return ResourceReport(
        plan=variant,
        source=backend.estimate,
        part=graph.part,
        tool=backend.tool,
        tool_version=version,
        total=add_resources(costs.values()),
        layer_sum=add_resources(row.resources for row in rows),
        layers=rows,
        unmatched=loose,
        source_file=source.name,
        source_sha256=sha256_file(source),
    )

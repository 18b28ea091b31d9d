"""Fold a network to a target: the cheapest folding of a frame rate, or the fastest of a board."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaqat_hw import families
from adaqat_hw.compile.design import Design
from adaqat_hw.compile.fold_search import FoldSearch
from adaqat_hw.cost.fold_problem import COUNTED, Counts, FoldProblem, fold_problem
from adaqat_hw.cost.fold_solve import Folding, cost_of, pair
from adaqat_hw.cost.hardware_cost import HardwareCostModel, cost_model_path, load_cost_model
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import (
    Board,
    BuildRequest,
    HardwareGraph,
    HardwareNode,
    ImplChoice,
    MvauImpl,
    Resources,
    sha256_file,
)
from adaqat_hw.schema.folding import (
    CostProvenance,
    FoldingRecord,
    FoldingTarget,
    NodeFolding,
)


def fold_build(
    design: Design, request: BuildRequest, board: Board, target: FoldingTarget
) -> FoldingRecord:
    """Return the folding for a target, from the unfolded ``design``.

    Raises:
        ConfigError: the target cannot be met (names the nearest that can), the board's family
            was not measured, or the network has a node whose folding or cost is not known.
    """
    model = load_cost_model(families.load(board.family))
    narrow = narrow_weights(design.graph, design.parameters())
    return fold_graph(design.graph, request, board, target, model, narrow)


def narrow_weights(
    graph: HardwareGraph, arrays: Mapping[str, NDArray[np.int64]]
) -> dict[str, bool]:
    """Tell for nodes that DSP blocks can take whether weights leave out the most negative value."""
    return {
        node.name: int(arrays[node.parameters["weights"]].min())
        > -(2 ** (node.weight_type.bits - 1))
        for node in graph.nodes
        if "dsp" in [each.name for each in node.operator.implementations if each.measured]
    }


def fold_graph(
    graph: HardwareGraph,
    request: BuildRequest,
    board: Board,
    target: FoldingTarget,
    model: HardwareCostModel,
    narrow: Mapping[str, bool] | None = None,
) -> FoldingRecord:
    """Return the folding of an unfolded graph for a target; raises as :func:`fold_build`."""
    problem = fold_problem(
        graph, model, families.load(board.family), implementations(graph, request), narrow=narrow,
        fifo_depth=request.fifo_depth,
    )  # fmt: skip
    search = FoldSearch(graph, board, target, problem, request.clock_ns)
    folding = search.for_fps(target.fps) if target.fps is not None else search.for_board()
    return _record(search, folding, model)


def implementations(graph: HardwareGraph, request: BuildRequest) -> dict[str, tuple[MvauImpl, ...]]:
    """Return what each node that can be built in several ways may be built in.

    As the request asks; where it asks for nothing, in all ways whose cost is measured, in DSP
    blocks only where they can take it.
    """
    layers = [node.layer for node in graph.nodes if node.operator.implementations]
    allowed: dict[str, tuple[MvauImpl, ...]] = {}
    for node in graph.nodes:
        if not node.operator.implementations:
            continue
        if node.impl is None:
            raise ConfigError(f"{node.op} {node.name!r} has no implementation; build it again.")
        requested = request.implementation(node.layer or "")
        # A request chooses by layer: a node that has none, or shares it, stays as it is.
        if requested != "auto" or node.layer is None or layers.count(node.layer) > 1:
            allowed[node.name] = (node.impl,)
        else:
            allowed[node.name] = tuple(
                each.name
                for each in node.operator.implementations
                if each.measured and (each.name != "dsp" or node.dsp_refusal is None)
            )
    return allowed


def names_after(graph: HardwareGraph, impls: Mapping[str, MvauImpl | None]) -> dict[str, str]:
    """Return the names that FINN will give the nodes when they are built in ``impls``.

    FINN counts nodes of one operator and backend in graph order, and an implementation in LUTs
    stands for its HLS one.

    Raises:
        ConfigError: the present names do not follow that rule.
    """
    expected = _counted_names(graph, {node.name: node.impl for node in graph.nodes})
    if wrong := [name for name, counted in expected.items() if name != counted]:
        raise ConfigError(
            f"Node {wrong[0]!r} should be named {expected[wrong[0]]!r}, so the names after folding "
            "cannot be told; give the folding by hand."
        )
    return _counted_names(graph, impls)


def _counted_names(
    graph: HardwareGraph, impls: Mapping[str, MvauImpl | None]
) -> dict[str, str]:  # fmt: skip
    names: dict[str, str] = {}
    counts: dict[str, int] = {}
    for node in graph.nodes:
        built = node.operator.implementation(impls[node.name])
        backends = {each.backend for each in node.operator.implementations}
        if built is None or len(backends) == 1:
            names[node.name] = node.name
            continue
        stem = f"{node.operator.name}_{built.backend}"
        names[node.name] = f"{stem}_{counts.setdefault(stem, 0)}"
        counts[stem] += 1
    return names


def _record(search: FoldSearch, folding: Folding, model: HardwareCostModel) -> FoldingRecord:
    graph, problem = search.graph, search.problem
    picked = list(zip(graph.nodes, problem.nodes, folding.choice, strict=True))
    impls = {node.name: options.candidates[k].impl for node, options, k in picked}
    names = names_after(graph, impls)
    bottleneck = search.bottleneck(folding)
    _, streams = cost_of(problem, folding.choice)
    streams_error, error = _errors(problem, folding)
    measured = cost_model_path(families.load(model.family))
    return FoldingRecord(
        network=graph.network,
        board=search.board.name,
        clock_ns=search.clock_ns,
        target=search.target,
        interval=folding.interval,
        fps=search.fps(folding.interval),
        bottleneck=bottleneck.model_copy(update={"node": names[bottleneck.node]}),
        nodes=tuple(
            NodeFolding(
                node=names[node.name],
                op=node.op,
                layer=node.layer,
                folds=options.candidates[k].folds,
                impl=options.candidates[k].impl,
                cycles=options.candidates[k].cycles,
                resources=_resources(options.costs[k]),
                error=_resources(options.errors[k]),
            )
            for node, options, k in picked
        ),
        streams=_resources(streams),
        streams_error=_resources(streams_error),
        total=_resources(folding.total),
        error=_resources(error),
        capacity=_resources(search.capacity),
        utilisation={
            name: float(part)
            for name, part in zip(COUNTED, folding.total / search.totals, strict=True)
        },
        folding={names[node.name]: options.candidates[k].folds for node, options, k in picked},
        impl_per_layer=_impl_per_layer(graph.nodes, impls),
        model=CostProvenance(
            file=measured.name,
            sha256=sha256_file(measured),
            tool=model.tool,
            tool_version=model.tool_version,
            samples=model.samples,
        ),
    )


def _impl_per_layer(
    nodes: tuple[HardwareNode, ...], impls: Mapping[str, MvauImpl | None]
) -> dict[str, ImplChoice]:
    """Return the implementations by layer, of layers with one node that has such."""
    rows = [(node.layer, impls[node.name]) for node in nodes if node.operator.implementations]
    layers = [layer for layer, _ in rows]
    return {
        layer: impl
        for layer, impl in rows
        if layer is not None and impl is not None and layers.count(layer) == 1
    }


def _errors(problem: FoldProblem, folding: Folding) -> tuple[Counts, Counts]:
    """Return the half-width of the error bars of all streams and of the total.

    Nodes of one kind share a fit, so their errors are taken to go the same way and add up;
    kinds are independent of each other.
    """
    by_kind: dict[str, Any] = {}
    for options, k in zip(problem.nodes, folding.choice, strict=True):
        kind = options.kinds[k]
        by_kind[kind] = by_kind.get(kind, 0.0) + options.errors[k]
    streams = sum(
        (s.errors[pair(problem, s, folding.choice)] for s in problem.streams),
        np.zeros(len(COUNTED)),
    )
    squares = sum((value**2 for value in by_kind.values()), streams**2)
    return streams, np.sqrt(squares)


def _resources(counts: Counts) -> Resources:
    values: dict[str, Any] = {
        name: math.ceil(value - 1e-9) for name, value in zip(COUNTED, counts, strict=True)
    }
    return Resources(**values)

"""The folding problem in numbers: candidates per node, and what nodes and streams cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from adaqat_hw.cost.folding import Candidate, Edge, candidates, edges
from adaqat_hw.cost.hardware_cost import HardwareCostModel
from adaqat_hw.cost.hardware_features import cost_kind, fold_facts, node_facts
from adaqat_hw.errors import NotMeasured
from adaqat_hw.schema import Family, HardwareGraph, MvauImpl, Resources
from adaqat_hw.schema.operators import FIFO, WIDTH_CONVERTER, find_operator

COUNTED = ("lut", "ff", "dsp", "bram_18k")
Counts = NDArray[np.float64]


@dataclass(frozen=True)
class NodeOptions:
    """A node's candidates; ``costs`` and ``errors`` are (candidates, 4) in order ``COUNTED``."""

    name: str
    candidates: tuple[Candidate, ...]
    costs: Counts
    errors: Counts
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class StreamOptions:
    """A stream between two nodes (their index, None for the outside).

    ``costs`` and ``errors`` are (values per beat of the source, of the target, 4); infinite where
    both sides must be equal and are not. ``out`` and ``into`` are those values per beat.
    """

    source: int | None
    target: int | None
    out: tuple[int, ...]
    into: tuple[int, ...]
    costs: Counts
    errors: Counts


@dataclass(frozen=True)
class FoldProblem:
    """Nodes in graph order and the streams between them."""

    nodes: tuple[NodeOptions, ...]
    streams: tuple[StreamOptions, ...]

    def intervals(self) -> tuple[int, ...]:
        """Return every interval that a folding can have, fastest first."""
        fastest = max(min(c.cycles for c in node.candidates) for node in self.nodes)
        every = {c.cycles for node in self.nodes for c in node.candidates}
        return tuple(sorted(x for x in every if x >= fastest))


def fold_problem(
    graph: HardwareGraph,
    model: HardwareCostModel,
    family: Family,
    impls: Mapping[str, Sequence[MvauImpl]],
    *,
    narrow: Mapping[str, bool] | None = None,
    fifo_depth: int = 2,
) -> FoldProblem:
    """Return the folding problem of an unfolded graph.

    Args:
        graph: built for estimates with PE = SIMD = 1.
        model: measured cost of nodes.
        family: the board's family.
        impls: implementations to choose from, by name of node.
        narrow: MVAUs (by name) whose weights leave out the most negative value.
        fifo_depth: entries of every FIFO.

    Raises:
        NotMeasured: a node whose folding or whose cost is not known.
    """
    unknown = [node.op for node in graph.nodes if not _is_known(model, node.op)]
    if unknown:
        raise NotMeasured(
            f"The cost model of {model.family!r} has no measurement of "
            f"{', '.join(sorted(set(unknown)))}, which {graph.network!r} has; give its folding by "
            "hand."
        )
    nodes = []
    for node in graph.nodes:
        facts = node_facts(node, narrow=(narrow or {}).get(node.name, True))
        options = candidates(node, impls.get(node.name, ()))
        kinds = tuple(cost_kind(node.op, option.impl) for option in options)
        rows = [
            model.predict(kind, fold_facts(facts, option), family)
            for kind, option in zip(kinds, options, strict=True)
        ]
        nodes.append(
            NodeOptions(
                node.name,
                options,
                np.array([_counts(cost) for cost, _ in rows]),
                np.array([_counts(error) for _, error in rows]),
                kinds,
            )
        )
    index = {node.name: k for k, node in enumerate(nodes)}
    price = _stream_price(model, family, fifo_depth)
    return FoldProblem(
        tuple(nodes), tuple(_stream(edge, nodes, index, price) for edge in edges(graph))
    )


def _is_known(model: HardwareCostModel, op: str) -> bool:
    record = find_operator(op)
    return record is not None and any(kind.split("/")[0] == record.name for kind in model.kinds())


# (bits per value, values per beat of source and of target) -> (cost, error)
_Price = Callable[[int, int, int], tuple[Counts, Counts]]


def _stream_price(model: HardwareCostModel, family: Family, fifo_depth: int) -> _Price:
    @cache
    def fifo(bits: int, elements: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        facts = {"in_bits": bits, "in_elements": elements, "depth": fifo_depth}
        cost, error = model.predict(FIFO.name, facts, family)
        return _counts(cost), _counts(error)

    @cache
    def converter(bits: int, a: int, b: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        facts = {"in_bits": bits, "in_elements": a, "out_elements": b}
        cost, error = model.predict(WIDTH_CONVERTER.name, facts, family)
        return _counts(cost), _counts(error)

    def price(bits: int, a: int, b: int) -> tuple[Counts, Counts]:
        """FIFOs stand on both sides of a width converter."""
        parts = [fifo(bits, a)]
        if a != b:
            parts += [converter(bits, a, b), fifo(bits, b)]
        return (
            np.sum([cost for cost, _ in parts], axis=0),
            np.sum([error for _, error in parts], axis=0),
        )

    return price


def _stream(
    edge: Edge, nodes: Sequence[NodeOptions], index: Mapping[str, int], price: _Price
) -> StreamOptions:
    source = index[edge.source] if edge.source is not None else None
    target = index[edge.target] if edge.target is not None else None
    out: tuple[int, ...] = ()
    into: tuple[int, ...] = ()
    if source is not None:
        out = tuple(sorted({c.out_elements for c in nodes[source].candidates}))
    if target is not None:
        into = tuple(sorted({c.in_elements for c in nodes[target].candidates}))
    costs = np.full((max(1, len(out)), max(1, len(into)), len(COUNTED)), np.inf)
    errors = np.zeros_like(costs)
    for a in range(costs.shape[0]):
        for b in range(costs.shape[1]):
            left = out[a] if out else into[b]
            right = into[b] if into else left
            if edge.equal and left != right:
                continue
            costs[a, b], errors[a, b] = price(edge.bits, left, right)
    return StreamOptions(source, target, out, into, costs, errors)


def _counts(resources: Resources) -> tuple[float, ...]:
    values = [getattr(resources, name) for name in COUNTED]
    if None in values:
        raise NotMeasured(f"The cost model gives no {COUNTED[values.index(None)]!r} for a node.")
    return tuple(map(float, values))


def share(counts: Counts, board: Counts) -> float:
    """Return the sum of the fractions of the board that ``counts`` take."""
    return float(math.fsum(counts / board))

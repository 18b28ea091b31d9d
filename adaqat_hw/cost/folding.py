"""Legal foldings: which PE and SIMD a hardware node can take, and how long a frame then takes.

The numbers come from an unfolded graph (every PE and SIMD is 1). Folding divides a node's work
evenly, so a node that takes ``c`` cycles unfolded takes ``c / (PE * SIMD)`` folded; only sliding
windows have a part that does not shrink.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from adaqat_hw.errors import ConfigError, NotMeasured
from adaqat_hw.rtl.ops import operator_module
from adaqat_hw.schema import HardwareGraph, HardwareNode, MvauImpl
from adaqat_hw.schema.operators import OPERATORS, find_operator


@dataclass(frozen=True)
class Candidate:
    """One legal folding of a node.

    ``folds`` are the attributes to set; ``in_elements`` and ``out_elements`` the values per beat
    of its streams; ``impl`` is None where there is no choice.
    """

    folds: dict[str, int]
    impl: MvauImpl | None
    cycles: int
    in_elements: int
    out_elements: int

    @property
    def pe(self) -> int | None:
        """PE, None for a node that has none."""
        return self.folds.get("PE")

    @property
    def simd(self) -> int | None:
        """SIMD, None for a node that has none."""
        return self.folds.get("SIMD")


@dataclass(frozen=True)
class Edge:
    """A stream from one node to the next; ``source`` or ``target`` None is the outside.

    ``equal`` says that both sides must carry as many values per beat: no width converter fits
    between them.
    """

    stream: str
    bits: int
    source: str | None
    target: str | None
    equal: bool


def divisors(number: int) -> tuple[int, ...]:
    """Return the divisors of a positive number in ascending order.

    >>> divisors(12)
    (1, 2, 3, 4, 6, 12)
    """
    low = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return tuple(low + [number // d for d in reversed(low) if d * d != number])


def candidates(node: HardwareNode, impls: Sequence[MvauImpl] = ()) -> tuple[Candidate, ...]:
    """Return every legal folding of an unfolded node, slowest first.

    Args:
        node: a node of a graph built with PE = SIMD = 1, without FIFOs and width converters.
        impls: the implementations it can be built in, where there is a choice.

    Raises:
        NotMeasured: an operator whose folding is not known.
        ConfigError: the node is folded already.
    """
    record = find_operator(node.op)
    folds = [fold for fold in record.folds if fold.searched] if record is not None else []
    if record is None or not folds:
        raise NotMeasured(
            f"Node {node.name!r} is a {node.op!r}, whose folding is not known; there are "
            f"{', '.join(sorted(each.name for each in OPERATORS if each.folds))}: give the "
            "folding of this network by hand."
        )
    for name in ("PE", "SIMD"):
        if node.attributes.get(name, 1) != 1:
            raise ConfigError(
                f"{name} of node {node.name!r} is {node.attributes[name]!r}; a folding is searched "
                "from a graph with 1 everywhere: build it without target and folding."
            )
    axes = [[(fold.name, d) for d in divisors(node.fold_total(fold))] for fold in folds]
    options = []
    for combination in product(*axes):
        chosen = dict(combination)
        into, out = (
            math.prod(chosen.get(name, 1) for name in lanes)
            for lanes in (record.lanes_in, record.lanes_out)
        )
        work = cycles(node, math.prod(chosen.values()))
        for impl in impls or (None,):
            options.append(Candidate(chosen, impl, work, into, out))
    return tuple(sorted(options, key=lambda c: (-c.cycles, sorted(c.folds.items()), c.impl or "")))


def cycles(node: HardwareNode, parallelism: int) -> int:
    """Return the cycles per frame of an unfolded node at PE x SIMD = ``parallelism``."""
    fixed = operator_module(node.operator).fixed_cycles(node)
    return math.ceil((node.cycles - fixed) / parallelism) + fixed


def edges(graph: HardwareGraph) -> tuple[Edge, ...]:
    """Return the streams of a graph, those to and from the outside included."""
    makers = {s.name: node for node in graph.nodes for s in node.outputs}
    readers = {s.name: node for node in graph.nodes for s in node.inputs}
    streams = {s.name: s for node in graph.nodes for s in (*node.inputs, *node.outputs)}
    options = []
    for name, stream in streams.items():
        source, target = makers.get(name), readers.get(name)
        equal = (
            source is not None
            and target is not None
            and source.makes_depthwise
            and target.operator.window == "takes"
        )
        options.append(
            Edge(
                stream=name,
                bits=stream.dtype.bits,
                source=source.name if source else None,
                target=target.name if target else None,
                equal=equal,
            )
        )
    return tuple(options)

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
from adaqat_hw.schema import HardwareGraph, HardwareNode, MvauImpl

# PE or SIMD must divide the attribute named here; "" stands for the stream's channels.
_DIVIDES: dict[str, dict[str, str]] = {
    "MVAU": {"PE": "MH", "SIMD": "MW"},
    # SIMD over the window needs the parallel window generator, which no build uses.
    "VVAU": {"PE": "Channels"},
    "Thresholding": {"PE": "NumChannels"},
    "FMPadding": {"SIMD": "NumChannels"},
    "ConvolutionInputGenerator": {"SIMD": "IFMChannels"},
    "Pool": {"PE": "Channels"},
    "DuplicateStreams": {"PE": "NumChannels"},
    "AddStreams": {"PE": "NumChannels"},
    "ElementwiseAdd": {"PE": ""},
    "GlobalAccPool": {"PE": "NumChannels"},
    "LabelSelect": {"PE": "Labels"},
}
_WINDOW = "ConvolutionInputGenerator"
# Read their depthwise window channel by channel: both sides take as many at once.
_TIED_TO_WINDOW = ("Pool", "VVAU")


@dataclass(frozen=True)
class Candidate:
    """One legal folding of a node.

    ``folds`` are the attributes to set; ``in_elements`` and ``out_elements`` the values per beat
    of its streams; ``impl`` is None for all but MVAUs and VVAUs.
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
        impls: for an MVAU or VVAU, the implementations it can be built in.

    Raises:
        NotMeasured: an operator whose folding is not known.
        ConfigError: the node is folded already.
    """
    rule = _DIVIDES.get(node.op)
    if rule is None:
        raise NotMeasured(
            f"Node {node.name!r} is a {node.op!r}, whose folding is not known; there are "
            f"{', '.join(sorted(_DIVIDES))}: give the folding of this network by hand."
        )
    for name in ("PE", "SIMD"):
        if node.attributes.get(name, 1) != 1:
            raise ConfigError(
                f"{name} of node {node.name!r} is {node.attributes[name]!r}; a folding is searched "
                "from a graph with 1 everywhere: build it without target and folding."
            )
    axes = [[(name, d) for d in divisors(_total(node, of))] for name, of in rule.items()]
    found = []
    for combination in product(*axes):
        folds = dict(combination)
        first = next(iter(folds.values()))
        into, out = (folds["SIMD"], folds["PE"]) if node.op == "MVAU" else (first, first)
        if node.op == "LabelSelect":
            out = 1  # one index
        work = cycles(node, math.prod(folds.values()))
        for impl in impls or (None,):
            found.append(Candidate(folds, impl, work, into, out))
    return tuple(sorted(found, key=lambda c: (-c.cycles, sorted(c.folds.items()), c.impl or "")))


def cycles(node: HardwareNode, parallelism: int) -> int:
    """Return the cycles per frame of an unfolded node at PE x SIMD = ``parallelism``."""
    fixed = _fixed_cycles(node) if node.op == _WINDOW else 0
    return math.ceil((node.cycles - fixed) / parallelism) + fixed


def edges(graph: HardwareGraph) -> tuple[Edge, ...]:
    """Return the streams of a graph, those to and from the outside included."""
    makers = {s.name: node for node in graph.nodes for s in node.outputs}
    readers = {s.name: node for node in graph.nodes for s in node.inputs}
    streams = {s.name: s for node in graph.nodes for s in (*node.inputs, *node.outputs)}
    found = []
    for name, stream in streams.items():
        source, target = makers.get(name), readers.get(name)
        equal = (
            source is not None
            and target is not None
            and source.op == _WINDOW
            and bool(source.attributes.get("depthwise", 0))
            and target.op in _TIED_TO_WINDOW
        )
        found.append(
            Edge(
                stream=name,
                bits=stream.dtype.bits,
                source=source.name if source else None,
                target=target.name if target else None,
                equal=equal,
            )
        )
    return tuple(found)


def _total(node: HardwareNode, attribute: str) -> int:
    if not attribute:
        shape = node.inputs[0].folded_shape
        return shape[-1] * shape[-2]
    value = node.attributes.get(attribute)
    if not isinstance(value, int) or value < 1:
        raise ConfigError(
            f"Attribute {attribute!r} of node {node.name!r} is {value!r}; it must be a positive "
            "integer: build it again."
        )
    return value


def _fixed_cycles(node: HardwareNode) -> int:
    """Return the cycles of a sliding window that do not follow its folding.

    A depthwise window replays its buffer once per channel fold, the last replay of a stride for
    free; windows of one row or one pixel fill a pipeline of two.
    """
    kernel, size = _pair(node, "ConvKernelDim"), _pair(node, "IFMDim")
    if kernel == (1, 1) or 1 in size:
        return 2
    if not node.attributes.get("depthwise", 0):
        return 0
    rows, columns = _pair(node, "OFMDim")
    return -rows * columns * (_pair(node, "Stride")[1] - 1)


def _pair(node: HardwareNode, attribute: str) -> tuple[int, int]:
    value = node.attributes.get(attribute)
    if not isinstance(value, tuple) or len(value) != 2:
        raise ConfigError(
            f"Attribute {attribute!r} of node {node.name!r} is {value!r}, not a pair; build it "
            "again."
        )
    return value[0], value[1]

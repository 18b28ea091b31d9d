"""Search a folding for one network on one board, and name what limits a faster one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from adaqat_hw.cost.fold_problem import COUNTED, Counts, FoldProblem
from adaqat_hw.cost.fold_solve import Folding, cheapest, fastest, smallest
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import Board, HardwareGraph, HardwareNode
from adaqat_hw.schema.folding import Bottleneck, FoldingTarget

_UNITS = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram_18k": "BRAM 18k"}


@dataclass(frozen=True)
class FoldSearch:
    """The problem of one network on one board, and how its answers are put into words."""

    graph: HardwareGraph
    board: Board
    target: FoldingTarget
    problem: FoldProblem
    clock_ns: float

    @property
    def totals(self) -> Counts:
        """Primitives of the board, in order ``COUNTED``."""
        return np.array([float(getattr(self.board, name)) for name in COUNTED])

    @property
    def capacity(self) -> Counts:
        """Primitives that the target allows."""
        return np.floor(self.totals * self.target.fill + 1e-9)

    @property
    def weights(self) -> Counts:
        """Share of the board that one primitive takes."""
        counts: Counts = 1 / self.totals
        return counts

    @property
    def room(self) -> str:
        """What the target allows, in words."""
        return f"{_percent(self.target.fill)} of {self.board.name}"

    def fps(self, interval: int) -> float:
        """Return the frames per second of an interval."""
        return 1e9 / (interval * self.clock_ns)

    def for_board(self) -> Folding:
        """Return the fastest folding within the capacity; raise ConfigError when none fits."""
        folding = fastest(self.problem, self.weights, self.capacity)
        if folding is None:
            raise ConfigError(self._too_small())
        return folding

    def for_fps(self, fps: int) -> Folding:
        """Return the cheapest folding of a frame rate; raise ConfigError with the nearest one."""
        allowed = math.floor(1e9 / (fps * self.clock_ns) + 1e-9)
        quickest = self.problem.intervals()[0]
        if allowed < quickest:
            slowest = [
                node
                for node, options in zip(self.graph.nodes, self.problem.nodes, strict=True)
                if min(c.cycles for c in options.candidates) == quickest
            ]
            raise ConfigError(
                f"{self.graph.network!r} cannot reach {fps:,} frames per second at "
                f"{self.clock_ns:g} ns: {_node_text(slowest[0])} takes {quickest:,} cycles at its "
                f"most parallel folding, so {math.floor(self.fps(quickest)):,} is the fastest."
            )
        folding = cheapest(self.problem, allowed, self.weights, self.capacity)
        if folding is None:
            raise ConfigError(self._too_fast(fps, allowed))
        return folding

    def _too_fast(self, fps: int, allowed: int) -> str:
        over = cheapest(self.problem, allowed, self.weights, self.capacity, soft=True)
        best = fastest(self.problem, self.weights, self.capacity)
        if best is None or over is None:
            return self._too_small()
        return (
            f"{self.graph.network!r} at {fps:,} frames per second needs "
            f"{_shortage_text(over.excess)} more than {self.room} has (predicted); the fastest "
            f"that fits is {math.floor(self.fps(best.interval)):,} frames per second."
        )

    def _too_small(self) -> str:
        least = cheapest(self.problem, None, self.weights, self.capacity, soft=True)
        fewest = smallest(self.problem, "lut")
        assert least is not None
        return (
            f"{self.graph.network!r} does not fit in {self.room} at any folding: the smallest "
            f"needs {_shortage_text(least.excess)} more (predicted), and the fewest LUTs it can "
            f"have are {round(fewest.total[0]):,}; take a larger board or fewer bits."
        )

    def bottleneck(self, folding: Folding) -> Bottleneck:
        """Name the slowest node, and say what stands in the way of the next faster folding."""
        rows = list(zip(self.graph.nodes, self.problem.nodes, folding.choice, strict=True))
        node, options, k = max(rows, key=lambda row: row[1].candidates[row[2]].cycles)
        chosen = options.candidates[k]
        where = f"{_node_text(node)} at {_folds_text(chosen.folds)}"
        return Bottleneck(
            node=node.name,
            layer=node.layer,
            folds=chosen.folds,
            cycles=chosen.cycles,
            reason=f"{where}: {self._obstacle(folding)}",
        )

    def _obstacle(self, folding: Folding) -> str:
        quicker = [i for i in self.problem.intervals() if i < folding.interval]
        if not quicker:
            return _at_its_most_text(folding.interval)
        if self.target.fps is not None:
            allowed = math.floor(1e9 / (self.target.fps * self.clock_ns) + 1e-9)
            return (
                f"{folding.interval:,} cycles per frame are enough, {self.target.fps:,} frames per "
                f"second leave {allowed:,}"
            )
        over = cheapest(self.problem, quicker[-1], self.weights, self.capacity, soft=True)
        assert over is not None
        return (
            f"the next legal step ({over.interval:,} cycles per frame) needs "
            f"{_shortage_text(over.excess)} more than {self.room} has"
        )


def _node_text(node: HardwareNode) -> str:
    """Return a node's layer and what it does in it."""
    return f"{node.layer} ({node.op})" if node.layer is not None else node.name


def _folds_text(folds: Mapping[str, int]) -> str:
    """Return a folding as text.

    >>> _folds_text({"PE": 8, "SIMD": 9})
    'PE 8 SIMD 9'
    """
    return " ".join(f"{name} {value}" for name, value in folds.items())


def _shortage_text(excess: Counts) -> str:
    """Return how much of which resource is lacking."""
    parts = [
        f"{value:,.0f} {_UNITS[name]}"
        for name, value in zip(COUNTED, excess, strict=True)
        if value >= 0.5
    ]
    return " and ".join(parts) or "a little"


def _percent(fraction: float) -> str:
    """Return a fraction in percent.

    >>> _percent(0.7)
    '70 %'
    """
    return f"{100 * fraction:g} %"


def _at_its_most_text(interval: int) -> str:
    """Say that no legal folding is faster."""
    return (
        f"no legal folding takes fewer than {interval:,} cycles per frame; its PE and SIMD are as "
        "large as its shape allows"
    )

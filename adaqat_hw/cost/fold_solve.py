"""Choose a folding exactly: a mixed-integer program, and a bisection over intervals.

For a given interval every node takes one candidate that meets it. A stream costs a FIFO, and a
width converter where its two sides carry different numbers of values per beat, so neighbours
cannot be chosen alone; the streams enter as pairs of widths, which the choice of the nodes makes
whole numbers by itself. The cost falls as the interval grows, so the fastest folding within a
capacity is found by bisection over the finite set of intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse

from adaqat_hw.cost.fold_problem import COUNTED, Counts, FoldProblem, StreamOptions
from adaqat_hw.errors import ConfigError

_TIME_LIMIT_S = 120.0
_INFEASIBLE = 2


@dataclass(frozen=True)
class Folding:
    """A choice of one candidate per node (by index), with its cost in order ``COUNTED``.

    ``excess`` is what it takes beyond the capacity, where it was allowed to.
    """

    choice: tuple[int, ...]
    interval: int
    total: Counts
    excess: Counts


def cheapest(
    problem: FoldProblem,
    interval: int | None,
    weights: Counts,
    capacity: Counts,
    *,
    soft: bool = False,
) -> Folding | None:
    """Return the cheapest folding that meets an interval within a capacity, or None.

    Args:
        problem: nodes and streams.
        interval: cycles per frame that no node may exceed; None for any.
        weights: cost of one primitive of each sort.
        capacity: primitives of each sort that there are.
        soft: allow more than the capacity and make the excess small instead of the cost.

    Raises:
        ConfigError: the solver did not end in its time.
    """
    candidates = _prune(problem, interval)
    if candidates is None:
        return None
    columns = _Columns(problem, candidates)
    cost = columns.costs  # (variables, 4)
    slack = len(COUNTED) if soft else 0
    objective = np.concatenate([np.zeros(len(cost)) if soft else cost @ weights, np.zeros(slack)])
    if soft:
        # Among equal excess the cheaper folding; the factor is far below one primitive's weight.
        objective[: len(cost)] = 1e-4 * (cost @ weights)
        objective[len(cost) :] = weights
    limits = sparse.hstack([sparse.csr_matrix(cost.T), -sparse.eye(len(COUNTED), slack)])
    equal = sparse.hstack([columns.matrix, sparse.csr_matrix((columns.matrix.shape[0], slack))])
    integral = np.zeros(len(objective))
    integral[: columns.choices] = 1
    bounds = optimize.Bounds(
        np.zeros(len(objective)), np.concatenate([np.ones(len(cost)), np.full(slack, np.inf)])
    )
    solved = optimize.milp(
        objective,
        integrality=integral,
        bounds=bounds,
        constraints=[
            optimize.LinearConstraint(equal.tocsr(), columns.right, columns.right),
            optimize.LinearConstraint(limits.tocsr(), -np.inf, capacity),
        ],
        options={"time_limit": _TIME_LIMIT_S, "mip_rel_gap": 1e-6},
    )
    if solved.status == _INFEASIBLE:
        return None
    if solved.status != 0 or solved.x is None:
        raise ConfigError(
            f"The search for a folding did not end within {_TIME_LIMIT_S:g} s ({solved.message}); "
            "ask for a lower target, or give the folding by hand."
        )
    choice = columns.chosen(solved.x)
    total, _ = cost_of(problem, choice)
    return Folding(
        choice=choice,
        interval=interval_of(problem, choice),
        total=total,
        excess=np.maximum(total - capacity, 0.0),
    )


def fastest(problem: FoldProblem, weights: Counts, capacity: Counts) -> Folding | None:
    """Return the fastest folding within a capacity, the cheapest of them; None where none fits."""
    intervals = problem.intervals()
    best: Folding | None = None
    low, high = 0, len(intervals) - 1
    while low <= high:
        middle = (low + high) // 2
        choice = cheapest(problem, intervals[middle], weights, capacity)
        if choice is None:
            low = middle + 1
        else:
            best, high = choice, middle - 1
    return best


def interval_of(problem: FoldProblem, choice: Sequence[int]) -> int:
    """Return the cycles per frame of the slowest node."""
    return max(n.candidates[k].cycles for n, k in zip(problem.nodes, choice, strict=True))


def cost_of(problem: FoldProblem, choice: Sequence[int]) -> tuple[Counts, Counts]:
    """Return the cost of a choice in all, and that of its streams (FIFOs, width converters)."""
    nodes = sum(n.costs[k] for n, k in zip(problem.nodes, choice, strict=True))
    streams = np.sum(
        [s.costs[pair(problem, s, choice)] for s in problem.streams] or [np.zeros(len(COUNTED))],
        axis=0,
    )
    return nodes + streams, streams


def pair(problem: FoldProblem, stream: StreamOptions, choice: Sequence[int]) -> tuple[int, int]:
    """Return the index of a stream's two widths under a choice."""
    a = b = 0
    if stream.source is not None:
        source = problem.nodes[stream.source]
        a = stream.out.index(source.candidates[choice[stream.source]].out_elements)
    if stream.target is not None:
        target = problem.nodes[stream.target]
        b = stream.into.index(target.candidates[choice[stream.target]].in_elements)
    return a, b


class _Columns:
    """Variables and equations: one variable per candidate, one per pair of widths of a stream.

    The pairs of a stream sum up to what its source and its target chose.
    """

    def __init__(self, problem: FoldProblem, candidates: list[list[int]]) -> None:
        self._kept = candidates
        self._first = np.concatenate([[0], np.cumsum([len(rows) for rows in candidates])])
        self.choices = int(self._first[-1])
        costs = [n.costs[rows] for n, rows in zip(problem.nodes, candidates, strict=True)]
        entries: list[tuple[int, int, float]] = []
        right: list[float] = []
        for node, rows in enumerate(candidates):
            entries += [(node, int(self._first[node]) + k, 1.0) for k in range(len(rows))]
            right.append(1.0)
        column = self.choices
        for stream in problem.streams:
            left = self._groups(problem, stream.source, stream.out, "out_elements")
            into = self._groups(problem, stream.target, stream.into, "in_elements")
            legal = [
                (a, b) for a in left for b in into if np.isfinite(stream.costs[a, b]).all()
            ]  # fmt: skip
            costs.append(np.array([stream.costs[p] for p in legal]).reshape(-1, len(COUNTED)))
            for side, groups in ((0, left), (1, into)):
                for width, members in groups.items():
                    row = len(right)
                    entries += [
                        (row, column + k, 1.0) for k, p in enumerate(legal) if p[side] == width
                    ]
                    entries += [(row, member, -1.0) for member in members]
                    right.append(0.0 if members else 1.0)
            column += len(legal)
        self.costs = np.concatenate(costs)
        at_row, at_column, values = zip(*entries, strict=True)
        shape = (len(right), column)
        self.matrix = sparse.csr_matrix((values, (at_row, at_column)), shape=shape)
        self.right = np.array(right)

    def _groups(
        self, problem: FoldProblem, node: int | None, widths: tuple[int, ...], attribute: str
    ) -> dict[int, list[int]]:
        """Return the variables of a node's candidates by the width they give a stream."""
        if node is None:
            return {0: []}
        groups: dict[int, list[int]] = {}
        for k, row in enumerate(self._kept[node]):
            width = getattr(problem.nodes[node].candidates[row], attribute)
            groups.setdefault(widths.index(width), []).append(int(self._first[node]) + k)
        return groups

    def chosen(self, values: NDArray[np.float64]) -> tuple[int, ...]:
        """Return the candidate of each node."""
        return tuple(
            rows[int(np.argmax(values[self._first[n] : self._first[n + 1]]))]
            for n, rows in enumerate(self._kept)
        )


def _prune(problem: FoldProblem, interval: int | None) -> list[list[int]] | None:
    """Return the candidates of each node that meet the interval and are not clearly worse.

    None where a node has no candidate that meets it. One is clearly worse when another costs no
    more of anything even after the most that its other widths can add to the node's streams.
    """
    candidates = [
        [k for k, c in enumerate(node.candidates) if interval is None or c.cycles <= interval]
        for node in problem.nodes
    ]
    if not all(candidates):
        return None
    for n in range(len(candidates)):
        candidates[n] = _undominated(problem, n, candidates)
    return candidates


def _undominated(problem: FoldProblem, n: int, candidates: list[list[int]]) -> list[int]:
    node, rows = problem.nodes[n], candidates[n]
    if len(rows) < 2:
        return rows
    # worst[i, j]: the most that taking i instead of j adds, per resource.
    worst = node.costs[rows][:, None, :] - node.costs[rows][None, :, :]
    for stream in problem.streams:
        for end, widths, attribute, other in (
            (stream.source, stream.out, "out_elements", stream.target),
            (stream.target, stream.into, "in_elements", stream.source),
        ):
            if end != n:
                continue
            own = [widths.index(getattr(node.candidates[k], attribute)) for k in rows]
            table = stream.costs if end == stream.source else stream.costs.swapaxes(0, 1)
            seen = _widths_of(problem, stream, other, candidates)
            worst = worst + _added(table[own][:, seen])
    dominates: NDArray[np.bool_] = np.all(worst <= 1e-9, axis=2)
    left = list(range(len(rows)))
    for j in range(len(rows)):
        if any(i != j and dominates[i, j] for i in left):
            left.remove(j)
    return [rows[i] for i in left]


def _widths_of(
    problem: FoldProblem, stream: StreamOptions, other: int | None, candidates: list[list[int]]
) -> list[int]:
    if other is None:
        return [0]
    at_target = other == stream.target
    widths = stream.into if at_target else stream.out
    attribute = "in_elements" if at_target else "out_elements"
    options = problem.nodes[other].candidates
    return sorted({widths.index(getattr(options[k], attribute)) for k in candidates[other]})


def _added(table: Counts) -> Counts:
    """Return (i, j, resource): the most that row i of a stream's costs exceeds row j."""
    with np.errstate(invalid="ignore"):
        difference = table[:, None] - table[None, :]
    # Two illegal pairs are alike; a legal one is never replaced by an illegal one (inf stays).
    difference[np.isnan(difference)] = 0.0
    most: Counts = difference.max(axis=2)
    return most


def smallest(problem: FoldProblem, resource: str) -> Folding:
    """Return the folding that takes the least of one resource, whatever its speed."""
    weights = np.array([1.0 if name == resource else 1e-6 for name in COUNTED])
    choice = cheapest(problem, None, weights, np.full(len(COUNTED), np.inf))
    assert choice is not None
    return choice

"""Integer widths of least measured loss within a limit, exactly. No torch.

What a set of widths costs is not a sum over the widths: a layer's BitOPs are a product of two of
them. Widths that share a product are chosen together; what they cost together, added over all such
sets, is the cost of the plan. Which widths interact is found from the cost itself, so any
:class:`HardwareCost` that is a sum over layers is solved exactly (a multiple-choice knapsack, by
SciPy's HiGHS).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product

import numpy as np

Cost = Callable[[Mapping[str, int]], float]
Scores = Mapping[str, Mapping[int, float]]

_LARGEST_SET = 20_000  # choices of widths that interact
_SECONDS = 20.0
_ATTEMPTS = 3
_ROUNDING = 1e-9


def allocate_exactly(
    live: Mapping[str, int], scores: Scores, cost: Cost, limit: float
) -> dict[str, int] | None:
    """Return the integers of the least sum of scores whose cost is at most ``limit``.

    Args:
        live: all widths; those without scores stay.
        scores: for each width to choose, its integers and the loss at each.
        cost: of a set of integers; a sum over sets of widths that interact.
        limit: not to be exceeded.

    Returns:
        The widths; None where no choice fits, where the cost is no such sum, where too many widths
        interact to list their choices, or where SciPy is missing (a training machine need not have
        it): :func:`adaqat_hw.quant.allocate.allocate` then finds a good plan, if not the best.
    """
    names = [name for name, row in scores.items() if row]
    start = {**live, **{name: min(scores[name]) for name in names}}
    base = cost(start)
    if base > limit:
        return None
    sets = _interacting(names, {n: sorted(scores[n]) for n in names}, start, cost, base)
    if any(math.prod(len(scores[n]) for n in members) > _LARGEST_SET for members in sets):
        return None
    choices: list[list[dict[str, int]]] = []
    for members in sets:
        spans = [sorted(scores[n]) for n in members]
        choices.append([dict(zip(members, bits, strict=True)) for bits in product(*spans)])
    prices = [[cost({**start, **choice}) - base for choice in listed] for listed in choices]
    values = [[sum(scores[n][b] for n, b in c.items()) for c in listed] for listed in choices]
    room = limit - base
    for _ in range(_ATTEMPTS):
        taken = _knapsack(values, prices, room)
        if taken is None:
            return None
        plan = dict(start)
        for listed, index in zip(choices, taken, strict=True):
            plan |= listed[index]
        expected = base + sum(row[index] for row, index in zip(prices, taken, strict=True))
        total = cost(plan)
        if abs(total - expected) > 1e-6 * (1 + abs(total)):
            return None
        if total <= limit:
            return plan
        room -= total - limit  # the solver takes a hair too much for equal
    return None


def _interacting(
    names: Sequence[str],
    spans: Mapping[str, Sequence[int]],
    start: Mapping[str, int],
    cost: Cost,
    base: float,
) -> list[tuple[str, ...]]:
    """Sort widths into sets between which the cost is a sum."""
    wide = {name: spans[name][-1] for name in names}
    alone = {name: cost({**start, name: wide[name]}) - base for name in names}
    leader = {name: name for name in names}

    def top(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for one, other in combinations(names, 2):
        if top(one) == top(other):
            continue
        both = cost({**start, one: wide[one], other: wide[other]}) - base
        if abs(both - alone[one] - alone[other]) > _ROUNDING * (1 + abs(both) + abs(base)):
            leader[top(other)] = top(one)
    sets: dict[str, list[str]] = {}
    for name in names:
        sets.setdefault(top(name), []).append(name)
    return [tuple(members) for members in sets.values()]


def _knapsack(
    values: Sequence[Sequence[float]], prices: Sequence[Sequence[float]], room: float
) -> list[int] | None:
    """Return which choice of each set has the least sum of values within ``room``."""
    try:
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import lil_array
    except ImportError:
        return None
    sizes = [len(row) for row in values]
    count = sum(sizes)
    flat = np.array([v for row in values for v in row], dtype=float)
    weights = np.array([p for row in prices for p in row], dtype=float)
    scale = max(float(np.abs(weights).max(initial=0.0)), 1.0)
    one_each = lil_array((len(sizes), count))
    ends = np.cumsum(sizes)
    for index, end in enumerate(ends):
        one_each[index, end - sizes[index] : end] = 1
    spread = float(np.ptp(flat)) or 1.0
    result = milp(
        flat / spread,
        integrality=np.ones(count),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_each.tocsr(), 1, 1),
            LinearConstraint(weights[None, :] / scale, -np.inf, room / scale),
        ],
        options={"time_limit": _SECONDS, "mip_rel_gap": 0.0},
    )
    if result.status != 0:  # no solution, or out of time: then what it has may not be the best
        return None
    chosen = result.x
    return [int(np.argmax(chosen[end - size : end])) for size, end in zip(sizes, ends, strict=True)]

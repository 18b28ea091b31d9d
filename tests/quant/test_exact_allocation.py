"""The exact allocation against every plan there is."""

from __future__ import annotations

import random
from itertools import product

import pytest

from adaqat_hw.quant.exact_allocation import allocate_exactly

# Layers as (MACs, weight, activation): one activation feeds two layers, one layer has fixed ends.
_LAYERS = [(50, "w0", "a0"), (80, "w1", "a1"), (30, "w2", "a1"), (20, "w3", None)]
_NAMES = ["w0", "w1", "w2", "w3", "a0", "a1"]


def bitops(bits):
    return sum(macs * bits[w] * (8 if a is None else bits[a]) for macs, w, a in _LAYERS) + 1000


@pytest.mark.parametrize("seed", range(40))
def test_no_plan_within_the_limit_is_better(seed):
    draw = random.Random(seed)
    live = {name: draw.randint(2, 6) for name in _NAMES} | {"other": 7}
    scores = {
        name: {b: draw.uniform(-1, 3) for b in range(live[name] - 1, live[name] + 2)}
        for name in _NAMES
    }
    plans = [dict(zip(_NAMES, bits, strict=True)) for bits in product(*scores.values())]
    costs = sorted(bitops(plan) for plan in plans)
    limit = draw.choice(costs)
    plan = allocate_exactly(live, scores, bitops, limit)
    assert plan["other"] == 7
    assert bitops(plan) <= limit
    best = min(
        sum(scores[n][b] for n, b in other.items()) for other in plans if bitops(other) <= limit
    )
    assert sum(scores[n][plan[n]] for n in _NAMES) == pytest.approx(best)


def test_nothing_fits():
    scores = {"w0": {2: 0.0, 3: 0.0}}
    live = dict.fromkeys(_NAMES, 4)
    assert allocate_exactly(live, scores, bitops, bitops({**live, "w0": 2}) - 1) is None


def test_one_pair_of_widths_for_the_network_is_solved_too():
    scores = {"weights": {2: 3.0, 3: 1.0, 4: 0.0}, "acts": {2: 2.0, 3: 1.5, 4: 0.0}}

    def cost(bits):
        return 100.0 * bits["weights"] * bits["acts"]

    plan = allocate_exactly({"weights": 3, "acts": 3}, scores, cost, 950)
    assert plan == {"weights": 3, "acts": 3} or cost(plan) <= 950
    assert sum(scores[n][plan[n]] for n in plan) == 2.0  # 4/2


def test_a_cost_that_is_no_sum_over_sets_is_not_solved():
    """Three widths that interact only all together."""
    names = ["a", "b", "c"]

    def cost(bits):
        return float(all(bits[name] > 2 for name in names)) + sum(bits.values())

    scores = {name: {2: 1.0, 3: 0.0} for name in names}
    assert allocate_exactly(dict.fromkeys(names, 2), scores, cost, 10) is None

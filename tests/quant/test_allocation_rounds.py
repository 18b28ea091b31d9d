"""Rounds of the rule ``allocation``: which widths are scored, chosen and taken."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from adaqat_hw.cost import BitOpsCost
from adaqat_hw.cost.layer_widths import LayerWidths, Operand
from adaqat_hw.quant.allocation_rounds import (
    best_plan,
    changed_widths,
    judge,
    neighbours,
    reference_plan,
    round_steps,
)
from adaqat_hw.quant.controller import AdaQatController
from adaqat_hw.quant.widths import Width

NAMES = ["weights:a", "weights:b", "acts:a", "acts:b"]


def controller(limit, bits=4, minimum=2, maximum=8):
    layers = [LayerWidths(x, 100, 10, Operand(f"weights:{x}"), Operand(f"acts:{x}")) for x in "ab"]
    widths = [Width(name, float(bits), minimum, maximum, 0.1) for name in NAMES]
    return AdaQatController(widths, BitOpsCost(layers, limit), 0.1)


def scored(at, worth, noise=0.0, batches=8, seed=0):
    """Scores whose bits have the given worths: (name, bit) to the score that the bit saves."""
    draw = random.Random(seed)
    base = [1.0 + draw.gauss(0, noise) for _ in range(batches)]
    top, table = reference_plan(at), {}
    for name, near in neighbours(at):
        change = sum(worth(name, bit) for bit in range(near + 1, top[name] + 1))
        table[name, near] = [x + change + draw.gauss(0, noise) for x in base]
    return base, table


def test_rounds_share_the_steps_between_warm_up_and_freeze():
    assert round_steps(10, 40, 3) == [10, 20, 30]
    assert round_steps(0, 2, 3) == [0, 1]
    assert round_steps(5, 6, 1000) == [5]


def test_neighbours_keep_the_bounds():
    at = controller(10_000, bits=2, maximum=3)
    assert reference_plan(at) == dict.fromkeys(NAMES, 3)
    assert neighbours(at) == [(name, 2) for name in NAMES]
    at = controller(10_000, bits=8)
    assert reference_plan(at) == dict.fromkeys(NAMES, 8)
    assert neighbours(at) == [(name, 7) for name in NAMES]
    assert neighbours(controller(10_000, bits=3, minimum=3, maximum=3)) == []


def test_a_comparison_scores_what_differs():
    at = controller(10_000)
    plan = {**at.bits, "weights:a": 5, "acts:b": 3}
    assert changed_widths(at, plan) == (
        [("weights:a", 5), ("acts:b", 3)],
        [("weights:a", 4), ("acts:b", 4)],
    )


def test_bits_move_from_where_they_are_worth_little_to_where_they_are_worth_much():
    at = controller(3200)  # 4/4 everywhere
    worths = {"weights:a": 1.0, "acts:a": 1.0, "weights:b": 0.01, "acts:b": 0.01}
    choice = best_plan(at, *scored(at, lambda name, bit: worths[name] * 4.0 ** (4 - bit)))
    assert choice.exact
    plan = choice.plan
    assert plan["weights:a"] + plan["acts:a"] > 8 > plan["weights:b"] + plan["acts:b"]
    assert at.cost.value(plan) <= 3200
    assert all(abs(plan[name] - 4) <= 1 for name in NAMES)


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_leaves_no_kind_without_its_bits(seed):
    at = controller(3200)
    plan = best_plan(at, *scored(at, lambda name, bit: 0.0, noise=0.02, seed=seed)).plan
    assert at.cost.value(plan) <= 3200
    assert all(abs(plan[name] - 4) <= 1 for name in NAMES)


def test_a_plan_is_taken_only_beyond_two_standard_errors():
    live, plan = {"a": 4, "b": 4}, {"a": 5, "b": 3}
    assert judge(live, plan, [-0.2, -0.21, -0.19, -0.2]).taken
    assert not judge(live, plan, [-0.2, 0.21, -0.19, 0.1]).taken
    assert not judge(live, plan, [0.2, 0.21, 0.19, 0.2]).taken
    assert not judge(live, live, [-1.0, -1.0]).taken
    assert not judge(live, plan, [-1.0]).taken


def test_the_sentence_says_what_was_found():
    at = controller(3200)
    live = at.bits
    plan = {**live, "weights:a": 5, "weights:b": 3}
    outcome = judge(live, plan, [-0.2, -0.22]).as_dict(at.cost)
    assert outcome["sentence"] == (
        "The best plan by single scores (3,200 BitOPs; weights:a 4 to 5, weights:b 4 to 3) is "
        "taken: on other batches their sum minus that of the present plan (3,200 BitOPs) is "
        "-0.2100 with a standard error of 0.0100."
    )
    assert judge(live, live, []).as_dict(at.cost)["sentence"] == (
        "No other plan within the budget and one bit scores better."
    )
    few = judge(live, plan, [-0.2]).as_dict(at.cost)["sentence"]
    assert few.endswith(
        "is not taken: there are too few batches to compare it with the present one."
    )


def test_without_scipy_a_good_plan_is_found_and_the_sentence_does_not_call_it_best(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    at = controller(3200)
    worths = {"weights:a": 1.0, "acts:a": 1.0, "weights:b": 0.01, "acts:b": 0.01}
    choice = best_plan(at, *scored(at, lambda name, bit: worths[name] * 4.0 ** (4 - bit)))
    assert not choice.exact
    plan = choice.plan
    assert at.cost.value(plan) <= 3200
    assert plan["weights:a"] + plan["acts:a"] > 8
    outcome = judge(at.bits, plan, [-0.2, -0.22], exact=choice.exact).as_dict(at.cost)
    assert outcome["sentence"].startswith("The best plan that was found by single scores (")


def test_scores_that_favour_one_kind_move_no_bits_between_kinds():
    """Weights look ten times as sensitive everywhere; all layers are alike."""
    at = controller(3200)
    table = scored(at, lambda name, bit: (10.0 if name[0] == "w" else 1.0) * 4.0 ** (4 - bit))
    choice = best_plan(at, *table)
    assert choice.plan == at.bits
    ratio = choice.factors["acts:a"] / choice.factors["weights:a"]
    assert ratio == pytest.approx(10.0, rel=0.05)


def test_within_a_kind_the_scores_decide():
    at = controller(3200)
    worths = {"weights:a": 10.0, "weights:b": 0.1, "acts:a": 1.0, "acts:b": 1.0}
    plan = best_plan(at, *scored(at, lambda name, bit: worths[name] * 4.0 ** (4 - bit))).plan
    assert plan == {"weights:a": 5, "weights:b": 3, "acts:a": 4, "acts:b": 4}


_CHOICE = """
import sys; sys.path.insert(0, {folder!r})
from test_allocation_rounds import best_plan, controller, scored
at = controller(3600)
print(best_plan(at, *scored(at, lambda name, bit: 1.0)).plan)
"""


def test_equal_scores_give_every_process_the_same_plan():
    """Strings hash otherwise in each process, so nothing may hang on the order of a set."""
    folder = str(Path(__file__).parent)
    plans = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _CHOICE.format(folder=folder)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2", "3")
    }
    assert len(plans) == 1

from __future__ import annotations

import itertools
import json
import math
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant.allocate import allocate
from adaqat_hw.quant.binding import Binding
from adaqat_hw.quant.budget import Budget
from adaqat_hw.quant.controller import AdaQatController, Width
from adaqat_hw.quant.cost_terms import Prices, drive_to_budget
from adaqat_hw.quant.hardware_loss import CostTerm, layer_cost, total_cost
from adaqat_hw.quant.probe_scheduler import ProbeScheduler
from adaqat_hw.quant.sensitivity import SensitivityTracker

# Loss that the last bit saves, and the spread of one probe: ResNet20-like, docs/adaqat.md.
WEIGHTS = {2: 1.2, 3: 0.38, 4: 0.061, 5: 0.012, 6: 0.002, 7: 0.0007, 8: 0.0002}
ACTS = {2: 0.8, 3: 0.27, 4: 0.125, 5: 0.02, 6: 0.002, 7: 0.0008, 8: 0.0003}
SPREAD = {2: 0.1, 3: 0.08, 4: 0.027, 5: 0.013, 6: 0.007, 7: 0.003, 8: 0.0015}
ENDS = (CostTerm(442_368, 8, 8), CostTerm(640, 8, 8))
INNER_MACS = 40_108_032
W3A4 = 509_648_896


@dataclass
class Simulated:
    """A binding without a network, on a landscape of known worths with noise."""

    binding: Binding
    worth: object
    spread: object
    every: int
    rng: random.Random
    flips: dict[str, int] = field(default_factory=dict)
    lambdas: list[float] = field(default_factory=list)
    excess: list[float] = field(default_factory=list)

    def run(self, start, stop, steps):
        controller = self.binding.controller
        for step in range(start, stop):
            if step % self.every:
                continue
            self.binding.progress(step / steps)
            losses = {}
            names = self.binding.probe_names(step)
            for name, bits in controller.probes():
                if name in names:
                    here, other = controller.bits[name], bits[name]
                    bit = max(here, other)
                    change = self.worth(name, bit) * (1 if other < here else -1)
                    losses[name] = 2.0 + change + self.rng.gauss(0, self.spread(name, bit))
            for flip in self.binding.step(losses, 2.0, step).flips:
                self.flips[flip.name] = self.flips.get(flip.name, 0) + 1
            self.lambdas.append(controller.hardware_lambda)
            facts = self.binding.facts()
            self.excess.append(facts["hard_loss"] / facts["budget"]["target_hard_loss"])
        return self

    def finish(self, steps):
        self.run(0, steps, steps)
        self.binding.freeze_all(steps)
        return self.binding.controller.bits

    def loss(self, bits):
        return sum(self.worth(n, k) for n in bits for k in range(bits[n] + 1, 9))


def simulate(widths, terms, value, worth, spread, *, seed=0, every=4, per_step=None, **kwargs):
    kwargs = {"gradient_ema": 0.8, "hysteresis": 0.1, "max_move": 1.0, **kwargs}
    cost = layer_cost(terms)
    controller = AdaQatController(
        widths, cost, hardware_lambda=0.01, freeze_oscillating=False, **kwargs
    )
    budget = Budget("bitops", value, total_cost(terms), weights=1)
    binding = Binding(
        None,
        controller,
        {},
        bitops=total_cost(terms),
        turns=ProbeScheduler(controller.widths, every, per_step),
        budget=budget,
        drive=drive_to_budget(Prices(cost, terms, budget, terms), controller, "simulated"),
    )
    return Simulated(binding, worth, spread, every, random.Random(seed))


def whole_network(lr_weights, lr_acts, *, noise=1.0, **kwargs):
    widths = [Width("weights", 8, 2, 8, lr_weights), Width("acts", 8, 2, 8, lr_acts)]
    terms = (ENDS[0], CostTerm(INNER_MACS, "weights", "acts"), ENDS[1])
    return simulate(
        widths,
        terms,
        W3A4,
        lambda name, bit: (WEIGHTS if name == "weights" else ACTS)[bit],
        lambda name, bit: noise * SPREAD[bit],
        **kwargs,
    )


def per_layer(lr=0.2, *, layers=20, value=W3A4, noise=1.0, **kwargs):
    """Layers of different size and sensitivity; the noise of a probe is as large as its signal."""
    rng = random.Random(7)
    sensitivity = {f"{x}:{i}": math.exp(rng.gauss(0, 1)) for x in "wa" for i in range(layers)}
    mean = sum(sensitivity.values()) / len(sensitivity)
    sensitivity = {name: s / mean / layers for name, s in sensitivity.items()}
    share = [rng.choice((1, 2, 4)) for _ in range(layers)]
    macs = [INNER_MACS * x // sum(share) for x in share]
    terms = (ENDS[0], *(CostTerm(m, f"w:{i}", f"a:{i}") for i, m in enumerate(macs)), ENDS[1])

    def worth(name, bit):
        return sensitivity[name] * (WEIGHTS if name[0] == "w" else ACTS)[bit]

    def spread(name, bit):
        return noise * (worth(name, bit) + SPREAD[bit] / layers)

    widths = [Width(name, 8, 2, 8, lr) for name in sensitivity]
    made = simulate(widths, terms, value, worth, spread, per_step=8, **kwargs)
    made.sensitivity = sensitivity
    return made


def reached(simulated):
    outcome = simulated.binding.outcome()
    assert outcome.met
    return outcome.reached / outcome.budget


@pytest.mark.parametrize("lr", [(1e-3, 5e-4), (0.05, 0.05), (0.3, 0.3)])
@pytest.mark.parametrize("noise", [1.0, 3.0])
def test_a_pair_of_widths_meets_the_budget_at_any_learning_rate(lr, noise):
    for seed in range(3):
        simulated = whole_network(*lr, noise=noise, seed=seed)
        bits = simulated.finish(1200)
        assert reached(simulated) <= 1
        assert bits["weights"] * bits["acts"] == 12  # all that the budget allows


@pytest.mark.parametrize("seed", range(4))
def test_a_pair_of_widths_finds_the_paper_s_plan_and_stays_calm(seed):
    simulated = whole_network(0.05, 0.05, seed=seed)
    assert simulated.finish(2000) == {"weights": 3, "acts": 4}
    assert simulated.binding.outcome().reached == W3A4
    assert sum(simulated.flips.values()) < 60


def test_lambda_is_stable_and_the_plan_follows_the_target_down_to_the_budget():
    simulated = whole_network(0.05, 0.05)
    simulated.finish(2000)
    held = sorted(simulated.lambdas[-80:])
    assert held[-1] < 5 * held[len(held) // 2]
    # Two integers of about 4 cannot follow more closely than half a bit each.
    assert all(0.7 < x < 1.45 for x in simulated.excess[20:])
    assert sum(simulated.excess[-80:]) / 80 < 1.2


@pytest.mark.parametrize(("noise", "most"), [(0.25, 0.85), (1.0, 1.0)])
def test_per_layer_spends_the_budget_where_it_pays(noise, most):
    for seed in range(2):
        simulated = per_layer(noise=noise, seed=seed)
        bits = simulated.finish(1600)
        assert 0.985 < reached(simulated) <= 1
        uniform = {name: 3 if name[0] == "w" else 4 for name in bits}
        assert simulated.loss(bits) < most * simulated.loss(uniform)
        order = sorted((n for n in bits if n[0] == "w"), key=simulated.sensitivity.__getitem__)
        assert sum(bits[n] for n in order[-6:]) > sum(bits[n] for n in order[:6]) + 2
        assert max(simulated.flips.values()) < 20
        assert all(0.8 < x < 1.25 for x in simulated.excess[40:])


def test_few_updates_are_enough():
    simulated = whole_network(0.05, 0.05, every=1)
    simulated.finish(15)
    assert reached(simulated) <= 1
    simulated = per_layer(value=4e8, every=1)
    simulated.finish(12)
    assert 0.97 < reached(simulated) <= 1


def test_frozen_by_the_schedule_at_once_still_meets_the_budget():
    simulated = per_layer()
    simulated.binding.progress(0.0)
    events = simulated.binding.freeze_all(3)
    assert reached(simulated) <= 1
    assert {f.reason for f in events.freezes} == {"budget"}
    assert simulated.binding.freeze_all(4).freezes == ()


def test_resume_is_bit_identical():
    def part(seed):
        return per_layer(seed=seed)

    straight = part(3).run(0, 300, 600)
    resumed = part(9)
    resumed.binding.load_state_dict(json.loads(json.dumps(straight.binding.state_dict())))
    resumed.rng.setstate(straight.rng.getstate())
    for simulated in (straight, resumed):
        simulated.run(300, 600, 600)
    assert straight.binding.state_dict() == resumed.binding.state_dict()
    assert straight.binding.facts() == resumed.binding.facts()
    assert straight.lambdas[75:] == resumed.lambdas
    for simulated in (straight, resumed):
        simulated.binding.freeze_all(600)
    assert straight.binding.controller.bits == resumed.binding.controller.bits


def test_a_state_of_a_run_without_budget_is_refused():
    simulated = whole_network(0.05, 0.05)
    state = {**simulated.binding.state_dict(), "drive": None}
    with pytest.raises(ConfigError, match="learned without a budget"):
        simulated.binding.load_state_dict(state)


def test_outcome_says_what_was_reached():
    budget = Budget("bitops", 1000.0, lambda bits: 100 * bits["w"], weights=5)
    assert budget.outcome({"w": 9}).sentence == (
        "The plan meets the budget of 1,000 BitOPs with 900 BitOPs: 90.0 % of what it allows."
    )
    assert not budget.outcome({"w": 11}).met
    sizes = Budget("compression", 8.0, lambda bits: 5 * bits["w"], weights=5)
    outcome = sizes.outcome({"w": 4})
    assert (outcome.met, outcome.reached) == (True, 8.0)
    assert outcome.sentence.startswith("The plan meets the budget of 8.00x weight compression")
    assert not sizes.outcome({"w": 5}).met
    assert json.loads(json.dumps(outcome.as_dict()))["kind"] == "compression"


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("bitops", 199.0, "199.0 is out of reach for 'n': .* 200 BitOPs, .* starts at 800 BitOPs"),
        ("bitops", 801.0, "801.0 asks for nothing: 'n' starts at 800 BitOPs and can come to 200"),
        ("compression", 16.1, "out of reach for 'n': .* 16.00x weight compression"),
        ("compression", 3.9, "asks for nothing: 'n' starts at 4.00x weight compression"),
    ],
)
def test_impossible_budgets_are_refused_with_the_possible_range(kind, value, text):
    budget = Budget(kind, value, lambda bits: 100 * bits["w"], weights=100)
    with pytest.raises(ConfigError, match=f"adaqat.budget_{kind} = .*{text}"):
        budget.check([Width("w", 8, 2, 8, 0.1)], {"w": 8}, "n")


@pytest.mark.parametrize("value", [200.0, 800.0])
def test_budgets_at_the_ends_of_the_range_are_accepted(value):
    budget = Budget("bitops", value, lambda bits: 100 * bits["w"], weights=100)
    budget.check([Width("w", 8, 2, 8, 0.1)], {"w": 8}, "n")


@settings(max_examples=80, deadline=None)
@given(data=st.data(), layers=st.integers(1, 4), share=st.floats(0, 1))
def test_allocation_fits_keeps_the_bounds_and_leaves_nothing_that_pays(data, layers, share):
    names = [f"{x}{i}" for i in range(layers) for x in "wa"]
    terms = [CostTerm(data.draw(st.integers(1, 50)), f"w{i}", f"a{i}") for i in range(layers)]
    widths = [Width(name, 8, 2, 8, 0.1) for name in names]
    value = {name: data.draw(st.just(0.0) | st.floats(1e-6, 1)) for name in names}
    start = {name: data.draw(st.integers(2, 8)) for name in names}
    cost = total_cost(terms)
    low, high = cost(dict.fromkeys(names, 2)), cost(dict.fromkeys(names, 8))
    limit = low + share * (high - low)

    def worth(name, bit):
        return value[name] * 4.0**-bit

    bits = allocate(start, widths, cost, limit, worth)
    assert cost(bits) <= limit
    assert all(2 <= b <= 8 for b in bits.values())
    for name in names:
        raised = {**bits, name: bits[name] + 1}
        assert bits[name] == 8 or value[name] == 0 or cost(raised) > limit
    assert bits == allocate(start, widths, cost, limit, worth)


def test_allocation_exchanges_bits_that_a_greedy_choice_misplaced():
    """From 2/6 the plan fits, but the product 3/4 costs the same and loses less."""
    widths = [Width("w", 8, 2, 8, 0.1), Width("a", 8, 2, 8, 0.1)]
    cost = total_cost([CostTerm(1, "w", "a")])
    bits = allocate({"w": 2, "a": 6}, widths, cost, 12, lambda n, k: (WEIGHTS, ACTS)[n == "a"][k])
    assert bits == {"w": 3, "a": 4}


def test_a_bit_worth_nothing_is_not_bought():
    widths = [Width("w", 8, 2, 8, 0.1)]
    cost = total_cost([CostTerm(1, "w", 1)])
    assert allocate({"w": 4}, widths, cost, 8, lambda name, bit: 0.0) == {"w": 4}


def test_a_width_without_a_price_does_not_block_the_way_to_the_limit():
    widths = [Width("w", 8, 2, 8, 0.1), Width("join", 4, 2, 8, 0.1)]
    cost = total_cost([CostTerm(1, "w", 1)])
    bits = allocate({"w": 8, "join": 4}, widths, cost, 3, lambda name, bit: 4.0**-bit)
    assert bits["w"] == 3


def test_marginals_average_noise_and_borrow_from_neighbours():
    rng = random.Random(0)
    marginals = SensitivityTracker(["w", "a"])
    for _ in range(200):
        marginals.add("w", 4, 0.05 + rng.gauss(0, 0.05))
    worth = marginals.fit()
    assert worth("w", 4) == pytest.approx(0.05, abs=0.02)
    assert worth("w", 3) == pytest.approx(4 * worth("w", 4))
    assert worth("w", 5) == pytest.approx(worth("w", 4) / 4)
    assert marginals.mean("w", 5) is None
    assert worth("a", 4) == 0.0
    marginals.add("a", 6, -0.4)
    worth = marginals.fit()
    assert worth("a", 6) == worth("a", 2) == 0.0


def test_a_width_with_few_unlucky_probes_is_held_to_its_kind():
    rng = random.Random(1)
    marginals = SensitivityTracker([f"w:{i}" for i in range(10)])
    for i in range(9):
        for _ in range(40):
            marginals.add(f"w:{i}", 4, 0.02 + rng.gauss(0, 0.02))
    for value in (-0.03, 0.01, 0.0):
        marginals.add("w:9", 4, value)
    worth = marginals.fit()
    assert 0.003 < worth("w:9", 4) < 0.01 < worth("w:9", 3)
    for _ in range(64):  # but not for ever
        marginals.add("w:9", 4, rng.gauss(0, 0.02))
    assert marginals.fit()("w:9", 4) < 0.002


def test_the_shape_is_learned_from_widths_probed_at_both_bits():
    marginals = SensitivityTracker(["a:0", "a:1"])
    for i in range(50):
        marginals.add("a:0", 4, 0.1 + 0.01 * (-1) ** i)
        marginals.add("a:0", 3, 0.25 + 0.01 * (-1) ** i)
        marginals.add("a:1", 4, 0.04 + 0.01 * (-1) ** i)
    worth = marginals.fit()
    assert worth("a:1", 3) / worth("a:1", 4) == pytest.approx(2.5, rel=0.05)


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(2, 8), st.floats(-2, 2)), max_size=40),
)
def test_estimates_never_grow_with_the_width(rows):
    marginals = SensitivityTracker(["w"])
    for bit, value in rows:
        marginals.add("w", bit, value)
    worths = [marginals.fit()("w", bit) for bit in range(2, 10)]
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(worths))
    assert worths[-1] >= 0
    copy = SensitivityTracker(["w"])
    copy.load_state_dict(json.loads(json.dumps(marginals.state_dict())))
    assert [copy.fit()("w", bit) for bit in range(2, 10)] == worths


@settings(max_examples=50, deadline=None)
@given(
    count=st.integers(1, 9), per_step=st.integers(1, 10), every=st.integers(1, 5), at=st.integers(0)
)
def test_every_width_has_its_turn_and_its_scales_add_up_to_the_steps(count, per_step, every, at):
    names = [f"w{i}" for i in range(count)]
    turns = ProbeScheduler(names, every, per_step)
    total = dict.fromkeys(names, 0)
    rounds = math.ceil(count / per_step)
    seen = []
    for number in range(3 * rounds):
        chosen = turns.next(names)
        assert len(chosen) == min(per_step, count)
        seen.append(set(chosen))
        for name, scale in turns.scales(chosen, at + number * every).items():
            total[name] += scale
        assert set(names) <= set().union(*seen[-rounds:]) or number < rounds - 1
    assert all(2 * rounds * every < total[n] <= 3 * rounds * every for n in names)
    assert max(total.values()) == 3 * rounds * every


def test_without_a_number_all_are_probed_in_each_step():
    turns = ProbeScheduler(["a", "b"], 4)
    assert turns.next(["b"]) == ["b"]
    assert turns.scales(["a", "b"], 100) == {"a": 4, "b": 4}
    assert turns.scales(["a", "b"], 104) == {"a": 4, "b": 4}

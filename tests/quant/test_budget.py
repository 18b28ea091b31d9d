from __future__ import annotations

import itertools
import json
import math
import random
import re
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaqat_hw.cost import BitOpsCost, HardwareCost, WeightSizeCost
from adaqat_hw.cost.layer_widths import LayerWidths, Operand
from adaqat_hw.errors import ConfigError
from adaqat_hw.quant.allocate import allocate, allocate_near, uniform_bits
from adaqat_hw.quant.binding import Binding
from adaqat_hw.quant.budget import budget_result, check_budget
from adaqat_hw.quant.controller import AdaQatController, Width
from adaqat_hw.quant.lambda_controller import LambdaController
from adaqat_hw.quant.probe_scheduler import ProbeScheduler
from adaqat_hw.quant.sensitivity import SensitivityTracker

# Loss that the last bit saves, and the spread of one probe: ResNet20-like, docs/adaqat.md.
WEIGHTS = {2: 1.2, 3: 0.38, 4: 0.061, 5: 0.012, 6: 0.002, 7: 0.0007, 8: 0.0002}
ACTS = {2: 0.8, 3: 0.27, 4: 0.125, 5: 0.02, 6: 0.002, 7: 0.0008, 8: 0.0003}
SPREAD = {2: 0.1, 3: 0.08, 4: 0.027, 5: 0.013, 6: 0.007, 7: 0.003, 8: 0.0015}


def layer(macs, second, acts, weights=1):
    return LayerWidths("layer", macs, weights, Operand(second), Operand(acts))


ENDS = (layer(442_368, 8, 8), layer(640, 8, 8))
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


def simulate(widths, cost, worth, spread, *, seed=0, every=4, per_step=None, **kwargs):
    kwargs = {"gradient_ema": 0.8, "hysteresis": 0.1, "max_move": 1.0, **kwargs}
    controller = AdaQatController(
        widths, cost, hardware_lambda=0.01, freeze_oscillating=False, **kwargs
    )
    check_budget(cost, widths, controller.bits, "simulated")
    binding = Binding(
        None,
        controller,
        {},
        bitops=cost,
        scheduler=ProbeScheduler(controller.widths, every, per_step),
        lambda_controller=LambdaController(widths, cost, controller.bits),
    )
    return Simulated(binding, worth, spread, every, random.Random(seed))


def whole_network(lr_weights, lr_acts, *, noise=1.0, **kwargs):
    widths = [Width("weights", 8, 2, 8, lr_weights), Width("acts", 8, 2, 8, lr_acts)]
    layers = (ENDS[0], layer(INNER_MACS, "weights", "acts"), ENDS[1])
    return simulate(
        widths,
        BitOpsCost(layers, W3A4),
        lambda name, bit: (WEIGHTS if name == "weights" else ACTS)[bit],
        lambda name, bit: noise * SPREAD[bit],
        **kwargs,
    )


def per_layer(lr=0.2, *, count=20, limit=W3A4, noise=1.0, cost=BitOpsCost, **kwargs):
    """Layers of different size and sensitivity; the noise of a probe is as large as its signal."""
    rng = random.Random(7)
    sensitivity = {f"{x}:{i}": math.exp(rng.gauss(0, 1)) for x in "wa" for i in range(count)}
    mean = sum(sensitivity.values()) / len(sensitivity)
    sensitivity = {name: s / mean / count for name, s in sensitivity.items()}
    share = [rng.choice((1, 2, 4)) for _ in range(count)]
    macs = [INNER_MACS * x // sum(share) for x in share]
    layers = (ENDS[0], *(layer(m, f"w:{i}", f"a:{i}") for i, m in enumerate(macs)), ENDS[1])

    def worth(name, bit):
        return sensitivity[name] * (WEIGHTS if name[0] == "w" else ACTS)[bit]

    def spread(name, bit):
        return noise * (worth(name, bit) + SPREAD[bit] / count)

    widths = [Width(name, 8, 2, 8, lr) for name in sensitivity]
    simulated = simulate(widths, cost(layers, limit), worth, spread, per_step=8, **kwargs)
    simulated.sensitivity = sensitivity
    return simulated


def pair(lr, worth, *, limit, noise=0.02, seed=0):
    """A network-wide pair on a landscape of ``worth`` times the usual worths."""
    widths = [Width("weights", 8, 2, 8, lr), Width("acts", 8, 2, 8, lr)]
    layers = (ENDS[0], layer(INNER_MACS, "weights", "acts"), ENDS[1])
    return simulate(
        widths,
        BitOpsCost(layers, INNER_MACS * limit + sum(end.macs * 64 for end in ENDS)),
        lambda name, bit: worth * (WEIGHTS if name == "weights" else ACTS)[bit],
        lambda name, bit: noise,
        seed=seed,
    )


def reached(simulated):
    result = simulated.binding.budget_result()
    assert result.met
    return result.reached / result.asked


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
    assert simulated.binding.budget_result().reached == W3A4
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


@pytest.mark.parametrize(("lr", "steps"), [(0.3, 87), (0.4, 87), (0.05, 1014)])
@pytest.mark.parametrize("worth", [0.0, 0.02])
def test_an_unconverged_network_does_not_freeze_at_widths_it_never_had(worth, lr, steps):
    """Where probes measure noise alone, the plan stays near the widths that were trained."""
    for seed in range(40):
        simulated = pair(lr, worth, limit=16, seed=seed).run(0, steps, steps)
        live = simulated.binding.controller.bits
        simulated.binding.freeze_all(steps)
        bits = simulated.binding.controller.bits
        assert sorted(bits.values()) in ([3, 4], [3, 5], [4, 4])
        assert all(abs(bits[name] - live[name]) <= 1 for name in bits)


@pytest.mark.parametrize(("limit", "plan"), [(16, (4, 4)), (12, (3, 4))])
def test_well_measured_worths_decide(limit, plan):
    for seed in range(10):
        bits = pair(0.4, 1.0, limit=limit, seed=seed).finish(87)
        assert (bits["weights"], bits["acts"]) == plan


def test_few_updates_are_enough():
    simulated = whole_network(0.05, 0.05, every=1)
    simulated.finish(15)
    assert reached(simulated) <= 1
    simulated = per_layer(limit=4e8, every=1)
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
    state = {**simulated.binding.state_dict(), "lambda_controller": None}
    text = "The saved widths were learned without a budget; was the configuration changed? Train"
    with pytest.raises(ConfigError, match=rf"^{re.escape(text)} again\.$"):
        simulated.binding.load_state_dict(state)


class LutCost(HardwareCost):
    """LUTs of an accelerator, as a later cost may count them: neither a product nor a sum.

    A multiplier array takes w * a LUTs per MAC unit, an adder tree the wider of the two, and the
    control around it a fixed number.
    """

    name = "lut"
    unit = "LUT"
    fixed = 5000.0

    def __init__(self, layers, limit):
        self._layers = [layer for layer in layers if layer.learned]
        self._limit = limit

    @property
    def limit(self):
        return self._limit

    def value(self, bits):
        return self.fixed + 100 * self.hard_loss(bits)

    def hard_loss(self, bits):
        total = 0.0
        for layer in self._layers:
            weights, acts = layer.second.bits(bits), layer.acts.bits(bits)
            total += layer.macs / 1e6 * (weights * acts + 4 * max(weights, acts) ** 0.5)
        return total

    def depends_on(self, width):
        return any(width in (layer.second.width, layer.acts.width) for layer in self._layers)


def test_widths_are_learned_to_a_cost_that_quant_has_never_heard_of():
    simulated = per_layer(cost=LutCost, limit=90_000.0, noise=0.25)
    bits = simulated.finish(1600)
    assert 0.98 < reached(simulated) <= 1
    uniform = {name: 3 if name[0] == "w" else 4 for name in bits}
    assert simulated.loss(bits) < 0.8 * simulated.loss(uniform)
    result = simulated.binding.budget_result()
    assert (result.title, result.unit, result.asked) == ("LUT", "LUT", 90_000.0)
    assert re.fullmatch(
        r"The plan meets the budget of 90,000 LUT with \d\d,\d{3} LUT: \d{2,3}\.\d % of what it "
        r"allows\.",
        result.sentence,
    )
    assert simulated.binding.facts()["budget"]["unit"] == "LUT"


def bitops_100(limit):
    """100 BitOPs per bit of ``w``."""
    return BitOpsCost([layer(100, "w", 1)], limit)


def compression_100(compression):
    """100 weights of ``w`` bits."""
    return WeightSizeCost([layer(7, "w", 8, weights=100)], compression)


def test_the_result_says_what_was_reached():
    met = budget_result(bitops_100(1000.0), {"w": 9})
    assert met.sentence == (
        "The plan meets the budget of 1,000 BitOPs with 900 BitOPs: 90.0 % of what it allows."
    )
    assert (met.met, met.title, met.unit, met.asked, met.reached) == (
        *(True, "BitOPs", "BitOPs"),
        *(1000, 900),
    )
    assert budget_result(bitops_100(1000.0), {"w": 11}).sentence == (
        "The plan misses the budget of 1,000 BitOPs with 1,100 BitOPs: 110.0 % of what it allows."
    )
    met = budget_result(compression_100(8.0), {"w": 4})
    assert (met.met, met.title, met.unit, met.asked, met.reached) == (
        *(True, "weight compression", "x"),
        *(8, 8),
    )
    assert met.sentence == (
        "The plan meets the budget of 8.00x weight compression with 8.00x weight compression: "
        "100.0 % of what it allows."
    )
    assert not budget_result(compression_100(8.0), {"w": 5}).met
    assert budget_result(bitops_100(None), {"w": 5}) is None


@pytest.mark.parametrize(
    ("cost", "text"),
    [
        (
            bitops_100(199.0),
            "adaqat.budget.bitops = 199.0 is out of reach for 'n': with all learned widths at "
            "their minimum it still comes to 200 BitOPs, and it starts at 800 BitOPs; choose a "
            "budget between these two, or lower adaqat.min_weight_bits or adaqat.min_act_bits.",
        ),
        (
            bitops_100(801.0),
            "adaqat.budget.bitops = 801.0 asks for nothing: 'n' starts at 800 BitOPs and can come "
            "to 200 BitOPs; choose a budget between these two, or raise adaqat.initial_bits.",
        ),
        (
            compression_100(16.1),
            "adaqat.budget.compression = 16.1 is out of reach for 'n': with all learned widths at "
            "their minimum it still comes to 16.00x weight compression, and it starts at 4.00x "
            "weight compression; choose a budget between these two, or lower "
            "adaqat.min_weight_bits or adaqat.min_act_bits.",
        ),
        (
            compression_100(3.9),
            "adaqat.budget.compression = 3.9 asks for nothing: 'n' starts at 4.00x weight "
            "compression and can come to 16.00x weight compression; choose a budget between these "
            "two, or raise adaqat.initial_bits.",
        ),
    ],
)
def test_impossible_budgets_are_refused_with_the_possible_range(cost, text):
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        check_budget(cost, [Width("w", 8, 2, 8, 0.1)], {"w": 8}, "n")


@pytest.mark.parametrize("limit", [200.0, 800.0])
def test_budgets_at_the_ends_of_the_range_are_accepted(limit):
    check_budget(bitops_100(limit), [Width("w", 8, 2, 8, 0.1)], {"w": 8}, "n")


@settings(max_examples=80, deadline=None)
@given(data=st.data(), layers=st.integers(1, 4), share=st.floats(0, 1))
def test_allocation_near_the_live_plan_fits_and_leaves_nothing_that_a_bit_could_take(
    data, layers, share
):
    names = [f"{x}{i}" for i in range(layers) for x in "wa"]
    drawn = [layer(data.draw(st.integers(1, 50)), f"w{i}", f"a{i}") for i in range(layers)]
    widths = [Width(name, 8, 2, 8, 0.1) for name in names]
    value = {name: data.draw(st.floats(1e-6, 1)) for name in names}
    live = {name: data.draw(st.integers(2, 8)) for name in names}
    cost = BitOpsCost(drawn).value
    low, high = cost(dict.fromkeys(names, 2)), cost(dict.fromkeys(names, 8))
    limit = low + share * (high - low)
    bits = allocate_near(live, widths, cost, limit, lambda name, bit: value[name] * 4.0**-bit)
    assert cost(bits) <= limit
    assert all(2 <= bits[n] <= min(8, live[n] + 1) for n in names)
    if cost({n: max(2, live[n] - 1) for n in names}) <= limit:
        assert all(bits[n] >= live[n] - 1 for n in names)
    for name in names:
        raised = {**bits, name: bits[name] + 1}
        assert bits[name] in (8, live[name] + 1) or cost(raised) > limit


@settings(max_examples=80, deadline=None)
@given(data=st.data(), layers=st.integers(1, 4), share=st.floats(0, 1))
def test_allocation_fits_keeps_the_bounds_and_leaves_nothing_that_pays(data, layers, share):
    names = [f"{x}{i}" for i in range(layers) for x in "wa"]
    drawn = [layer(data.draw(st.integers(1, 50)), f"w{i}", f"a{i}") for i in range(layers)]
    widths = [Width(name, 8, 2, 8, 0.1) for name in names]
    value = {name: data.draw(st.just(0.0) | st.floats(1e-6, 1)) for name in names}
    start = {name: data.draw(st.integers(2, 8)) for name in names}
    cost = BitOpsCost(drawn).value
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
    cost = BitOpsCost([layer(1, "w", "a")]).value
    bits = allocate({"w": 2, "a": 6}, widths, cost, 12, lambda n, k: (WEIGHTS, ACTS)[n == "a"][k])
    assert bits == {"w": 3, "a": 4}


def test_a_bit_worth_nothing_is_not_bought():
    widths = [Width("w", 8, 2, 8, 0.1)]
    cost = BitOpsCost([layer(1, "w", 1)]).value
    assert allocate({"w": 4}, widths, cost, 8, lambda name, bit: 0.0) == {"w": 4}


def test_a_width_without_a_price_does_not_block_the_way_to_the_limit():
    widths = [Width("w", 8, 2, 8, 0.1), Width("join", 4, 2, 8, 0.1)]
    cost = BitOpsCost([layer(1, "w", 1)]).value
    bits = allocate({"w": 8, "join": 4}, widths, cost, 3, lambda name, bit: 4.0**-bit)
    assert bits["w"] == 3


def noise_alone():
    """Probes of two kinds with means of +.001 and -.001 under a noise of .02."""
    tracker = SensitivityTracker(["weights", "acts"])
    for i in range(8):
        for bit in (8, 7, 6, 5, 4):
            tracker.add("weights", bit, 0.001 + 0.02 * (-1) ** i)
            tracker.add("acts", bit, -0.001 + 0.02 * (-1) ** i)
    return tracker


def product(limit):
    """A pair of widths whose product is limited: what the allocators take."""
    widths = [Width(name, 8, 2, 8, 0.1) for name in ("weights", "acts")]
    return widths, BitOpsCost([layer(1, "weights", "acts")]).value, limit


@pytest.mark.parametrize("allocator", [allocate, allocate_near])
def test_a_kind_of_which_noise_alone_was_measured_keeps_its_bits(allocator):
    live = {"weights": 4, "acts": 4}
    assert allocator(live, *product(16), noise_alone().floored()) == live


def test_every_worth_has_a_floor_even_where_all_probes_speak_against_it():
    worth = noise_alone().floored()
    assert 0 < worth("acts", 4) < worth("weights", 4)
    for bit in (2, 3, 4, 8):
        assert worth("acts", bit) == pytest.approx(4 * worth("acts", bit + 1))
    bad = SensitivityTracker(["weights:0", "weights:1", "acts:0"])
    for name in ("weights:0", "acts:0"):
        for _ in range(40):
            bad.add(name, 4, -1.0)
    worth = bad.floored()
    assert worth("weights:0", 4) == worth("weights:1", 4) == worth("acts:0", 4) > 0


def test_without_probes_the_expected_worth_alone_decides():
    worth = SensitivityTracker(["weights", "acts"]).floored()
    assert worth("acts", 3) == worth("weights", 3) == 4 * worth("acts", 4) > 0
    probed = SensitivityTracker(["weights", "acts"])
    for i in range(40):
        probed.add("weights", 4, 0.1 + 0.01 * (-1) ** i)
    worth = probed.floored()
    assert worth("acts", 4) == pytest.approx(worth("weights", 4), rel=0.01)
    assert worth("weights", 4) == probed.fit()("weights", 4)


def by_kind(weights, acts):
    return lambda name, bit: (weights if name == "weights" else acts) * 4.0**-bit


def test_no_width_moves_more_than_a_bit_and_what_is_left_is_spent():
    near = {"weights": 4, "acts": 4}
    assert allocate(near, *product(16), by_kind(1.0, 1e-3)) == {"weights": 8, "acts": 2}
    assert allocate_near(near, *product(16), by_kind(1.0, 1e-3)) == {"weights": 5, "acts": 3}
    assert allocate_near({"weights": 3, "acts": 3}, *product(16), by_kind(1, 1)) == near
    assert allocate_near({"weights": 3, "acts": 3}, *product(12), by_kind(2, 1)) == {
        "weights": 4,
        "acts": 3,
    }


def test_where_the_budget_leaves_no_other_way_all_widths_go_down_together():
    live = {"weights": 8, "acts": 8}
    assert allocate_near(live, *product(12), by_kind(1, 2)) == {"weights": 3, "acts": 4}
    assert allocate_near(live, *product(49), by_kind(1, 2)) == {"weights": 7, "acts": 7}
    assert allocate_near(live, *product(48), by_kind(1, 2)) == {"weights": 6, "acts": 8}
    assert allocate_near({"weights": 8, "acts": 3}, *product(4), by_kind(1, 2)) == {
        "weights": 2,
        "acts": 2,
    }


@pytest.mark.parametrize(
    ("limit", "worth", "plan"),
    [
        (16, by_kind(1, 1), (4, 4)),
        (16, by_kind(100, 1), (4, 4)),  # no worth moves it from the balanced pair
        (12, by_kind(2, 1), (4, 3)),
        (12, by_kind(1, 2), (3, 4)),
        (14, by_kind(1, 2), (3, 4)),
        (64, by_kind(1, 2), (8, 8)),
        (3, by_kind(1, 2), (2, 2)),
    ],
)
def test_the_uniform_plan_is_the_balanced_pair_that_fits(limit, worth, plan):
    assert tuple(uniform_bits(*product(limit), worth).values()) == plan


def test_the_uniform_plan_keeps_the_bounds_of_each_width():
    widths = [Width("w:0", 8, 2, 8, 0.1), Width("w:1", 8, 5, 8, 0.1), Width("a:0", 8, 1, 8, 0.1)]
    cost = BitOpsCost([layer(1, "w:0", "a:0"), layer(1, "w:1", "a:0")]).value
    bits = uniform_bits(widths, cost, 32, lambda name, bit: 4.0**-bit)
    assert bits == {"w:0": 5, "w:1": 5, "a:0": 3}
    bits = uniform_bits(widths, cost, 28, lambda name, bit: 4.0**-bit)
    assert bits == {"w:0": 4, "w:1": 5, "a:0": 3}


def test_estimates_average_noise_and_borrow_from_neighbours():
    rng = random.Random(0)
    tracker = SensitivityTracker(["w", "a"])
    for _ in range(200):
        tracker.add("w", 4, 0.05 + rng.gauss(0, 0.05))
    worth = tracker.fit()
    assert worth("w", 4) == pytest.approx(0.05, abs=0.02)
    assert worth("w", 3) == pytest.approx(4 * worth("w", 4))
    assert worth("w", 5) == pytest.approx(worth("w", 4) / 4)
    assert tracker.mean("w", 5) is None
    assert worth("a", 4) == 0.0
    tracker.add("a", 6, -0.4)
    worth = tracker.fit()
    assert worth("a", 6) == worth("a", 2) == 0.0


def test_a_width_with_few_unlucky_probes_is_held_to_its_kind():
    rng = random.Random(1)
    tracker = SensitivityTracker([f"w:{i}" for i in range(10)])
    for i in range(9):
        for _ in range(40):
            tracker.add(f"w:{i}", 4, 0.02 + rng.gauss(0, 0.02))
    for value in (-0.03, 0.01, 0.0):
        tracker.add("w:9", 4, value)
    worth = tracker.fit()
    assert 0.003 < worth("w:9", 4) < 0.01 < worth("w:9", 3)
    for _ in range(64):  # but not for ever
        tracker.add("w:9", 4, rng.gauss(0, 0.02))
    assert tracker.fit()("w:9", 4) < 0.002


def test_the_shape_is_learned_from_widths_probed_at_both_bits():
    tracker = SensitivityTracker(["a:0", "a:1"])
    for i in range(50):
        tracker.add("a:0", 4, 0.1 + 0.01 * (-1) ** i)
        tracker.add("a:0", 3, 0.25 + 0.01 * (-1) ** i)
        tracker.add("a:1", 4, 0.04 + 0.01 * (-1) ** i)
    worth = tracker.fit()
    assert worth("a:1", 3) / worth("a:1", 4) == pytest.approx(2.5, rel=0.05)


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(2, 8), st.floats(-2, 2)), max_size=40),
)
def test_estimates_never_grow_with_the_width(rows):
    tracker = SensitivityTracker(["w"])
    for bit, value in rows:
        tracker.add("w", bit, value)
    worths = [tracker.fit()("w", bit) for bit in range(2, 10)]
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(worths))
    assert worths[-1] >= 0
    copy = SensitivityTracker(["w"])
    copy.load_state_dict(json.loads(json.dumps(tracker.state_dict())))
    assert [copy.fit()("w", bit) for bit in range(2, 10)] == worths


@settings(max_examples=50, deadline=None)
@given(
    count=st.integers(1, 9), per_step=st.integers(1, 10), every=st.integers(1, 5), at=st.integers(0)
)
def test_every_width_is_probed_and_its_scales_add_up_to_the_steps(count, per_step, every, at):
    names = [f"w{i}" for i in range(count)]
    scheduler = ProbeScheduler(names, every, per_step)
    total = dict.fromkeys(names, 0)
    rounds = math.ceil(count / per_step)
    probed = []
    for number in range(3 * rounds):
        chosen = scheduler.next(names)
        assert len(chosen) == min(per_step, count)
        probed.append(set(chosen))
        for name, scale in scheduler.scales(chosen, at + number * every).items():
            total[name] += scale
        assert set(names) <= set().union(*probed[-rounds:]) or number < rounds - 1
    assert all(2 * rounds * every < total[n] <= 3 * rounds * every for n in names)
    assert max(total.values()) == 3 * rounds * every


def test_without_a_number_all_are_probed_in_each_step():
    scheduler = ProbeScheduler(["a", "b"], 4)
    assert scheduler.next(["b"]) == ["b"]
    assert scheduler.scales(["a", "b"], 100) == {"a": 4, "b": 4}
    assert scheduler.scales(["a", "b"], 104) == {"a": 4, "b": 4}

from __future__ import annotations

import ast
import json
import math
import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaqat_hw.cost import HardwareCost
from adaqat_hw.errors import ConfigError, StageFailed
from adaqat_hw.quant import controller as module
from adaqat_hw.quant.controller import AdaQatController, Width


class FunctionCost(HardwareCost):
    """A hard loss and nothing else: all that the controller may look at."""

    name = unit = "any"
    limit = None
    fixed = 0.0

    def __init__(self, hard_loss):
        self.hard_loss = hard_loss

    def value(self, bits):
        raise AssertionError("the controller looked at the value")

    def hard_loss(self, bits):
        raise NotImplementedError

    def depends_on(self, width):
        raise AssertionError("the controller asked what it pays for")


FREE = FunctionCost(lambda bits: 0.0)
PRODUCT = FunctionCost(lambda bits: bits["w"] * bits["a"])


def one(initial=6.0, lr=0.02, minimum=2, maximum=8, **kwargs):
    kwargs.setdefault("hardware_lambda", 0.1)
    cost = FunctionCost(lambda bits: float(bits["w"]))
    return AdaQatController([Width("w", initial, minimum, maximum, lr)], cost, **kwargs)


def exponential(bits):
    """Task loss that quarters with each bit: L(k-1) - L(k) = 3 * 4**-k * 4."""
    return 4.0 * 4.0 ** -bits["w"] * 4


def run_steps(controller, loss, steps, **kwargs):
    events = []
    for _ in range(steps):
        if controller.done:
            break
        losses = {name: loss(bits) for name, bits in controller.probes()}
        events.append(controller.step(losses, loss(controller.bits), **kwargs))
    return events


def optimum(loss, price, low=2, high=8):
    return min(range(low, high + 1), key=lambda k: loss({"w": k}) + price * k)


def test_module_is_pure_python():
    tree = ast.parse(Path(module.__file__).read_text())
    imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    imported |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert not any(name.split(".")[0] in ("torch", "numpy") for name in imported)


def test_ceil_at_integers_and_probe_one_lower():
    controller = one(initial=6.0)
    assert controller.bits == {"w": 6}
    assert controller.probes() == [("w", {"w": 5})]
    controller = one(initial=5.01)
    assert controller.bits == {"w": 6}
    assert controller.probes() == [("w", {"w": 5})]


def test_gradient_is_task_difference_plus_lambda_times_cost_difference():
    controller = AdaQatController(
        [Width("w", 4.0, 2, 8, 0.01), Width("a", 3.0, 1, 8, 0.02)],
        PRODUCT,
        hardware_lambda=0.5,
    )
    events = controller.step({"w": 2.0, "a": 1.25}, live_loss=1.0, scale=3)
    w, a = events.gradients
    assert (w.task, w.hardware, w.applied) == (-1.0, 0.5 * 3, 0.5)
    assert (a.task, a.hardware, a.applied) == (-0.25, 0.5 * 4, 1.75)
    assert controller.real == {"w": 4.0 - 0.01 * 3 * 0.5, "a": 3.0 - 0.02 * 3 * 1.75}
    assert json.loads(json.dumps(events.as_dict()))["gradients"][0]["name"] == "w"


@pytest.mark.parametrize("initial", [8.0, 2.0, 5.5])
@pytest.mark.parametrize("price", [0.5, 0.1, 0.02, 0.008])
def test_settles_at_the_integer_optimum_of_a_convex_cost(initial, price):
    best = optimum(exponential, price)
    controller = one(initial=initial, lr=0.05, hardware_lambda=price, oscillations=10**6)
    run_steps(controller, exponential, 20000)
    assert abs(controller.real["w"] - best) < 0.1


def test_oscillating_width_freezes_to_the_larger_of_the_two():
    best = optimum(exponential, 0.1)
    assert 2 < best < 8
    controller = one(initial=6.0, lr=0.2, hardware_lambda=0.1, oscillations=4, dwell=0)
    events = run_steps(controller, exponential, 3000)
    assert controller.done
    assert controller.bits == {"w": best + 1}
    assert controller.real == {"w": float(best + 1)}
    assert events[-1].flips[0].count == 4
    assert events[-1].freezes[0].reason == "oscillation"
    assert controller.frozen == {"w": events[-1].step}
    assert controller.probes() == []


@pytest.mark.parametrize("dwell", [0, 7, 50])
def test_dwell_is_respected(dwell):
    controller = one(initial=4.0, lr=1.0, hardware_lambda=0.0, oscillations=2, dwell=dwell)
    first = None
    for number in range(1, 200):
        # The task asks for more at 4 bits and for fewer at 5: a flip in every step.
        live = 0.0 if controller.bits["w"] == 4 else 0.5
        events = controller.step({"w": 0.25}, live)
        first = number if events.flips and first is None else first
        if controller.done:
            break
    assert first is not None
    assert max(dwell, 1) <= controller.frozen["w"] - first <= dwell + 1


def test_a_third_integer_starts_the_count_again():
    controller = one(initial=4.0, lr=1.0, hardware_lambda=0.0, oscillations=3, dwell=0)
    wanted = [5, 4, 3, 4, 3]
    counts = []
    for target in wanted:
        change = target - controller.bits["w"]
        counts += [f.count for f in controller.step({"w": 0.0}, -float(change)).flips]
    assert counts == [1, 2, 1, 2, 3]
    assert controller.bits == {"w": 4}
    assert controller.frozen == {"w": 5}


def test_at_its_minimum_a_width_is_probed_one_higher_and_rests_or_rises():
    rest = one(initial=2.0, hardware_lambda=0.5)
    assert rest.probes() == [("w", {"w": 3})]
    rest.step({"w": 1.0}, live_loss=1.2)  # 0.2 better, but a bit costs 0.5
    assert rest.real == {"w": 2.0}
    rise = one(initial=2.0, hardware_lambda=0.5)
    gradient = rise.step({"w": 1.0}, live_loss=2.0).gradients[0]
    assert gradient.applied == -0.5
    assert rise.bits == {"w": 3}


def test_clamped_at_the_maximum():
    controller = one(initial=8.0, lr=1.0, hardware_lambda=0.0)
    controller.step({"w": 9.0}, live_loss=0.0)
    assert controller.real == {"w": 8.0}


def test_equal_bounds_are_frozen_from_the_start():
    controller = one(initial=4.0, minimum=4, maximum=4)
    assert controller.frozen == {"w": 0}
    assert controller.probes() == []


def test_a_subset_of_losses_moves_a_subset():
    controller = AdaQatController(
        [Width("w", 4.0, 2, 8, 0.1), Width("a", 4.0, 2, 8, 0.1)], FREE, 0.0
    )
    controller.step({"a": 0.0}, 1.0)
    assert controller.real == {"w": 4.0, "a": 3.9}


def test_average_is_dropped_when_the_interval_changes():
    controller = one(initial=4.05, lr=0.1, hardware_lambda=0.0, gradient_ema=0.5)
    assert controller.step({"w": 0.0}, 0.2).gradients[0].applied == 0.2
    assert controller.step({"w": 0.0}, 0.4).gradients[0].applied == pytest.approx(0.3)
    assert controller.bits == {"w": 4}
    assert controller.step({"w": 0.0}, -1.0).gradients[0].applied == -1.0


def test_an_average_starts_with_equal_shares():
    controller = one(initial=7.9, lr=1e-3, hardware_lambda=0.0, gradient_ema=0.9)
    values = [0.3, 0.6, 0.0, 0.1]
    applied = [controller.step({"w": 0.0}, v).gradients[0].applied for v in values]
    assert applied == pytest.approx([0.3, 0.45, 0.3, 0.25])


def test_the_price_is_added_as_it_is_and_only_the_task_part_is_averaged():
    controller = one(initial=7.9, lr=1e-3, hardware_lambda=0.1, gradient_ema=0.5)
    assert controller.step({"w": 0.0}, 0.2).gradients[0].applied == pytest.approx(0.2 + 0.1)
    controller.hardware_lambda = 0.9
    gradient = controller.step({"w": 0.0}, 0.4).gradients[0]
    assert (gradient.task, gradient.hardware) == (0.4, 0.9)
    assert gradient.applied == pytest.approx((0.2 + 0.4) / 2 + 0.9)


def test_a_scale_for_each_width():
    controller = AdaQatController(
        [Width("w", 4.0, 2, 8, 0.1), Width("a", 4.0, 2, 8, 0.1)], FREE, 0.0
    )
    events = controller.step({"w": 0.0, "a": 0.0}, 1.0, scale={"w": 2, "a": 5})
    assert controller.real == {"w": 3.8, "a": 3.5}
    assert events.step == 5
    with pytest.raises(ConfigError, match=r"^scale None must be at least 1: the steps since .*\.$"):
        controller.step({"w": 0.0, "a": 0.0}, 1.0, scale={"w": 2})


def test_a_move_can_be_limited():
    controller = one(initial=8.0, lr=1.0, hardware_lambda=0.0, max_move=1.0)
    controller.step({"w": 0.0}, live_loss=50.0)
    assert controller.real == {"w": 7.0}


def test_hysteresis_holds_an_integer_until_well_beyond_its_boundary():
    controller = one(initial=4.0, lr=1.0, hardware_lambda=0.0, hysteresis=0.2)
    seen = []
    for change in (0.15, 0.1, -0.3, -0.1, -0.1, -0.9, -1.1, -5.0, 0.1, 0.15, 3.0):
        controller.step({"w": 0.0}, -change if controller.bits["w"] > 2 else change)
        seen.append((round(controller.real["w"], 6), controller.bits["w"]))
    assert seen == [
        (4.15, 4),  # not yet 5
        (4.25, 5),
        (3.95, 5),  # not yet 4
        (3.85, 5),
        (3.75, 4),
        (2.85, 4),
        (2.0, 2),  # the bound itself has no boundary beyond it
        (2.0, 2),
        (2.1, 2),
        (2.25, 3),
        (5.25, 6),
    ]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), hysteresis=st.sampled_from([0.05, 0.1, 0.3]))
def test_a_flip_back_takes_twice_the_hysteresis(seed, hysteresis):
    rng = random.Random(seed)
    controller = one(initial=5.0, lr=0.1, hysteresis=hysteresis, oscillations=10**6)
    last = None
    for _ in range(300):
        losses = {name: rng.gauss(0, 1) for name, _ in controller.probes()}
        for flip in controller.step(losses, rng.gauss(0, 1)).flips:
            real, pair = controller.real["w"], {flip.before, flip.after}
            if last is not None and last[1] == pair and 2 not in pair:
                assert abs(real - last[0]) >= 2 * hysteresis - 1e-9
            last = real, pair


def test_without_hysteresis_the_integers_are_the_real_values_rounded_up():
    rng = random.Random(4)
    controller = one(initial=5.0, lr=0.3, oscillations=10**6)
    for _ in range(300):
        losses = {name: rng.gauss(0, 1) for name, _ in controller.probes()}
        controller.step(losses, rng.gauss(0, 1))
        assert controller.bits["w"] == math.ceil(controller.real["w"])


@pytest.mark.parametrize(("price", "wanted"), [(0.1, 4), (0.04, 5)])
def test_freezing_to_the_better_takes_the_integer_that_the_averaged_probes_ask_for(price, wanted):
    """Bit 4 saves 0.188 here and bit 5 0.047; a width flips above the one that pays last."""
    rng = random.Random(0)
    controller = one(
        initial=4.0,
        lr=3.0,
        hardware_lambda=price,
        oscillations=8,
        dwell=60,
        hysteresis=0.1,
        freeze_to="better",
    )
    for _ in range(4000):
        if controller.done:
            break
        here = exponential(controller.bits)
        losses = {n: exponential(b) + rng.gauss(0, 0.05) for n, b in controller.probes()}
        controller.step(losses, here)
    assert controller.done
    assert controller.bits == {"w": wanted} == {"w": optimum(exponential, price)}


def test_freezing_to_the_better_on_schedule_ignores_where_an_oscillation_happens_to_be():
    controller = one(initial=4.0, lr=1.0, hardware_lambda=0.0, freeze_to="better", oscillations=99)
    controller.step({"w": 2.0}, 0.5)  # bit 4 saves 1.5: up to 6
    for _ in range(2):
        controller.step({"w": 0.0}, 1.0)
    assert controller.bits == {"w": 4}
    controller.step({"w": 0.0}, -1.0)
    assert controller.bits == {"w": 5}
    # Between 4 and 5 the measured bit 5 was a loss of 1: 4 is the better of the two.
    assert controller.freeze_all().freezes[0].bits == 4


@pytest.mark.parametrize("at_the_end", [4, 5])
def test_freezing_to_the_larger_on_schedule_ignores_where_an_oscillation_happens_to_be(at_the_end):
    controller = one(initial=4.0, lr=1.0, hardware_lambda=0.0, oscillations=99)
    while controller.steps < 4 or controller.bits["w"] != at_the_end:
        controller.step({"w": 0.0}, 1.0 if controller.bits["w"] == 5 else -1.0)
    assert controller.freeze_all().freezes[0].bits == 5


def test_a_width_that_only_passed_is_frozen_where_it_is():
    controller = one(initial=6.0, lr=1.0, hardware_lambda=0.0)
    for _ in range(2):
        controller.step({"w": 0.0}, 1.0)
    assert controller.bits == {"w": 4}
    assert controller.freeze_all().freezes[0].bits == 4


def test_no_oscillation_freezes_where_that_is_switched_off():
    controller = one(initial=6.0, lr=0.2, oscillations=2, dwell=0, freeze_oscillating=False)
    run_steps(controller, exponential, 1000)
    assert not controller.done
    freezes = controller.freeze_all(7, {"w": 5}).freezes
    assert [(f.bits, f.reason) for f in freezes] == [(5, "budget")]
    assert controller.real == {"w": 5.0}


def test_freeze_all_keeps_the_present_bits():
    controller = one(initial=4.3)
    events = controller.freeze_all(at_step=77)
    assert controller.bits == {"w": 5}
    assert controller.frozen == {"w": 77}
    assert events.freezes[0].reason == "schedule"
    assert controller.freeze_all().freezes == ()


def test_steps_count_training_steps():
    controller = one()
    controller.step({"w": 0.0}, 0.0, scale=5)
    assert controller.steps == 5
    assert controller.step({"w": 0.0}, 0.0, scale=5, at_step=120).step == 120


def test_state_round_trip_gives_identical_continuation():
    def noisy(rng):
        return lambda bits: exponential(bits) + rng.gauss(0, 0.3)

    kwargs = {"lr": 0.3, "oscillations": 5, "dwell": 3, "gradient_ema": 0.7, "hysteresis": 0.05}
    kwargs |= {"freeze_to": "better"}
    first = one(**kwargs)
    run_steps(first, noisy(random.Random(1)), 40)
    second = one(**kwargs)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    runs = [run_steps(c, noisy(random.Random(2)), 60) for c in (first, second)]
    assert runs[0] == runs[1]
    assert any(e.flips for e in runs[0])
    assert first.state_dict() == second.state_dict()


def refusal(error, text, make):
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        make()


def test_refuses_widths_that_cannot_be():
    refusal(
        ConfigError,
        "Width 'w' starts at 9; it must start between 2 and 8.",
        lambda: one(initial=9),
    )
    refusal(
        ConfigError,
        "Width 'w' has minimum 5 above maximum 4; swap them.",
        lambda: one(initial=4, minimum=5, maximum=4),
    )
    refusal(
        ConfigError,
        "Width 'w' has learning rate 0; it must be above 0.",
        lambda: one(lr=0),
    )
    refusal(
        ConfigError,
        "Widths [] must be at least one, each with its own name.",
        lambda: AdaQatController([], FREE, 0.1),
    )
    twice = [Width("w", 4, 2, 8, 0.1)] * 2
    refusal(
        ConfigError,
        "Widths ['w', 'w'] must be at least one, each with its own name.",
        lambda: AdaQatController(twice, FREE, 0.1),
    )


def test_refuses_settings_that_cannot_be():
    refusal(
        ConfigError,
        "hardware_lambda 0.1 and dwell 20 must not be negative, oscillations 10 must be positive "
        "and gradient_ema 1.0 must lie in [0, 1).",
        lambda: one(gradient_ema=1.0),
    )
    refusal(
        ConfigError,
        "hysteresis 0.5 must lie in [0, 0.5) and freeze_to 'up' be 'larger' or 'better'.",
        lambda: one(hysteresis=0.5, freeze_to="up"),
    )


def test_refuses_losses_that_it_cannot_use():
    refusal(
        ConfigError,
        "Losses were given for ['x']; the widths that have a probe are ['w'].",
        lambda: one().step({"x": 1.0}, 1.0),
    )
    refusal(
        ConfigError,
        "scale 0 must be at least 1: the steps since the last call.",
        lambda: one().step({"w": 1.0}, 1.0, scale=0),
    )
    refusal(
        StageFailed,
        "train/adaqat failed: the 'live' loss is nan at widths {'w': 6}; training diverged: lower "
        "train.lr",
        lambda: one().step({"w": 1.0}, math.nan),
    )


def test_refuses_the_state_of_other_widths_versions_and_bounds():
    other = AdaQatController([Width("v", 4, 2, 8, 0.1)], FREE, 0.1).state_dict()
    refusal(
        ConfigError,
        "Controller state version 4 with widths ['v'] does not fit: expected version 4 with ['w'].",
        lambda: one().load_state_dict(other),
    )
    old = {**one().state_dict(), "version": 3}
    refusal(
        ConfigError,
        "Controller state version 3 with widths ['w'] does not fit: expected version 4 with ['w'].",
        lambda: one().load_state_dict(old),
    )
    refusal(
        ConfigError,
        "Controller state has 'w' at 6.0, outside 2 to 4; was the configuration changed?",
        lambda: one(initial=4, maximum=4).load_state_dict(one().state_dict()),
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    bounds=st.tuples(st.integers(1, 8), st.integers(1, 8)).map(sorted),
    start=st.floats(0, 1),
    lr=st.floats(1e-3, 5),
    ema=st.sampled_from([0.0, 0.9]),
    scale=st.integers(1, 20),
)
def test_bits_stay_within_bounds_and_frozen_widths_never_move(seed, bounds, start, lr, ema, scale):
    low, high = bounds
    initial = low + start * (high - low)
    rng = random.Random(seed)
    controller = AdaQatController(
        [Width("w", initial, low, high, lr), Width("a", float(high), low, high, lr)],
        PRODUCT,
        hardware_lambda=0.2,
        oscillations=3,
        dwell=4,
        gradient_ema=ema,
    )
    frozen = {}
    for _ in range(60):
        losses = {}
        for name, bits in controller.probes():
            assert all(low <= b <= high for b in bits.values())
            assert abs(bits[name] - controller.bits[name]) == 1
            losses[name] = rng.gauss(0, 2)
        if not losses:
            break
        controller.step(losses, rng.gauss(0, 2), scale=scale)
        assert all(low <= b <= high for b in controller.bits.values())
        for name, bits in frozen.items():
            assert controller.bits[name] == bits
        frozen |= {name: controller.bits[name] for name in controller.frozen if name not in frozen}

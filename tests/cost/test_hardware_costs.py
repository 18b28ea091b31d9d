"""One suite for every cost that widths are learned under, and what each of them counts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaqat_hw.cost import BitOpsCost, HardwareCost, NetworkProductCost, WeightSizeCost
from adaqat_hw.cost.layer_widths import LayerWidths, Operand
from adaqat_hw.errors import ConfigError


def layer(macs, weights, second, acts, floors=(1, 1), name="layer"):
    return LayerWidths(name, macs, weights, Operand(second, floors[0]), Operand(acts, floors[1]))


LAYERS = (
    layer(10, 4, 8, 8),
    layer(300, 20, "w0", "a0"),
    layer(50, 0, "a0", "a1"),  # a product of two activations
    layer(200, 30, "w1", "a1", floors=(2, 2)),
    layer(7, 3, "w1", 8),
)
COSTS: dict[str, HardwareCost] = {
    "bitops": BitOpsCost(LAYERS, 12_000.0),
    "free bitops": BitOpsCost(LAYERS),
    "compression": WeightSizeCost(LAYERS, 7.0),
    "product": NetworkProductCost(Operand("w0"), Operand("a0")),
}
NAMES = ("w0", "w1", "a0", "a1")
widths = st.fixed_dictionaries({name: st.integers(1, 8) for name in NAMES})


@pytest.mark.parametrize("cost", COSTS.values(), ids=COSTS)
@given(bits=widths, name=st.sampled_from(NAMES), step=st.sampled_from([-1, 1, -0.25, 0.001]))
def test_the_change_is_the_difference_of_two_hard_losses(cost, bits, name, step):
    other = {**bits, name: bits[name] + step}
    assert cost.change(bits, name, step) == cost.hard_loss(other) - cost.hard_loss(bits)


@pytest.mark.parametrize("cost", COSTS.values(), ids=COSTS)
@given(bits=widths, name=st.sampled_from(NAMES))
def test_nothing_becomes_cheaper_with_a_bit_more(cost, bits, name):
    more = {**bits, name: bits[name] + 1}
    assert cost.value(more) >= cost.value(bits)
    assert cost.hard_loss(more) >= cost.hard_loss(bits)
    assert cost.depends_on(name) or cost.value(more) == cost.value(bits)


@pytest.mark.parametrize("cost", COSTS.values(), ids=COSTS)
@given(first=widths, second=widths)
def test_the_hard_loss_is_the_learned_part_of_the_value_up_to_a_factor(cost, first, second):
    learned = [cost.value(bits) - cost.fixed for bits in (first, second)]
    assert cost.hard_loss(first) * learned[1] == pytest.approx(cost.hard_loss(second) * learned[0])


@pytest.mark.parametrize("cost", [c for c in COSTS.values() if c.limit is not None])
@given(bits=widths)
def test_the_number_that_people_read_agrees_with_the_limit(cost, bits):
    """BitOPs may not exceed what was asked, a compression may not stay below it."""
    kept = cost.value(bits) <= cost.limit
    more_is_better = isinstance(cost, WeightSizeCost)
    beyond = cost.reached(bits) - cost.asked
    assert abs(beyond) < 1e-9 or kept == ((beyond > 0) == more_is_better)


def test_which_widths_have_a_price():
    assert [name for name in NAMES if COSTS["bitops"].depends_on(name)] == list(NAMES)
    assert [name for name in NAMES if COSTS["compression"].depends_on(name)] == ["w0", "w1"]
    assert [name for name in NAMES if COSTS["product"].depends_on(name)] == ["w0", "a0"]
    assert not any(cost.depends_on("other") for cost in COSTS.values())


def test_the_papers_product():
    cost = COSTS["product"]
    assert cost.hard_loss({"w0": 3, "a0": 4}) == 12
    assert NetworkProductCost(Operand("w"), Operand(8)).hard_loss({"w": 3}) == 24
    assert (cost.limit, cost.asked, cost.fixed) == (None, None, 0)


def test_bitops_count_fixed_layers_and_what_a_quantizer_can_really_be():
    cost = BitOpsCost([layer(10, 1, 8, 8), layer(5, 1, "w", "a", floors=(2, 2))], 700)
    assert cost.value({"w": 3, "a": 4}) == cost.reached({"w": 3, "a": 4}) == 640 + 60
    assert cost.value({"w": 3, "a": 1}) == 640 + 30
    assert (cost.fixed, cost.limit, cost.asked) == (640, 700, 700)
    assert (cost.name, cost.title, cost.unit) == ("bitops", "BitOPs", "BitOPs")
    assert cost.describe(1234.4) == "1,234 BitOPs"


def test_the_hard_loss_of_bitops_is_the_mac_weighted_mean_over_layers_that_learn():
    layers = [layer(100, 1, "a", "b"), layer(300, 1, "c", 8), layer(10**6, 1, 8, 8)]
    assert BitOpsCost(layers).hard_loss({"a": 2, "b": 3, "c": 4}) == (100 * 6 + 300 * 32) / 400


def test_the_hard_loss_of_bitops_is_the_papers_at_uniform_widths():
    cost = BitOpsCost([layer(7, 1, "a", "b"), layer(11, 1, "c", "d")])
    paper = NetworkProductCost(Operand("w"), Operand("x"))
    bits = {"a": 3, "b": 5, "c": 3, "d": 5}
    assert cost.hard_loss(bits) == paper.hard_loss({"w": 3, "x": 5})


def test_a_product_of_activations_costs_both_widths():
    cost = BitOpsCost([layer(100, 0, "q", "k"), layer(100, 1, "w", "q")])
    assert cost.hard_loss({"q": 3, "k": 5, "w": 2}) == (15 + 6) / 2
    assert BitOpsCost([layer(7, 0, "x", "x")]).hard_loss({"x": 4}) == 16


def test_the_size_of_weights_leaves_activations_and_products_out():
    cost = COSTS["compression"]
    bits = {"w0": 3, "w1": 1, "a0": 5, "a1": 6}
    assert cost.value(bits) == 4 * 8 + 20 * 3 + 30 * 2 + 3 * 1
    assert cost.fixed == 4 * 8
    assert cost.hard_loss(bits) == (20 * 3 + 30 * 2 + 3 * 1) / 53
    assert cost.reached(bits) == 57 * 32 / cost.value(bits)
    assert (cost.asked, cost.limit) == (7.0, 57 * 32 / 7)
    assert (cost.name, cost.title, cost.unit) == ("compression", "weight compression", "x")
    assert cost.describe(8) == "8.00x weight compression"


def test_nothing_to_learn_is_refused():
    fixed = [layer(10, 5, 8, 8, name="conv")]
    text = (
        "Layers ['conv'] must hold at least one with a learned width, and MACs above 0 in each "
        "such one; these learn: []."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        BitOpsCost(fixed)
    text = (
        "adaqat.budget.compression = 6.0: none of the layers ['conv'] learns a weight width; "
        "change adaqat.learn or adaqat.groups."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        WeightSizeCost([*fixed, layer(10, 0, "q", "k", name="scores")], 6.0)

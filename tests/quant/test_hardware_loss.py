from __future__ import annotations

import pytest

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant.hardware_loss import CostTerm, layer_cost, network_cost, total_cost


def test_network_cost_is_the_product():
    assert network_cost("weights", "acts")({"weights": 3, "acts": 4}) == 12
    assert network_cost("weights", 8)({"weights": 3}) == 24


def test_layer_cost_is_the_mac_weighted_mean_over_learned_layers():
    cost = layer_cost([CostTerm(100, "a", "b"), CostTerm(300, "c", 8), CostTerm(10**6, 8, 8)])
    assert cost({"a": 2, "b": 3, "c": 4}) == (100 * 6 + 300 * 32) / 400


def test_layer_cost_equals_the_product_at_uniform_widths():
    cost = layer_cost([CostTerm(7, "a", "b"), CostTerm(11, "c", "d")])
    assert cost({"a": 3, "b": 5, "c": 3, "d": 5}) == network_cost("w", "x")({"w": 3, "x": 5})


def test_nothing_learned_is_refused():
    with pytest.raises(ConfigError, match="at least one learned width"):
        layer_cost([CostTerm(10, 8, 8)])


def test_a_product_of_activations_costs_both_widths():
    cost = layer_cost([CostTerm(100, "q", "k"), CostTerm(100, "w", "q")])
    assert cost({"q": 3, "k": 5, "w": 2}) == (15 + 6) / 2
    assert layer_cost([CostTerm(7, "x", "x")])({"x": 4}) == 16


def test_total_cost_counts_fixed_layers_and_what_a_quantizer_can_really_be():
    terms = [CostTerm(10, 8, 8), CostTerm(5, "w", "a", weights_floor=2, acts_floor=2)]
    assert total_cost(terms)({"w": 3, "a": 4}) == 640 + 60
    assert total_cost(terms)({"w": 3, "a": 1}) == 640 + 30

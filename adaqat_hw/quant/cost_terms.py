"""What the widths of a network cost: the price that lambda multiplies, BitOPs and the budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant.budget import Budget
from adaqat_hw.quant.controller import AdaQatController
from adaqat_hw.quant.groups import Grouping
from adaqat_hw.quant.hardware_loss import (
    CostTerm,
    HardCost,
    layer_cost,
    network_cost,
    total_cost,
)
from adaqat_hw.quant.lambda_controller import LambdaController
from adaqat_hw.quant.network import QuantizedNetwork
from adaqat_hw.schema import AdaqatConfig, LayerSpec


@dataclass(frozen=True)
class Prices:
    """Costs of a set of widths.

    Attributes:
        hard_cost: what lambda multiplies: the paper's product, or its MAC-weighted mean over the
            layers that learn; under ``budget_compression`` their mean weight width.
        terms: BitOPs of every layer.
        budget: the limit, None without one.
        limited: terms of what the budget limits.
    """

    hard_cost: HardCost
    terms: tuple[CostTerm, ...]
    budget: Budget | None
    limited: tuple[CostTerm, ...]

    def learned(self, bits: Mapping[str, int]) -> float:
        """Return the part of the limited cost that depends on the learned widths."""
        return sum(term.cost(bits) for term in self.limited if term.learned)


def prices(network: QuantizedNetwork, grouping: Grouping, config: AdaqatConfig) -> Prices:
    """Return the costs that ``config`` asks for; call it when fixed widths are set.

    Raises:
        ConfigError: a weight compression is asked for where no weights are learned.
    """
    layers = network.spec.layers
    terms = tuple(_term(network, grouping, layer) for layer in layers)
    weights = sum(layer.weights for layer in layers)
    if config.budget_compression is not None:
        if not grouping.weights:
            raise ConfigError(
                f"adaqat.budget_compression = {config.budget_compression!r}: no layer of "
                f"{network.spec.name!r} learns a weight width; change adaqat.learn."
            )
        sizes = tuple(
            CostTerm(layer.weights, term.weights, 1, weights_floor=term.weights_floor)
            for layer, term in zip(layers, terms, strict=True)
            if layer.weights > 0
        )
        limit = Budget("compression", config.budget_compression, total_cost(sizes), weights)
        return Prices(layer_cost(sizes), terms, limit, sizes)
    if config.budget_bitops is not None:
        limit = Budget("bitops", config.budget_bitops, total_cost(terms), weights)
        return Prices(layer_cost(terms), terms, limit, terms)
    return Prices(_fixed_lambda_cost(network, grouping, terms, config), terms, None, terms)


def drive_to_budget(
    priced: Prices, controller: AdaQatController, network: str
) -> LambdaController | None:
    """Return what drives lambda to the budget; None without one.

    Raises:
        ConfigError: a budget that no plan meets, or that the initial one stays below.
    """
    budget, initial = priced.budget, controller.bits
    if budget is None:
        return None
    widths = controller.widths.values()
    budget.check(widths, initial, network)
    start = priced.hard_cost(initial)
    # The budget without the fixed part, in the unit of the price.
    goal = start * (1 - (budget.cost(initial) - budget.limit) / priced.learned(initial))
    return LambdaController(widths, priced.hard_cost, start, goal)


def _fixed_lambda_cost(
    network: QuantizedNetwork,
    grouping: Grouping,
    terms: tuple[CostTerm, ...],
    config: AdaqatConfig,
) -> HardCost:
    """Return the paper's product where the whole network has one pair of widths."""
    whole = not grouping.other_weights and not grouping.other_acts
    products = any(layer.weights == 0 for layer in network.spec.layers)
    if config.granularity == "network" and whole and not products:
        return network_cost("weights", "acts" if grouping.acts else network.config.input_bits)
    return layer_cost(terms)


def _term(network: QuantizedNetwork, grouping: Grouping, layer: LayerSpec) -> CostTerm:
    acts, acts_floor = _act_operand(network, grouping, layer.act)
    if layer.second_act is not None:
        second, floor = _act_operand(network, grouping, layer.second_act)
    else:
        slot = network.weight_widths[layer.name]
        second = grouping.width_of_weights(layer.name) or slot.bits
        floor = slot.minimum
    return CostTerm(layer.macs, second, acts, weights_floor=floor, acts_floor=acts_floor)


def _act_operand(
    network: QuantizedNetwork, grouping: Grouping, quantizer: str
) -> tuple[str | int, int]:
    slot = network.act_widths[quantizer]
    return grouping.width_of_act(quantizer) or slot.bits, slot.minimum

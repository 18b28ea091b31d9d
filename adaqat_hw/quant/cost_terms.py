"""The cost that widths are learned under, from the network, its grouping and ``[adaqat]``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adaqat_hw.cost import BitOpsCost, HardwareCost, NetworkProductCost, WeightSizeCost
from adaqat_hw.cost.layer_widths import LayerWidths, Operand
from adaqat_hw.quant.groups import INPUT, Grouping
from adaqat_hw.quant.network import QuantizedNetwork
from adaqat_hw.schema import AdaqatConfig, LayerSpec

CostFactory = Callable[[Sequence[LayerWidths]], HardwareCost]


def layer_widths(network: QuantizedNetwork, grouping: Grouping) -> tuple[LayerWidths, ...]:
    """Return every layer with the widths of its operands; call it when fixed widths are set."""
    return tuple(_layer_widths(network, grouping, layer) for layer in network.spec.layers)


def configured_cost(
    network: QuantizedNetwork,
    grouping: Grouping,
    config: AdaqatConfig,
    layers: Sequence[LayerWidths],
) -> HardwareCost:
    """Return the cost that ``config`` asks for: the budget's, else the price of a fixed lambda.

    Without a budget it is the paper's product where the whole network has one pair of widths and
    no other is learned, else BitOPs.

    Raises:
        ConfigError: a weight compression is asked for where no weights are learned.
    """
    if config.budget.compression is not None:
        return WeightSizeCost(layers, config.budget.compression)
    if config.budget.bitops is not None:
        return BitOpsCost(layers, config.budget.bitops)
    whole = not grouping.other_weights and not grouping.other_acts and INPUT not in grouping.acts
    products = any(layer.weights == 0 for layer in layers)
    if config.granularity == "network" and whole and not products:
        acts = "acts" if grouping.acts else network.config.input_bits
        return NetworkProductCost(Operand("weights"), Operand(acts))
    return BitOpsCost(layers)


def _layer_widths(network: QuantizedNetwork, grouping: Grouping, layer: LayerSpec) -> LayerWidths:
    if layer.second_act is not None:
        second = _act_operand(network, grouping, layer.second_act)
    else:
        slot = network.weight_widths[layer.name]
        second = Operand(grouping.width_of_weights(layer.name) or slot.bits, slot.minimum)
    acts = _act_operand(network, grouping, layer.act)
    return LayerWidths(layer.name, layer.macs, layer.weights, second, acts)


def _act_operand(network: QuantizedNetwork, grouping: Grouping, quantizer: str) -> Operand:
    slot = network.act_widths[quantizer]
    return Operand(grouping.width_of_act(quantizer) or slot.bits, slot.minimum)

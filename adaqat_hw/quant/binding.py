"""Binding between a quantized network and the controller that learns its widths."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant.batchnorm import probing
from adaqat_hw.quant.controller import AdaQatController, Width
from adaqat_hw.quant.hardware_loss import CostTerm, HardCost, layer_cost, network_cost
from adaqat_hw.quant.network import QuantizedNetwork
from adaqat_hw.quant.quantizers import BitWidth
from adaqat_hw.schema import AdaqatConfig

Groups = dict[str, tuple[str, ...]]
LossFn = Callable[[Tensor, Tensor], Tensor]


class Binding:
    """A controller and the quantizers that each of its widths drives.

    ``groups`` maps a width's name to the quantizers it sets. With granularity ``network`` the
    names are ``weights`` and ``acts``; with ``layer`` they are ``weights:<layer>`` and
    ``acts:<quantizer>``. Quantizers that no layer reads (a residual add's) have no MACs and so no
    price: there they follow the next learned activation width in execution order, or the last
    one. Fixed widths belong to no group.
    """

    def __init__(
        self,
        network: QuantizedNetwork,
        controller: AdaQatController,
        groups: Mapping[str, tuple[BitWidth, ...]],
    ) -> None:
        self.network = network
        self.controller = controller
        self.groups = dict(groups)

    def apply(self) -> None:
        """Switch the network to the controller's widths."""
        self.apply_bits(self.controller.bits)

    def apply_bits(self, bits: Mapping[str, int]) -> None:
        """Switch the network to ``bits``; a signed quantizer gets at least 2."""
        for name, slots in self.groups.items():
            for slot in slots:
                slot.set(max(bits[name], slot.minimum))

    @contextmanager
    def at(self, bits: Mapping[str, int]) -> Iterator[None]:
        """Switch the network to ``bits`` for a while."""
        before = [(slot, slot.bits) for slots in self.groups.values() for slot in slots]
        try:
            self.apply_bits(bits)
            yield
        finally:
            for slot, width in before:
                slot.set(width)


def bind(network: QuantizedNetwork, config: AdaqatConfig) -> Binding:
    """Make the controller for a network and switch the network to its initial widths.

    ``config.initial_bits`` is raised to a width's minimum where it lies below.

    Raises:
        ConfigError: the network has no width to learn.
    """
    learned_weights = [n for n in network.weight_widths if n not in network.fixed_weights]
    learned_acts = [n for n in network.act_widths if n not in network.fixed_acts]
    if not learned_weights:
        raise ConfigError(
            f"Network {network.spec.name!r} has no layer between its fixed ends, so no width can "
            "be learned; set quant.ends to 'learned' or add layers."
        )
    per_layer = config.granularity == "layer"
    if per_layer:
        weight_groups: Groups = {f"weights:{n}": (n,) for n in learned_weights}
        act_groups = _act_groups(network, learned_acts)
        cost = _layer_cost(network, weight_groups, act_groups)
    else:
        weight_groups = {"weights": tuple(learned_weights)}
        act_groups = {"acts": tuple(learned_acts)} if learned_acts else {}
        cost = network_cost("weights", "acts" if learned_acts else network.config.input_bits)
    groups: dict[str, tuple[BitWidth, ...]] = {}
    widths = []
    for name, members in weight_groups.items():
        groups[name] = tuple(network.weight_widths[m] for m in members)
        widths.append(_width(name, config, config.min_weight_bits, config.lr_weights))
    for name, members in act_groups.items():
        groups[name] = tuple(network.act_widths[m] for m in members)
        # The narrowest member counts: a signed one alone cannot go down to 1 bit.
        least = max(config.min_act_bits, min(slot.minimum for slot in groups[name]))
        widths.append(_width(name, config, least, config.lr_acts))
    controller = AdaQatController(
        widths,
        cost,
        config.hardware_lambda,
        oscillations=config.oscillations,
        dwell=config.dwell,
        gradient_ema=config.gradient_ema,
    )
    binding = Binding(network, controller, groups)
    binding.apply()
    return binding


def live_loss(network: QuantizedNetwork, loss_fn: LossFn, x: Tensor, y: Tensor) -> float:
    """Return the loss at the present widths, measured as the probes are.

    With dropout, use this in place of the training loss: it sees the probes' random state.
    """
    with probing(network):
        return float(loss_fn(network(x), y))


def probe_losses(
    network: QuantizedNetwork,
    binding: Binding,
    loss_fn: LossFn,
    x: Tensor,
    y: Tensor,
    names: Iterable[str] | None = None,
) -> dict[str, float]:
    """Return the loss of every probe of the controller on one batch.

    Call it BEFORE the optimizer's step when the training loss serves as the live loss: afterwards
    the weights are others and the difference is biased. All probes see the same random state;
    widths, modes, running statistics and random state are as before afterwards.

    Args:
        network: the bound network.
        binding: what :func:`bind` returned.
        loss_fn: (logits, targets) to a scalar.
        x: inputs (n, ...).
        y: targets.
        names: of the widths to probe; all that have a probe where None.
    """
    wanted = None if names is None else set(names)
    losses = {}
    for name, bits in binding.controller.probes():
        if wanted is not None and name not in wanted:
            continue
        with binding.at(bits), probing(network):
            losses[name] = float(loss_fn(network(x), y))
    return losses


def _width(name: str, config: AdaqatConfig, minimum: int, lr: float) -> Width:
    initial = max(config.initial_bits, float(minimum))
    return Width(name, initial, minimum, config.max_bits, lr)


def _act_groups(network: QuantizedNetwork, learned: list[str]) -> Groups:
    read = {layer.act for layer in network.spec.layers}
    leaders = [name for name in learned if name in read]
    members: dict[str, list[str]] = {name: [name] for name in leaders}
    order = list(network.act_widths)
    for name in learned:
        if name in members:
            continue
        later = [x for x in leaders if order.index(x) > order.index(name)]
        leader = later[0] if later else leaders[-1] if leaders else name
        members.setdefault(leader, []).append(name)
    return {f"acts:{leader}": tuple(names) for leader, names in members.items()}


def _layer_cost(
    network: QuantizedNetwork,
    weight_groups: Groups,
    act_groups: Groups,
) -> HardCost:
    group_of_act = {member: name for name, group in act_groups.items() for member in group}
    terms = []
    for layer in network.spec.layers:
        group = f"weights:{layer.name}"
        weights = group if group in weight_groups else network.fixed_weights[layer.name]
        acts = group_of_act.get(layer.act)
        terms.append(CostTerm(layer.macs, weights, acts or network.fixed_acts[layer.act]))
    return layer_cost(terms)

"""Binding between a quantized network and the controller that learns its widths."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant.allocate import allocate
from adaqat_hw.quant.batchnorm import probing
from adaqat_hw.quant.budget import Budget, BudgetOutcome
from adaqat_hw.quant.controller import AdaQatController
from adaqat_hw.quant.cost_terms import drive_to_budget, prices
from adaqat_hw.quant.groups import group
from adaqat_hw.quant.hardware_loss import HardCost, total_cost
from adaqat_hw.quant.lambda_controller import LambdaController
from adaqat_hw.quant.network import QuantizedNetwork
from adaqat_hw.quant.probe_scheduler import ProbeScheduler
from adaqat_hw.quant.quantizers import BitWidth
from adaqat_hw.quant.widths import StepEvents, Width
from adaqat_hw.schema import AdaqatConfig
from adaqat_hw.schema.config import parse_bits

LossFn = Callable[[Tensor, Tensor], Tensor]


class Binding:
    """A controller and the quantizers that each of its widths drives.

    ``groups`` maps a width's name to the quantizers it sets; :mod:`adaqat_hw.quant.groups` says
    which. Fixed widths, and those that keep ``other_bits``, belong to no group.

    A training calls :meth:`progress` and :meth:`probe_names`, measures the probes with
    :func:`probe_losses`, and hands them to :meth:`step`; at the end of the learning phase
    :meth:`freeze_all`. Both are followed by :meth:`apply`.
    """

    def __init__(
        self,
        network: QuantizedNetwork,
        controller: AdaQatController,
        groups: Mapping[str, tuple[BitWidth, ...]],
        *,
        bitops: HardCost,
        turns: ProbeScheduler,
        budget: Budget | None = None,
        drive: LambdaController | None = None,
    ) -> None:
        self.network = network
        self.controller = controller
        self.groups = dict(groups)
        self.budget = budget
        self._bitops = bitops
        self._turns = turns
        self._drive = drive

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

    def progress(self, fraction: float) -> None:
        """Take note of how far the learning phase is, 0 (warm-up over) to 1 (freeze)."""
        if self._drive is not None:
            self._drive.progress(fraction)

    def probe_names(self, at_step: int) -> list[str]:
        """Return the widths to probe in training step ``at_step``, if it is one that probes.

        All that are not frozen, or ``probes_per_step`` of them: those that waited longest.
        """
        return self._turns.next(self.controller.free)

    def step(self, losses: Mapping[str, float], live_loss: float, at_step: int) -> StepEvents:
        """Move the widths that were probed, and in budget mode lambda.

        A width moves with its learning rate times the steps since its last probe. The network
        is not switched: call :meth:`apply` once its weights may change.

        Args:
            losses: of the probes, by width.
            live_loss: at the present widths, of the same batch and the same weights.
            at_step: the training step's number.

        Raises:
            ConfigError: a loss of a width that has no probe.
            StageFailed: a loss is not finite.
        """
        controller = self.controller
        free = set(controller.free)
        scales = self._turns.scales((n for n in losses if n in free), at_step)
        events = controller.step(losses, live_loss, scales, at_step)
        if self._drive is not None:
            controller.hardware_lambda = self._drive.update(controller, at_step, len(losses))
        return events

    def freeze_all(self, at_step: int) -> StepEvents:
        """Freeze what still moves; in budget mode at the integers that meet the budget best."""
        return self.controller.freeze_all(at_step, self._chosen())

    def facts(self) -> dict[str, Any]:
        """Return the widths and what they cost, JSON-able, for the log."""
        bits = self.controller.bits
        facts: dict[str, Any] = {
            "real": self.controller.real,
            "bits": bits,
            "hard_loss": self.controller.hard_cost(bits),
            "hardware_lambda": self.controller.hardware_lambda,
            "bitops": round(self._bitops(bits)),
        }
        if self.budget is not None and self._drive is not None:
            facts["budget"] = {
                "kind": self.budget.kind,
                "value": self.budget.value,
                "reached": self.budget.reached(bits),
                "target_hard_loss": self._drive.target,
                "fraction": self._drive.fraction,
            }
        return facts

    def outcome(self) -> BudgetOutcome | None:
        """Compare the present widths with the budget; None where there is none."""
        return None if self.budget is None else self.budget.outcome(self.controller.bits)

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes, as JSON-able values."""
        return {
            **self.controller.state_dict(),
            "turns": self._turns.state_dict(),
            "drive": None if self._drive is None else self._drive.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned; training then goes on identically.

        The network is not switched: call :meth:`apply`.

        Raises:
            ConfigError: the state is of other widths, or of a run with or without a budget.
        """
        if (state.get("drive") is None) != (self._drive is None):
            raise ConfigError(
                "The saved widths were learned "
                f"{'without' if self._drive is not None else 'under'} a budget; was the "
                "configuration changed? Train again."
            )
        self.controller.load_state_dict(state)
        self._turns.load_state_dict(state["turns"])
        if self._drive is not None:
            self._drive.load_state_dict(state["drive"])

    def _chosen(self) -> dict[str, int] | None:
        controller = self.controller
        if self.budget is None or controller.done:
            return None
        widths = [controller.widths[name] for name in controller.free]
        return allocate(
            controller.bits,
            widths,
            self.budget.cost,
            self.budget.limit,
            controller.marginals.fit(),
        )


def bind(network: QuantizedNetwork, config: AdaqatConfig) -> Binding:
    """Make the controller for a network and switch the network to its initial widths.

    ``config.initial_bits`` is raised to a width's minimum where it lies below. Layers that learn
    nothing are switched to ``config.other_bits``.

    Raises:
        ConfigError: the network has no width to learn, patterns that match nothing or a layer in
            two groups, or a budget that no plan meets or the initial one stays below.
    """
    grouping = group(
        network.spec,
        [n for n in network.weight_widths if n not in network.fixed_weights],
        list(network.act_widths),
        network.fixed_acts,
        config,
    )
    other_weight_bits, other_act_bits = parse_bits(config.other_bits)
    for name in grouping.other_weights:
        _set_other(network.weight_widths[name], other_weight_bits)
    for name in grouping.other_acts:
        _set_other(network.act_widths[name], other_act_bits)
    groups: dict[str, tuple[BitWidth, ...]] = {}
    widths = []
    for name, members in grouping.weights.items():
        groups[name] = tuple(network.weight_widths[m] for m in members)
        widths.append(_width(name, config, config.min_weight_bits, config.lr_weights))
    for name, members in grouping.acts.items():
        groups[name] = tuple(network.act_widths[m] for m in members)
        # The narrowest member counts: a signed one alone cannot go down to 1 bit.
        least = max(config.min_act_bits, min(slot.minimum for slot in groups[name]))
        width = _width(name, config, least, config.lr_acts)
        # Weight compression puts no price on activations: noise alone would move them.
        widths.append(_held(width) if config.budget_compression else width)
    priced = prices(network, grouping, config)
    controller = AdaQatController(
        widths,
        priced.hard_cost,
        config.hardware_lambda,
        oscillations=config.oscillations,
        dwell=config.dwell,
        gradient_ema=config.gradient_ema,
        hysteresis=config.hysteresis,
        freeze=config.freeze,
        freeze_oscillating=priced.budget is None,
        max_move=None if priced.budget is None else 1.0,
    )
    binding = Binding(
        network,
        controller,
        groups,
        bitops=total_cost(priced.terms),
        turns=ProbeScheduler(controller.widths, config.probe_every, config.probes_per_step),
        budget=priced.budget,
        drive=drive_to_budget(priced, controller, network.spec.name),
    )
    binding.apply()
    return binding


def _set_other(slot: BitWidth, bits: int) -> None:
    slot.set(max(bits, slot.minimum))


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


def _held(width: Width) -> Width:
    bits = math.ceil(width.initial)
    return Width(width.name, float(bits), bits, bits, width.lr)

"""Binding between a quantized network and the controller that learns its widths."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from adaqat_hw.cost import BitOpsCost, HardwareCost
from adaqat_hw.errors import ConfigError
from adaqat_hw.quant.allocation_rounds import reference_plan
from adaqat_hw.quant.budget import budget_result, check_budget
from adaqat_hw.quant.controller import AdaQatController
from adaqat_hw.quant.cost_terms import CostFactory, configured_cost, layer_widths
from adaqat_hw.quant.freeze_plan import FreezeProposal, choose, propose
from adaqat_hw.quant.groups import INPUT, Grouping, group
from adaqat_hw.quant.lambda_controller import LambdaController
from adaqat_hw.quant.network import QuantizedNetwork
from adaqat_hw.quant.probe_scheduler import ProbeScheduler
from adaqat_hw.quant.quantizers import BitWidth
from adaqat_hw.quant.widths import StepEvents, Width
from adaqat_hw.schema import AdaqatConfig, BudgetResult, FreezeChoice, parse_bits


class Binding:
    """A controller and the quantizers that each of its widths drives.

    ``groups`` maps a width's name to the quantizers it sets; :mod:`adaqat_hw.quant.groups` says
    which. Fixed widths, and those that keep ``other_bits``, belong to no group.

    A training calls :meth:`progress` and :meth:`probe_names`, measures the probes with
    :func:`adaqat_hw.quant.probe_losses`, and hands them to :meth:`step`; at the end of the learning
    phase it may measure the plans of :meth:`freeze_proposal` by
    :func:`adaqat_hw.quant.compare_losses`, and calls :meth:`freeze_all`. Both are followed by
    :meth:`apply`. ``bitops`` counts the whole network for the log, whatever the widths are
    learned under. ``allocation_start`` is the uniform plan of the budget where widths move by the
    rule ``allocation``, else None. ``freeze_choice`` says what was frozen under a budget; None
    before.
    """

    def __init__(
        self,
        network: QuantizedNetwork,
        controller: AdaQatController,
        groups: Mapping[str, tuple[BitWidth, ...]],
        *,
        bitops: HardwareCost,
        scheduler: ProbeScheduler,
        lambda_controller: LambdaController | None = None,
        allocation_start: Mapping[str, int] | None = None,
    ) -> None:
        self.network = network
        self.controller = controller
        self.groups = dict(groups)
        self._bitops = bitops
        self._scheduler = scheduler
        self._lambda = lambda_controller
        self.allocation_start = allocation_start
        self.freeze_choice: FreezeChoice | None = None

    def apply(self) -> list[BitWidth]:
        """Switch the network to the controller's widths; return the quantizers that changed."""
        return self.apply_bits(self.controller.bits)

    def apply_bits(self, bits: Mapping[str, int]) -> list[BitWidth]:
        """Switch the network to ``bits``; a signed quantizer gets at least 2.

        Returns the quantizers whose width changed.
        """
        changed = []
        for name, slots in self.groups.items():
            for slot in slots:
                if slot.bits != (width := max(bits[name], slot.minimum)):
                    slot.set(width)
                    changed.append(slot)
        return changed

    @contextmanager
    def at(self, bits: Mapping[str, int]) -> Iterator[None]:
        """Switch the network to ``bits`` for a while."""
        before = [(slot, slot.bits) for slots in self.groups.values() for slot in slots]
        try:
            self.apply_bits(bits)
            yield
        finally:
            for slot, width in before:
                _switch(slot, width)

    def progress(self, fraction: float) -> None:
        """Take note of how far the learning phase is, 0 (warm-up over) to 1 (freeze)."""
        if self._lambda is not None:
            self._lambda.progress(fraction)

    def probe_names(self, at_step: int) -> list[str]:
        """Return the widths to probe in training step ``at_step``, if it is one that probes.

        All that are not frozen, or ``probing.per_step`` of them: those that waited longest. None
        where widths move by the rule ``allocation``.
        """
        if self.allocation_start is not None:
            return []
        return self._scheduler.next(self.controller.free)

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
        scales = self._scheduler.scales((n for n in losses if n in free), at_step)
        events = controller.step(losses, live_loss, scales, at_step)
        if self._lambda is not None:
            controller.hardware_lambda = self._lambda.update(controller, at_step, len(losses))
        return events

    def move_to(self, bits: Mapping[str, int], at_step: int) -> StepEvents:
        """Move the free widths to ``bits``; the network is not switched: call :meth:`apply`."""
        return self.controller.move_to(bits, at_step)

    def freeze_proposal(self) -> FreezeProposal | None:
        """Return the plans to choose from at the freeze.

        None without a budget, and where nothing is free.
        """
        if self.controller.cost.limit is None or self.controller.done:
            return None
        return propose(self.controller, reallocate=self.allocation_start is None)

    def freeze_all(self, at_step: int, differences: Sequence[float] | None = None) -> StepEvents:
        """Freeze what still moves; under a budget as :attr:`freeze_choice` then says.

        Args:
            at_step: the training step's number.
            differences: losses of the proposal's learned plan minus those of its uniform one, by
                batch; None where the learned plan is to be taken without a comparison.
        """
        proposal = self.freeze_proposal()
        if proposal is None:
            return self.controller.freeze_all(at_step)
        self.freeze_choice = choose(proposal, self.controller.cost, at_step, differences)
        return self.controller.freeze_all(at_step, self.freeze_choice.bits)

    def facts(self) -> dict[str, Any]:
        """Return the widths and what they cost, JSON-able, for the log."""
        bits, cost = self.controller.bits, self.controller.cost
        facts: dict[str, Any] = {
            "real": self.controller.real,
            "bits": bits,
            "hard_loss": cost.hard_loss(bits),
            "hardware_lambda": self.controller.hardware_lambda,
            "bitops": round(self._bitops.value(bits)),
        }
        if cost.limit is not None:
            facts["budget"] = {
                "title": cost.title,
                "unit": cost.unit,
                "asked": cost.asked,
                "reached": cost.reached(bits),
            }
            if self._lambda is not None:
                facts["budget"]["target_hard_loss"] = self._lambda.target
                facts["budget"]["fraction"] = self._lambda.fraction
        return facts

    def budget_result(self) -> BudgetResult | None:
        """Compare the present widths with the budget; None where there is none."""
        return budget_result(self.controller.cost, self.controller.bits)

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes, as JSON-able values."""
        return {
            **self.controller.state_dict(),
            "scheduler": self._scheduler.state_dict(),
            "lambda_controller": None if self._lambda is None else self._lambda.state_dict(),
            "freeze_choice": self.freeze_choice and self.freeze_choice.model_dump(mode="json"),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned; training then goes on identically.

        The network is not switched: call :meth:`apply`.

        Raises:
            ConfigError: the state is of other widths, or of a run with or without a budget.
        """
        if (state.get("lambda_controller") is None) != (self._lambda is None):
            raise ConfigError(
                "The saved widths were learned "
                f"{'without' if self._lambda is not None else 'under'} a budget; was the "
                "configuration changed? Train again."
            )
        self.controller.load_state_dict(state)
        self._scheduler.load_state_dict(state["scheduler"])
        if self._lambda is not None:
            self._lambda.load_state_dict(state["lambda_controller"])
        choice = state["freeze_choice"]
        self.freeze_choice = None if choice is None else FreezeChoice.model_validate(choice)


def bind(
    network: QuantizedNetwork, config: AdaqatConfig, cost: CostFactory | None = None
) -> Binding:
    """Make the controller for a network and switch the network to its initial widths.

    ``config.initial_bits`` is raised to a width's minimum where it lies below. The rule
    ``allocation`` starts at the uniform plan of the budget, with a bit more while it warms up.
    Layers that learn nothing are switched to ``config.other_bits``. The width of the network's
    input starts at most at, and never exceeds, the network's ``config.input_bits``.

    Args:
        network: the network whose widths are learned.
        config: how they are.
        cost: makes the cost that they are learned under from the layers and their widths; the one
            that ``config`` asks for where None.

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
        network.input_acts if network.config.learns_input else (),
    )
    _require_input(network, grouping, config)
    _set_others(network, grouping, config)
    layers = layer_widths(network, grouping)
    limited = configured_cost(network, grouping, config, layers) if cost is None else cost(layers)
    groups: dict[str, tuple[BitWidth, ...]] = {}
    widths = []
    for name, members in grouping.weights.items():
        groups[name] = tuple(network.weight_widths[m] for m in members)
        widths.append(_width(name, config, config.min_weight_bits, config.lr_weights, limited))
    for name, members in grouping.acts.items():
        groups[name] = tuple(network.act_widths[m] for m in members)
        # The narrowest member counts: a signed one alone cannot go down to 1 bit.
        least = max(config.min_act_bits, min(slot.minimum for slot in groups[name]))
        most = config.max_bits
        if name == INPUT:
            most = min(most, network.config.input_bits)
            least = min(least, most)
        widths.append(_width(name, config, least, config.lr_acts, limited, most))
    budgeted = limited.limit is not None
    controller = AdaQatController(
        widths,
        limited,
        config.hardware_lambda,
        oscillations=config.freeze.oscillations,
        dwell=config.freeze.dwell,
        gradient_ema=config.probing.gradient_ema,
        hysteresis=config.hysteresis,
        freeze_to=config.freeze.to,
        freeze_oscillating=not budgeted,
        max_move=1.0 if budgeted else None,
    )
    if budgeted:
        first = {w.name: w.maximum for w in widths} if config.allocates else controller.bits
        check_budget(limited, widths, first, network.spec.name)
    start = propose(controller).uniform if config.allocates else None
    if start is not None:
        controller.move_to(start, 0)
        if config.warmup_epochs:
            controller.move_to(reference_plan(controller), 0)
    binding = Binding(
        network,
        controller,
        groups,
        bitops=BitOpsCost(layers),
        scheduler=ProbeScheduler(controller.widths, config.probing.every, config.probing.per_step),
        lambda_controller=(
            LambdaController(widths, limited, controller.bits)
            if budgeted and not config.allocates
            else None
        ),
        allocation_start=start,
    )
    binding.apply()
    return binding


def _switch(slot: BitWidth, bits: int) -> None:
    # Setting a width writes to the device: a probe changes one width of many.
    if slot.bits != bits:
        slot.set(bits)


def _set_others(network: QuantizedNetwork, grouping: Grouping, config: AdaqatConfig) -> None:
    weight_bits, act_bits = parse_bits(config.other_bits)
    slots = [(network.weight_widths[name], weight_bits) for name in grouping.other_weights]
    slots += [(network.act_widths[name], act_bits) for name in grouping.other_acts]
    for slot, bits in slots:
        slot.set(max(bits, slot.minimum))


def _require_input(network: QuantizedNetwork, grouping: Grouping, config: AdaqatConfig) -> None:
    """Refuse an input that is asked to learn where nothing of its layer does."""
    if network.config.input == "learned" and INPUT not in grouping.acts:
        if network.integer_input:
            raise ConfigError(
                f"quant.input = 'learned', and network {network.spec.name!r} takes integer tokens, "
                "which have no width; leave the key out."
            )
        key = "adaqat.groups" if config.granularity == "group" else "adaqat.learn"
        raise ConfigError(
            f"quant.input = 'learned', and no pattern of {key} matches {network.first_layer!r}, "
            "the layer that reads the input; add one, or set quant.input to 'fixed'."
        )


def _width(
    name: str,
    config: AdaqatConfig,
    minimum: int,
    lr: float,
    cost: HardwareCost,
    maximum: int | None = None,
) -> Width:
    most = config.max_bits if maximum is None else maximum
    initial = min(max(config.initial_bits, float(minimum)), float(most))
    if cost.limit is not None and not cost.depends_on(name):
        # The budget puts no price on it, so noise alone would move it.
        bits = math.ceil(initial)
        return Width(name, float(bits), bits, bits, lr)
    return Width(name, initial, minimum, most, lr)

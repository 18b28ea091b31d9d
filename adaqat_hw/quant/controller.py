"""The AdaQAT controller: gradient descent on real-valued bit-widths. Pure Python.

Source: arXiv 2404.16876. Each width is a real number ``N``; the network runs at ``ceil(N)``. The
gradient is a finite difference between neighbouring integer widths,

    dL/dN = [L(bits) - L(one lower)] + lambda * [H(bits) - H(one lower)],

with the hard loss ``H`` of any :class:`HardwareCost`, and ``N`` moves against it. A width that
keeps flipping between the same two integers freezes to the larger one (the paper), or to the
better one: that which the averaged gradient between the two asks for.

``hysteresis`` (this project's) keeps noise at a boundary from flipping a width back and forth: it
changes its integer only when ``N`` lies that far beyond the boundary.

At its minimum a width has no lower neighbour. There the controller uses the difference ABOVE it,
``[L(one higher) - L(bits)] + lambda * [H(one higher) - H(bits)]``: the right-hand derivative at
the bound. So a width rests at its minimum while another bit is not worth its price, and rises
when it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from adaqat_hw.cost import HardwareCost
from adaqat_hw.errors import ConfigError, StageFailed
from adaqat_hw.quant.sensitivity import SensitivityTracker
from adaqat_hw.quant.widths import Flip, Freeze, Gradient, StepEvents, Width

__all__ = ["AdaQatController", "Flip", "Freeze", "Gradient", "StepEvents", "Width"]

STATE_VERSION = 4
_OSCILLATES = 2  # flips between two integers: one that only passes has one


@dataclass
class _State:
    """Mutable state of one width; ``pair`` is the two integers it flips between.

    ``averaged`` counts the task gradients in ``average``.
    """

    real: float
    bits: int
    frozen_at: int | None = None
    pair: tuple[int, int] | None = None
    flips: int = 0
    first_flip: int = 0
    average: float | None = None
    average_of: tuple[int, int] | None = None
    averaged: int = 0


class AdaQatController:
    """Learn bit-widths by gradient descent with finite differences.

    Args:
        widths: the learned widths; names are unique.
        cost: what the widths cost.
        hardware_lambda: weight of the hard loss; may be changed between steps.
        oscillations: flips between the same two integers after which a width freezes.
        dwell: training steps that these flips must span at least.
        gradient_ema: share of the old task gradient in a running average, from 0 (none) to below
            1; the price is added as it is. An average is dropped when its width moves to another
            pair of integers, since it then measures another difference; its first gradients weigh
            equally.
        hysteresis: how far beyond an integer boundary ``N`` must lie before the integer changes.
        freeze_to: ``larger`` or ``better``: the integer that an oscillating width freezes to.
        freeze_oscillating: whether oscillation freezes a width at all. Not under a budget: one
            that froze early could not be lowered any more.
        max_move: the most bits that one step moves a width; None for any number.

    Raises:
        ConfigError: a bad width or setting.
    """

    def __init__(
        self,
        widths: Iterable[Width],
        cost: HardwareCost,
        hardware_lambda: float,
        oscillations: int = 10,
        dwell: int = 20,
        gradient_ema: float = 0.0,
        hysteresis: float = 0.0,
        freeze_to: Literal["larger", "better"] = "larger",
        freeze_oscillating: bool = True,
        max_move: float | None = None,
    ) -> None:
        listed = tuple(widths)
        self.widths = {width.name: width for width in listed}
        if not listed or len(self.widths) != len(listed):
            raise ConfigError(
                f"Widths {[w.name for w in listed]!r} must be at least one, each with its own name."
            )
        if hardware_lambda < 0 or oscillations < 1 or dwell < 0 or not 0 <= gradient_ema < 1:
            raise ConfigError(
                f"hardware_lambda {hardware_lambda!r} and dwell {dwell!r} must not be negative, "
                f"oscillations {oscillations!r} must be positive and gradient_ema "
                f"{gradient_ema!r} must lie in [0, 1)."
            )
        if not 0 <= hysteresis < 0.5 or freeze_to not in ("larger", "better"):
            raise ConfigError(
                f"hysteresis {hysteresis!r} must lie in [0, 0.5) and freeze_to {freeze_to!r} be "
                "'larger' or 'better'."
            )
        self.cost = cost
        self.hardware_lambda = hardware_lambda
        self.oscillations = oscillations
        self.dwell = dwell
        self.gradient_ema = gradient_ema
        self.hysteresis = hysteresis
        self.freeze_to = freeze_to
        self.freeze_oscillating = freeze_oscillating
        self.max_move = math.inf if max_move is None else max_move
        self.sensitivity = SensitivityTracker(self.widths)
        self._steps = 0
        self._states = {
            name: _State(float(w.initial), math.ceil(w.initial)) for name, w in self.widths.items()
        }
        for name, width in self.widths.items():
            if width.minimum == width.maximum:
                self._states[name].frozen_at = 0

    @property
    def steps(self) -> int:
        """Training steps seen."""
        return self._steps

    @property
    def real(self) -> dict[str, float]:
        """The relaxed widths by name."""
        return {name: state.real for name, state in self._states.items()}

    @property
    def bits(self) -> dict[str, int]:
        """The integer widths by name: the relaxed ones rounded up, give or take the hysteresis."""
        return {name: state.bits for name, state in self._states.items()}

    @property
    def free(self) -> list[str]:
        """The names of the widths that are not frozen."""
        return [n for n, s in self._states.items() if s.frozen_at is None]

    @property
    def frozen(self) -> dict[str, int]:
        """The frozen widths by name, with the step at which they froze."""
        return {n: s.frozen_at for n, s in self._states.items() if s.frozen_at is not None}

    @property
    def done(self) -> bool:
        """Whether every width is frozen."""
        return len(self.frozen) == len(self.widths)

    def probes(self) -> list[tuple[str, dict[str, int]]]:
        """Return for each unfrozen width the widths to measure a task loss at.

        They are the present ones with that width one lower; at its minimum, one higher.
        """
        bits = self.bits
        return [
            (name, {**bits, name: self._neighbour(name, bits[name])})
            for name, state in self._states.items()
            if state.frozen_at is None
        ]

    def step(
        self,
        task_losses: Mapping[str, float],
        live_loss: float,
        scale: int | Mapping[str, int] = 1,
        at_step: int | None = None,
    ) -> StepEvents:
        """Move the widths whose probe was measured.

        Args:
            task_losses: loss of each probe, by the probe's name; a subset moves a subset.
            live_loss: loss at the present widths, of the same batch and the same weights.
            scale: training steps since the last call, or since each width's last probe, by
                name; multiplies the learning rates.
            at_step: the training step's number; counted up by the (largest) scale where None.

        Raises:
            ConfigError: a loss of a width that has no probe, or ``scale`` below 1.
            StageFailed: a loss is not finite.
        """
        scales = dict(scale) if isinstance(scale, Mapping) else dict.fromkeys(task_losses, scale)
        self._check(task_losses, live_loss, scales)
        passed = max(scales.values(), default=1)
        self._steps = self._steps + passed if at_step is None else at_step
        gradients = [self._gradient(n, task_losses[n], live_loss) for n in task_losses]
        flips, freezes = [], []
        before = self.bits
        for gradient in gradients:
            width, state = self.widths[gradient.name], self._states[gradient.name]
            change = width.lr * scales[gradient.name] * gradient.applied
            moved = state.real - min(max(change, -self.max_move), self.max_move)
            state.real = min(max(moved, float(width.minimum)), float(width.maximum))
            state.bits = self._discrete(width, state)
        for gradient in gradients:
            name = gradient.name
            after = self._states[name].bits
            if after != before[name]:
                flips.append(self._flip(name, before[name], after))
                freezes.extend(self._freeze_if_oscillating(name))
        return StepEvents(self._steps, tuple(gradients), tuple(flips), tuple(freezes))

    def move_to(self, bits: Mapping[str, int], at_step: int) -> StepEvents:
        """Move free widths to the integers ``bits``, as another rule than the gradient chose."""
        self._steps = at_step
        flips = []
        for name in self.free:
            state = self._states[name]
            before = state.bits
            state.real, state.bits = float(bits[name]), bits[name]
            if before != state.bits:
                flips.append(self._flip(name, before, state.bits))
        return StepEvents(at_step, flips=tuple(flips))

    def freeze_all(
        self, at_step: int | None = None, bits: Mapping[str, int] | None = None
    ) -> StepEvents:
        """Freeze every free width: where it is, or at ``bits`` (chosen to meet a budget).

        Without ``bits``, one that oscillates freezes to the larger or the better of its two, as
        ``freeze_to`` says.
        """
        if at_step is not None:
            self._steps = at_step
        if bits is not None:
            freezes = [self._freeze(name, bits[name], "budget") for name in self.free]
        else:
            freezes = [self._freeze(name, self._resting(name), "schedule") for name in self.free]
        return StepEvents(self._steps, freezes=tuple(freezes))

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes, as JSON-able values."""
        widths = {name: asdict(state) for name, state in self._states.items()}
        for row in widths.values():
            row["pair"] = row["pair"] and list(row["pair"])
            row["average_of"] = row["average_of"] and list(row["average_of"])
        return {
            "version": STATE_VERSION,
            "steps": self._steps,
            "hardware_lambda": self.hardware_lambda,
            "sensitivity": self.sensitivity.state_dict(),
            "widths": widths,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned; training then goes on identically.

        Raises:
            ConfigError: the state is of other widths or of another version.
        """
        rows = state.get("widths", {})
        if state.get("version") != STATE_VERSION or set(rows) != set(self.widths):
            raise ConfigError(
                f"Controller state version {state.get('version')!r} with widths {sorted(rows)!r} "
                f"does not fit: expected version {STATE_VERSION} with {sorted(self.widths)!r}."
            )
        states = {}
        for name in self.widths:
            row = dict(rows[name])
            for key in ("pair", "average_of"):
                row[key] = None if row[key] is None else (int(row[key][0]), int(row[key][1]))
            states[name] = _State(**row)
            width = self.widths[name]
            if not width.minimum <= states[name].real <= width.maximum:
                raise ConfigError(
                    f"Controller state has {name!r} at {states[name].real!r}, outside "
                    f"{width.minimum!r} to {width.maximum!r}; was the configuration changed?"
                )
        self._states = states
        self._steps = int(state["steps"])
        self.hardware_lambda = float(state["hardware_lambda"])
        self.sensitivity.load_state_dict(state["sensitivity"])

    def _neighbour(self, name: str, bits: int) -> int:
        return bits - 1 if bits > self.widths[name].minimum else bits + 1

    def _gradient(self, name: str, probe_loss: float, live_loss: float) -> Gradient:
        bits = self.bits
        other = self._neighbour(name, bits[name])
        step = other - bits[name]
        task = -step * (live_loss - probe_loss)
        self.sensitivity.add(name, max(bits[name], other), -task)
        hardware = step * self.hardware_lambda * self.cost.change(bits, name, step)
        # The price is known exactly and lambda changes: only what is noisy is averaged.
        averaged = self._average(name, task, (min(bits[name], other), max(bits[name], other)))
        return Gradient(name, task, hardware, averaged + hardware)

    def _average(self, name: str, value: float, interval: tuple[int, int]) -> float:
        state = self._states[name]
        known = state.average is not None and state.average_of == interval
        state.averaged = state.averaged + 1 if known else 1
        if self.gradient_ema > 0 and known:
            assert state.average is not None
            new = max(1 - self.gradient_ema, 1 / state.averaged)
            value = (1 - new) * state.average + new * value
        state.average, state.average_of = value, interval
        return value

    def _discrete(self, width: Width, state: _State) -> int:
        """Round up, but leave the present integer only ``hysteresis`` beyond its boundary."""
        if state.real <= width.minimum:
            return width.minimum
        lowest = math.ceil(state.real - self.hysteresis)
        highest = math.ceil(state.real + self.hysteresis)
        return min(max(state.bits, lowest), highest, width.maximum)

    def _resting(self, name: str) -> int:
        """Return the integer to freeze a width at, wherever between two it is at the moment."""
        state = self._states[name]
        if state.pair is None or state.bits not in state.pair:
            return state.bits
        if self.freeze_to == "larger" and state.flips < _OSCILLATES:
            return state.bits
        return self._better(name, state.pair)

    def _better(self, name: str, pair: tuple[int, int]) -> int:
        """Return the one of two neighbours that the averaged gradient between them asks for."""
        lower, upper = pair
        worth = self.sensitivity.mean(name, upper)
        if self.freeze_to == "larger" or upper - lower != 1 or worth is None:
            return upper
        change = self.cost.change({**self.bits, name: lower}, name, 1)
        return lower if self.hardware_lambda * change > worth else upper

    def _flip(self, name: str, before: int, after: int) -> Flip:
        state = self._states[name]
        pair = (min(before, after), max(before, after))
        if pair != state.pair:
            state.pair, state.flips, state.first_flip = pair, 0, self._steps
        state.flips += 1
        return Flip(name, before, after, state.flips)

    def _freeze_if_oscillating(self, name: str) -> list[Freeze]:
        state = self._states[name]
        assert state.pair is not None
        enough = self.freeze_oscillating and state.flips >= self.oscillations
        if not enough or self._steps - state.first_flip < self.dwell:
            return []
        return [self._freeze(name, self._better(name, state.pair), "oscillation")]

    def _freeze(self, name: str, bits: int, reason: str) -> Freeze:
        state = self._states[name]
        state.real, state.bits, state.frozen_at = float(bits), bits, self._steps
        return Freeze(name, bits, reason)

    def _check(
        self, task_losses: Mapping[str, float], live_loss: float, scales: Mapping[str, int]
    ) -> None:
        open_names = self.free
        unknown = sorted(set(task_losses) - set(open_names))
        if unknown:
            raise ConfigError(
                f"Losses were given for {unknown!r}; the widths that have a probe are "
                f"{open_names!r}."
            )
        for name in task_losses:
            scale = scales.get(name)
            if scale is None or isinstance(scale, bool) or scale < 1:
                raise ConfigError(
                    f"scale {scale!r} must be at least 1: the steps since the last call."
                )
        for name, loss in {"live": live_loss, **task_losses}.items():
            if not math.isfinite(loss):
                raise StageFailed(
                    "train/adaqat",
                    f"the {name!r} loss is {loss!r} at widths {self.bits!r}; training diverged: "
                    "lower train.lr",
                )

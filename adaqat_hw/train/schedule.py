"""The schedule of one training in steps: learning rate, warm-up and freeze of the widths."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import AdaqatConfig, TrainConfig


@dataclass(frozen=True)
class Schedule:
    """Step counts of one training; a step is one optimizer update.

    ``warmup_steps`` steps pass before widths may move; from ``freeze_step`` on they are frozen.
    The learning rate rises over ``lr_warmup_steps`` steps. Where ``restart_step`` is above 0 it
    has fallen to 0 there, and falls again from ``restart_lr``.
    """

    epochs: int
    steps_per_epoch: int
    lr: float
    warmup_steps: int = 0
    freeze_step: int = 0
    lr_warmup_steps: int = 0
    restart_step: int = 0
    restart_lr: float = 0.0

    @property
    def steps(self) -> int:
        """Return the number of steps of the whole training."""
        return self.epochs * self.steps_per_epoch

    def lr_at(self, step: int) -> float:
        """Return the learning rate of step ``step`` (from 0).

        It rises linearly to ``lr``, reached at the last warm-up step, then falls to 0 as half a
        cosine over the steps that are left, or over those up to the restart, and from there again.
        """
        rise, restart = self.lr_warmup_steps, self.restart_step
        if step < rise:
            return self.lr * (step + 1) / rise
        if restart and step >= restart:
            return _half_cosine(self.restart_lr, step - restart, self.steps - restart)
        return _half_cosine(self.lr, step - rise, (restart or self.steps) - rise)

    def widths_may_move(self, step: int) -> bool:
        """Tell whether step ``step`` (from 0) lies between warm-up and freeze."""
        return self.warmup_steps <= step < self.freeze_step

    def learned_fraction(self, step: int) -> float:
        """Return how far step ``step`` lies between warm-up and freeze, from 0 to 1."""
        span = self.freeze_step - self.warmup_steps
        return min(1.0, max(0.0, (step - self.warmup_steps) / span)) if span > 0 else 1.0


def _half_cosine(top: float, step: int, steps: int) -> float:
    return 0.5 * top * (1.0 + math.cos(math.pi * step / steps))


def make_schedule(train: TrainConfig, samples: int, adaqat: AdaqatConfig | None = None) -> Schedule:
    """Return the schedule for ``samples`` training samples; ``adaqat`` when widths are learned.

    A last, smaller batch is left out (batch norm would be noisy on it), unless it is the only
    one.

    Raises:
        ConfigError: fewer than two samples, or a warm-up that leaves no step for the widths or
            lasts as long as the training.
    """
    if samples < 2:
        raise ConfigError(
            f"The training set has {samples!r} samples; batch norm needs at least 2: raise "
            "data.limit_train."
        )
    per_epoch = max(1, samples // train.batch_size)
    steps = train.epochs * per_epoch
    rise = round(train.lr_warmup_epochs * per_epoch)
    if rise >= steps:
        raise ConfigError(
            f"train.lr_warmup_epochs = {train.lr_warmup_epochs!r} takes all of {train.epochs} "
            "epochs; lower it or raise train.epochs."
        )
    restart = 0 if train.restart_at is None else max(1, round(train.restart_at * steps))
    if restart >= steps:
        raise ConfigError(
            f"train.restart_at = {train.restart_at!r} leaves no step of {steps} behind it; lower "
            "it or raise train.epochs."
        )
    if restart and rise >= restart:
        raise ConfigError(
            f"train.lr_warmup_epochs = {train.lr_warmup_epochs!r} lasts until train.restart_at = "
            f"{train.restart_at!r} of {train.epochs} epochs; lower lr_warmup_epochs or raise "
            "restart_at."
        )
    schedule = Schedule(
        train.epochs,
        per_epoch,
        train.lr,
        lr_warmup_steps=rise,
        restart_step=restart,
        restart_lr=train.restart_lr or 0.0,
    )
    if adaqat is None:
        return schedule
    warmup = adaqat.warmup_epochs * per_epoch
    freeze = math.ceil(adaqat.freeze.at * steps)
    if warmup >= freeze:
        raise ConfigError(
            f"adaqat.warmup_epochs = {adaqat.warmup_epochs!r} lasts until adaqat.freeze.at = "
            f"{adaqat.freeze.at!r} of {train.epochs} epochs, so no bit-width could ever move; "
            "lower warmup_epochs, or raise freeze.at or train.epochs."
        )
    return replace(schedule, warmup_steps=warmup, freeze_step=freeze)

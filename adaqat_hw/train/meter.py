"""Mean training loss of an epoch, kept on the device; raises when the loss is not finite."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from adaqat_hw.errors import StageFailed

_GPU_CHECK_EVERY = 50


def check_every(device: torch.device) -> int:
    """Return every how many steps a loss is looked at: reading one makes a GPU wait."""
    return 1 if device.type == "cpu" else _GPU_CHECK_EVERY


class LossMeter:
    """Sum the losses of an epoch in float64.

    Args:
        stage: name for errors, such as ``"train/learned"``.
        base_lr: ``train.lr``, which the error names.
        every: losses between two checks that the sum is finite.
    """

    def __init__(self, stage: str, base_lr: float, every: int) -> None:
        self._stage = stage
        self._base_lr = base_lr
        self._every = every
        self.reset()

    def reset(self) -> None:
        """Begin an epoch."""
        self._total: Tensor | None = None
        self._count = 0

    def add(self, loss: Tensor, step: int, lr: float) -> None:
        """Add the loss (scalar) of step ``step``, done at learning rate ``lr``.

        Raises:
            StageFailed: a loss since the last check is not finite.
        """
        value = loss.detach().double()
        self._total = value if self._total is None else self._total + value
        self._count += 1
        if self._count % self._every == 0:
            self.check(step, lr)

    def check(self, step: int, lr: float) -> None:
        """Raise StageFailed when a loss of this epoch, up to step ``step``, is not finite."""
        total = 0.0 if self._total is None else float(self._total)
        if not math.isfinite(total):
            raise StageFailed(
                self._stage,
                f"the loss became {total!r} at {self._where(step)} with learning rate {lr:.4g}: "
                f"lower train.lr (now {self._base_lr!r})",
            )

    def mean(self) -> Tensor:
        """Return the mean loss (float64 scalar on the device) of the steps so far."""
        if self._total is None:
            return torch.zeros((), dtype=torch.float64)
        return self._total / self._count

    def _where(self, step: int) -> str:
        return f"step {step}" if self._every == 1 else f"step {step} or up to {self._every} before"

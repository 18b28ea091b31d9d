"""DataSource: the protocol of a data set for training and export."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from adaqat_hw.errors import ConfigError


class DataSource(Protocol):
    """A train and a test split that yield batches, from memory or from files.

    ``name`` is what to print beside an accuracy, ``layout`` the kind of files found,
    ``input_shape`` the shape of one sample, ``largest_input`` the largest absolute training
    input (what an input quantizer's range must reach), or None where inputs are integers or were
    not all read. ``vocabulary`` is one more than the largest integer input can be, or None where
    inputs are no integers. Labels are int64 from 0 to ``num_classes`` - 1, or, with
    ``num_classes`` None, targets (n, ...) of any kind.
    """

    @property
    def name(self) -> str: ...
    @property
    def layout(self) -> str: ...
    @property
    def num_classes(self) -> int | None: ...
    @property
    def input_shape(self) -> tuple[int, ...]: ...
    @property
    def vocabulary(self) -> int | None: ...
    @property
    def train_size(self) -> int: ...
    @property
    def test_size(self) -> int: ...
    @property
    def largest_input(self) -> float | None: ...

    def train_batches(
        self,
        batch_size: int,
        steps: int,
        generator: torch.Generator,
        *,
        rank: int = 0,
        world: int = 1,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one epoch of ``steps`` augmented training batches (x, y), shuffled.

        ``generator`` (on the CPU) decides order and augmentation. With ``world`` > 1 every rank
        draws the same batches from an equal generator and yields its own part of each,
        ``batch_size // world`` samples. A training set smaller than one batch is one batch.

        Raises:
            ConfigError: the processes cannot share a batch evenly.
        """
        ...

    def calibration_batches(self, batch_size: int, count: int) -> Iterator[Tensor]:
        """Yield up to ``count`` whole training batches x, the same each time, not augmented."""
        ...

    def test_batches(
        self, batch_size: int, limit: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the test split (x, y) in its order, or its first ``limit`` samples."""
        ...

    def to(self, device: torch.device | str) -> DataSource:
        """Return the same data set with its batches on ``device``."""
        ...


def share_of_rank(samples: int, batch_size: int, rank: int, world: int) -> slice:
    """Return which part of each batch belongs to ``rank`` of ``world`` processes.

    Raises:
        ConfigError: the batch cannot be shared evenly.
    """
    if world == 1:
        return slice(None)
    if batch_size % world:
        raise ConfigError(
            f"train.batch_size = {batch_size!r} cannot be shared evenly by {world} processes; "
            f"choose a multiple of {world}."
        )
    if samples < batch_size:
        raise ConfigError(
            f"The training set has {samples!r} samples, fewer than one batch of {batch_size!r}, "
            f"which {world} processes cannot share; lower train.batch_size to at most "
            f"{samples // world * world} or raise data.limit_train."
        )
    local = batch_size // world
    return slice(rank * local, (rank + 1) * local)

"""Dataset: train and test split of a data set as tensors in memory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from adaqat_hw.data._source import share_of_rank
from adaqat_hw.errors import ConfigError

Augmenter = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Dataset:
    """Samples and labels in memory; a `DataSource`.

    ``train_x`` and ``test_x`` are (n, *input_shape), float32 or, for tokens, int64; ``train_y``
    and ``test_y`` (n,) int64 from 0 to ``num_classes`` - 1, or targets (n, ...) of any kind where
    ``num_classes`` is None. ``augmenter`` maps a training batch
    and a generator to a changed batch of the same shape; None leaves batches as they are.
    """

    name: str
    layout: str
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    num_classes: int | None
    input_shape: tuple[int, ...]
    augmenter: Augmenter | None = None
    vocabulary: int | None = None

    @property
    def train_size(self) -> int:
        """Number of training samples."""
        return len(self.train_x)

    @property
    def test_size(self) -> int:
        """Number of test samples."""
        return len(self.test_x)

    @property
    def largest_input(self) -> float | None:
        """Largest absolute training input, None for integers."""
        return float(self.train_x.abs().max()) if self.train_x.is_floating_point() else None

    def train_batches(
        self,
        batch_size: int,
        steps: int,
        generator: torch.Generator,
        *,
        rank: int = 0,
        world: int = 1,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one epoch: `DataSource.train_batches`.

        Draws the order of the whole split first, then the augmentation of each batch.
        """
        mine = share_of_rank(self.train_size, batch_size, rank, world)
        order = torch.randperm(self.train_size, generator=generator).to(self.train_x.device)
        for step in range(steps):
            rows = order[step * batch_size : (step + 1) * batch_size]
            if self.augmenter is None:
                yield self.train_x[rows[mine]], self.train_y[rows[mine]]
            else:
                batch = self.augmenter(self.train_x[rows], generator)
                yield batch[mine], self.train_y[rows[mine]]

    def calibration_batches(self, batch_size: int, count: int) -> Iterator[Tensor]:
        """Yield training batches: `DataSource.calibration_batches`.

        In stored order, unless that is class by class: statistics of one class are no statistics.
        Targets that are no classes do not tell, and are shuffled.
        """
        order = None
        if self.num_classes is None or bool((self.train_y.diff() >= 0).all()):
            fixed = torch.Generator().manual_seed(0)
            order = torch.randperm(self.train_size, generator=fixed).to(self.train_x.device)
        for index in range(min(count, max(1, self.train_size // batch_size))):
            rows = slice(index * batch_size, (index + 1) * batch_size)
            yield self.train_x[rows if order is None else order[rows]]

    def test_batches(
        self, batch_size: int, limit: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the test split: `DataSource.test_batches`."""
        end = self.test_size if limit is None else min(limit, self.test_size)
        for start in range(0, end, batch_size):
            rows = slice(start, min(start + batch_size, end))
            yield self.test_x[rows], self.test_y[rows]

    def to(self, device: torch.device | str) -> Dataset:
        """Return the data set with its tensors on ``device``; batches are augmented there."""
        return dataclasses.replace(
            self,
            train_x=self.train_x.to(device),
            train_y=self.train_y.to(device),
            test_x=self.test_x.to(device),
            test_y=self.test_y.to(device),
        )

    def reshaped(self, input_shape: tuple[int, ...]) -> Dataset:
        """Return the data set with each sample as ``input_shape``, such as (64,) for digits.

        Raises:
            ConfigError: another number of elements, or an augmenter, which needs images.
        """
        if input_shape == self.input_shape:
            return self
        if math.prod(input_shape) != math.prod(self.input_shape):
            raise ConfigError(
                f"{self.name} has samples of shape {self.input_shape!r}, which do not fit an "
                f"input of shape {input_shape!r}; give the network's input_shape option as many "
                "elements or choose another data set."
            )
        if self.augmenter is not None:
            raise ConfigError(
                f"{self.name} is augmented as images of shape {self.input_shape!r} and cannot be "
                f"reshaped to {input_shape!r}; set augment = false."
            )
        return dataclasses.replace(
            self,
            train_x=self.train_x.reshape(-1, *input_shape),
            test_x=self.test_x.reshape(-1, *input_shape),
            input_shape=input_shape,
        )

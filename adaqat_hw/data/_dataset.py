"""Dataset: train and test split of a data set as tensors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from adaqat_hw.errors import ConfigError

Augmenter = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Dataset:
    """Images and labels.

    ``name`` is what to print beside an accuracy, ``layout`` the kind of files found.
    ``train_x`` and ``test_x`` are (n, channels, height, width) float32, ``train_y`` and
    ``test_y`` (n,) int64 from 0 to ``num_classes`` - 1. ``augmenter`` maps a training batch
    and a generator to a changed batch of the same shape; None leaves batches as they are.
    """

    name: str
    layout: str
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    num_classes: int
    input_shape: tuple[int, ...]
    augmenter: Augmenter | None = None

    @property
    def largest_input(self) -> float:
        """Largest absolute training input: what an input quantizer's range must reach."""
        return float(self.train_x.abs().max())

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

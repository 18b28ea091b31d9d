"""StreamedImages: batches of image files that are decoded as they are needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from adaqat_hw.data._image_files import ImageFiles, read_image
from adaqat_hw.data._source import share_of_rank
from adaqat_hw.errors import ConfigError, StageFailed

MEAN = (0.485, 0.456, 0.406)
"""Channel means of ImageNet's training images in [0, 1]."""
STD = (0.229, 0.224, 0.225)
"""Channel standard deviations of ImageNet's training images in [0, 1]."""

_Rows = tuple[list[int], list[int] | None]
"""The files of a batch, and the augmentation seed of each where it is augmented."""


@dataclass(frozen=True)
class StreamedImages:
    """Image files as a `DataSource`; a batch is (n, 3, size, size) float32.

    Each channel, in [0, 1], is shifted by MEAN and divided by STD. ``workers`` processes decode
    (0: this one); they receive file numbers and seeds, so batches are the same for every number
    of workers, and no process decodes another rank's images.
    """

    name: str
    layout: str
    train: ImageFiles
    test: ImageFiles
    num_classes: int
    size: int
    augment: bool
    workers: int
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    vocabulary: None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image: (3, size, size)."""
        return (3, self.size, self.size)

    @property
    def train_size(self) -> int:
        """Number of training images."""
        return len(self.train)

    @property
    def test_size(self) -> int:
        """Number of test images."""
        return len(self.test)

    @property
    def largest_input(self) -> None:
        """None: the images were not read."""
        return None

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

        Draws the order of the whole split first, then one seed per image.

        Raises:
            ConfigError: an image is damaged, naming it, or the batches cannot be shared.
            StageFailed: a worker process ended.
        """
        mine = share_of_rank(self.train_size, batch_size, rank, world)
        order = torch.randperm(self.train_size, generator=generator)
        seeds = torch.randint(2**62, (self.train_size,), generator=generator)
        batches: list[_Rows] = []
        for step in range(steps):
            rows = slice(step * batch_size, (step + 1) * batch_size)
            drawn = seeds[rows][mine].tolist() if self.augment else None
            batches.append((order[rows][mine].tolist(), drawn))
        return self._load(self.train, batches)

    def calibration_batches(self, batch_size: int, count: int) -> Iterator[Tensor]:
        """Yield training batches: `DataSource.calibration_batches`, in a fixed shuffled order."""
        order = np.random.default_rng(0).permutation(self.train_size).tolist()
        last = min(count, max(1, self.train_size // batch_size))
        batches = [(order[i * batch_size : (i + 1) * batch_size], None) for i in range(last)]
        return (x for x, _ in self._load(self.train, batches))

    def test_batches(
        self, batch_size: int, limit: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the test split: `DataSource.test_batches`."""
        end = self.test_size if limit is None else min(limit, self.test_size)
        starts = range(0, end, batch_size)
        return self._load(
            self.test, [(list(range(s, min(s + batch_size, end))), None) for s in starts]
        )

    def to(self, device: torch.device | str) -> StreamedImages:
        """Return the data set with its batches on ``device``; they arrive there as bytes."""
        return dataclasses.replace(self, device=torch.device(device))

    def _load(self, files: ImageFiles, batches: Sequence[_Rows]) -> Iterator[tuple[Tensor, Tensor]]:
        loader: DataLoader[Any] = DataLoader(
            _Decoder(files, self.size),
            batch_size=None,
            sampler=batches,
            num_workers=min(self.workers, len(batches)),
            pin_memory=self.device.type == "cuda",
            # A generator of its own, as the loader would else draw from the global one.
            generator=torch.Generator(),
        )
        shape = (1, 3, 1, 1)
        mean = torch.tensor(MEAN, device=self.device).view(shape) * 255
        std = torch.tensor(STD, device=self.device).view(shape) * 255
        arriving = iter(loader)
        while True:
            try:
                batch = next(arriving)
            except StopIteration:
                return
            except RuntimeError as exc:
                raise StageFailed(
                    "data",
                    f"a process that reads images ended ({exc}); lower data.workers or give the "
                    "machine more (shared) memory.",
                ) from exc
            if isinstance(batch, str):
                raise ConfigError(batch)
            pixels, labels = (part.to(self.device, non_blocking=True) for part in batch)
            yield pixels.to(torch.float32).sub_(mean).div_(std), labels


class _Decoder(TorchDataset[Any]):
    """Decode the images of one batch at a time."""

    def __init__(self, files: ImageFiles, size: int) -> None:
        self._files = files
        self._size = size

    def __getitem__(self, rows: _Rows) -> tuple[Tensor, Tensor] | str:
        """Return pixels (n, 3, size, size) and labels (n,), or the sentence of an error.

        An exception would reach the user as the worker's traceback.
        """
        indices, seeds = rows
        pixels = np.empty((len(indices), 3, self._size, self._size), dtype=np.uint8)
        try:
            for place, index in enumerate(indices):
                seed = seeds[place] if seeds is not None else None
                pixels[place] = read_image(self._files.path(index), self._size, seed)
        except ConfigError as exc:
            return str(exc)
        return torch.from_numpy(pixels), torch.from_numpy(self._files.labels[indices])

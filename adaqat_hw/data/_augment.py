"""Augmentation of image batches as tensors, reproducible through a generator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class CropAndFlip:
    """Shift each image by up to ``padding`` pixels (zeros move in) and mirror half of them.

    The usual CIFAR augmentation (arXiv 1512.03385, section 4.2): pad by 4, crop the original
    size at random, flip horizontally at random. On normalised images zero is the mean colour.
    """

    padding: int = 4

    def __call__(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return a new (n, C, H, W) batch on the same device; ``generator`` decides.

        What a generator on the CPU draws goes to a GPU in one transfer that nothing waits for.
        """
        count, _, height, width = batch.shape
        place = generator.device
        steps = 2 * self.padding + 1
        shift = torch.randint(steps, (2, count, 1), generator=generator, device=place)
        flip = torch.randint(2, (1, count, 1), generator=generator, device=place)
        draws = torch.cat([shift, flip])
        if batch.is_cuda and not draws.is_cuda:
            draws = draws.pin_memory()
        down, right, mirrored = draws.to(batch.device, non_blocking=True)
        across = torch.arange(width, device=batch.device)
        rows = down + torch.arange(height, device=batch.device)
        columns = right + torch.where(mirrored.bool(), across.flip(0), across)
        padded = F.pad(batch, (self.padding,) * 4).permute(0, 2, 3, 1)
        index = torch.arange(count, device=batch.device)[:, None, None]
        picked = padded[index, rows[:, :, None], columns[:, None, :]]
        return picked.permute(0, 3, 1, 2).contiguous()

"""Mini-batches of data that lies in memory, and top-1 accuracy on a split."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

Augmenter = Callable[[Tensor, torch.Generator], Tensor]


def epoch_batches(
    x: Tensor,
    y: Tensor,
    batch_size: int,
    steps: int,
    generator: torch.Generator,
    augment: Augmenter | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield ``steps`` batches in an order drawn from ``generator``.

    Args:
        x: (n, C, H, W) float32.
        y: (n,) int64.
        augment: applied to each batch, drawing from the same generator.
    """
    order = torch.randperm(len(x), generator=generator)
    for step in range(steps):
        rows = order[step * batch_size : (step + 1) * batch_size]
        batch = x[rows]
        yield (augment(batch, generator) if augment is not None else batch), y[rows]


def ordered_batches(x: Tensor, batch_size: int, count: int) -> Iterator[Tensor]:
    """Yield up to ``count`` whole batches of ``x`` from its start, without augmentation."""
    last = max(1, len(x) // batch_size)
    for index in range(min(count, last)):
        yield x[index * batch_size : (index + 1) * batch_size]


@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor, y: Tensor, batch_size: int) -> float:
    """Return the top-1 accuracy as a fraction; the network's train/eval mode is restored."""
    training = net.training
    net.eval()
    correct = 0
    for start in range(0, len(x), batch_size):
        logits = net(x[start : start + batch_size])
        correct += int((logits.argmax(dim=1) == y[start : start + batch_size]).sum())
    net.train(training)
    return correct / len(x)

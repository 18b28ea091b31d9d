"""Accuracy of a network on batches of a split."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adaqat_hw.quant import tensor_float32

_TOP = 5


@dataclass(frozen=True)
class Measured:
    """What was measured on a split; None: not measured.

    Fractions of it are ``top1``, and ``top5`` where there are more than ten classes. With a loss of
    one's own there are the means of ``loss`` and, where there is a metric, ``metric`` in their
    place.
    """

    top1: float | None
    top5: float | None
    samples: int
    loss: float | None = None
    metric: float | None = None


@torch.no_grad()
@tensor_float32(allowed=False)
def accuracy(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Measured:
    """Measure the accuracy over ``batches`` in float32; the network's train/eval mode is restored.

    Counts stay on the device until the end.

    Args:
        net: switched to evaluation for a while.
        batches: inputs (n, ...) and labels (n,).

    Raises:
        ValueError: there is no batch.
    """
    training, samples = net.training, 0
    first = fifth = None
    net.eval()
    try:
        for x, y in batches:
            logits = net(x)
            hits = (logits.argmax(dim=1) == y).sum()
            first = hits if first is None else first + hits
            if logits.shape[1] > 2 * _TOP:
                among = (logits.topk(_TOP, dim=1).indices == y[:, None]).sum()
                fifth = among if fifth is None else fifth + among
            samples += len(y)
    finally:
        net.train(training)
    if first is None:
        raise ValueError("no batch to measure an accuracy on")
    top5 = None if fifth is None else int(fifth) / samples
    return Measured(int(first) / samples, top5, samples)

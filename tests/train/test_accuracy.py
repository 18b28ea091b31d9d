from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from adaqat_hw.train.accuracy import accuracy


def _batches(x: Tensor, y: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(size), y.split(size), strict=True))


def test_accuracy_counts_and_restores_the_mode() -> None:
    net = nn.Identity().train()
    x, y = torch.eye(4)[[0, 1, 2, 3, 3]], torch.tensor([0, 1, 2, 3, 0])
    reached = accuracy(net, _batches(x, y, 2))
    assert (reached.top1, reached.top5, reached.samples) == (0.8, None, 5)
    assert net.training


def test_top5_is_there_with_more_than_ten_classes() -> None:
    logits = torch.arange(11.0).repeat(3, 1)
    reached = accuracy(nn.Identity(), _batches(logits, torch.tensor([10, 6, 5]), 2))
    assert (reached.top1, reached.top5) == (1 / 3, 2 / 3)


def test_the_mode_is_restored_after_a_failure() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyboardInterrupt

    net = Broken().train()
    with pytest.raises(KeyboardInterrupt):
        accuracy(net, _batches(torch.zeros(2, 2), torch.zeros(2), 1))
    assert net.training


def test_no_batch_is_an_error() -> None:
    text = "no batch to measure an accuracy on"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        accuracy(nn.Identity(), [])

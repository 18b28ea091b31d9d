from __future__ import annotations

import torch
from torch import nn

from adaqat_hw.train.batches import accuracy, epoch_batches, ordered_batches


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_an_epoch_sees_every_sample_once_in_a_seeded_order() -> None:
    x, y = torch.arange(12).float().reshape(12, 1), torch.arange(12)
    epochs = [list(epoch_batches(x, y, 4, 3, _generator(s))) for s in (0, 0, 1)]
    rows = [torch.cat([labels for _, labels in e]).tolist() for e in epochs]
    assert sorted(rows[0]) == list(range(12))
    assert rows[0] == rows[1] != rows[2]
    assert all(torch.equal(bx[:, 0].long(), by) for bx, by in epochs[0])


def test_the_augmenter_draws_from_the_same_generator() -> None:
    x, y = torch.zeros(8, 1), torch.zeros(8, dtype=torch.int64)

    def noise(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return batch + torch.rand(batch.shape, generator=generator)

    first = [b for b, _ in epoch_batches(x, y, 4, 2, _generator(), noise)]
    again = [b for b, _ in epoch_batches(x, y, 4, 2, _generator(), noise)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])


def test_ordered_batches_stop_at_the_data_or_the_count() -> None:
    x = torch.arange(10)
    assert [b.tolist() for b in ordered_batches(x, 4, 20)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [len(b) for b in ordered_batches(x, 4, 1)] == [4]
    assert [len(b) for b in ordered_batches(x, 64, 20)] == [10]
    assert list(ordered_batches(x, 4, 0)) == []


def test_accuracy_counts_and_restores_the_mode() -> None:
    net = nn.Identity().train()
    x = torch.eye(4)[[0, 1, 2, 3, 3]]
    assert accuracy(net, x, torch.tensor([0, 1, 2, 3, 0]), 2) == 0.8
    assert net.training

import pytest
import torch

from adaqat_hw.data import CropAndFlip, Dataset
from adaqat_hw.errors import ConfigError
from tests.error_texts import raises_text


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=10, augmenter=None, **changed):
    """Images whose every pixel is the sample's number, three classes cyclically."""
    x = torch.arange(1.0, count + 1).reshape(-1, 1, 1, 1).expand(count, 1, 6, 6).contiguous()
    y = torch.arange(count) % 3
    parts = {"train_x": x, "train_y": y, "test_x": -x, "test_y": y, "num_classes": 3, **changed}
    shape = tuple(parts["train_x"].shape[1:])
    return Dataset("images", "made", input_shape=shape, augmenter=augmenter, **parts)


def test_an_epoch_is_one_permutation_and_then_one_augmentation_per_batch():
    found = images(10, CropAndFlip(2))
    batches = list(found.train_batches(4, 2, generator(3)))
    plain = generator(3)
    order = torch.randperm(10, generator=plain)
    for step, (x, y) in enumerate(batches):
        rows = order[4 * step : 4 * step + 4]
        assert torch.equal(x, CropAndFlip(2)(found.train_x[rows], plain))
        assert torch.equal(y, found.train_y[rows])
    assert len(batches) == 2
    again = generator(3)
    list(found.train_batches(4, 2, again))
    assert torch.equal(again.get_state(), plain.get_state())


def test_a_set_smaller_than_a_batch_is_one_batch():
    ((x, y),) = images(3).train_batches(8, 1, generator())
    assert (len(x), sorted(y.tolist())) == (3, [0, 1, 2])


def test_ranks_share_what_one_process_would_see():
    found = images(13, CropAndFlip(2))
    whole = list(found.train_batches(6, 2, generator(1)))
    ranks = [list(found.train_batches(6, 2, generator(1), rank=r, world=3)) for r in range(3)]
    for step, (x, y) in enumerate(whole):
        assert [len(rank[step][0]) for rank in ranks] == [2, 2, 2]
        assert torch.equal(torch.cat([rank[step][0] for rank in ranks]), x)
        assert torch.equal(torch.cat([rank[step][1] for rank in ranks]), y)


def test_batches_that_processes_cannot_share_are_refused():
    with raises_text(
        ConfigError,
        "train.batch_size = 8 cannot be shared evenly by 3 processes; choose a multiple of 3.",
    ):
        next(images().train_batches(8, 1, generator(), rank=0, world=3))
    with raises_text(
        ConfigError,
        "The training set has 10 samples, fewer than one batch of 16, which 4 processes "
        "cannot share; lower train.batch_size to at most 8 or raise data.limit_train.",
    ):
        next(images().train_batches(16, 1, generator(), rank=0, world=4))


def test_calibration_batches_are_whole_fixed_and_not_augmented():
    found = images(10, CropAndFlip(2))
    assert [b[:, 0, 0, 0].tolist() for b in found.calibration_batches(4, 20)] == [
        [1, 2, 3, 4],
        [5, 6, 7, 8],
    ]
    assert [len(b) for b in found.calibration_batches(4, 1)] == [4]
    assert [len(b) for b in found.calibration_batches(64, 20)] == [10]
    assert list(found.calibration_batches(4, 0)) == []


def test_calibration_of_a_set_stored_by_class_sees_all_classes():
    found = images(300, train_y=torch.arange(300) // 100)
    first, again = (next(found.calibration_batches(60, 1))[:, 0, 0, 0].long() for _ in range(2))
    assert torch.equal(first, again)
    assert len(set(first.tolist())) == 60
    assert (((first - 1) // 100).bincount() >= 10).all()


def test_test_batches_are_in_order_and_limited():
    found = images(10)
    xs, ys = zip(*found.test_batches(4), strict=True)
    assert torch.equal(torch.cat(xs), found.test_x)
    assert torch.equal(torch.cat(ys), found.test_y)
    assert [len(x) for x in xs] == [4, 4, 2]
    assert [len(x) for x, _ in found.test_batches(4, 6)] == [4, 2]
    assert [len(x) for x, _ in found.test_batches(4, 99)] == [4, 4, 2]


def test_sizes_and_what_an_input_quantizer_must_reach():
    found = images(10, test_x=torch.zeros(4, 1, 6, 6), test_y=torch.zeros(4, dtype=torch.int64))
    assert (found.train_size, found.test_size, found.largest_input) == (10, 4, 10.0)
    tokens = images(train_x=torch.ones(10, 5, dtype=torch.int64))
    assert tokens.largest_input is None
    assert next(tokens.train_batches(2, 1, generator()))[0].dtype == torch.int64


def test_to_moves_every_tensor():
    moved = images(4, CropAndFlip(1)).to("meta")
    tensors = (moved.train_x, moved.train_y, moved.test_x, moved.test_y)
    assert {t.device.type for t in tensors} == {"meta"}
    assert moved.augmenter == CropAndFlip(1)


@pytest.mark.parametrize("targets", [torch.rand(300), torch.rand(300, 2), torch.zeros(300, 4, 4)])
def test_calibration_of_targets_that_are_no_classes_is_shuffled(targets):
    found = images(300, train_y=targets, num_classes=None)
    first, again = (next(found.calibration_batches(60, 1))[:, 0, 0, 0] for _ in range(2))
    assert torch.equal(first, again)
    assert first.tolist() != sorted(first.tolist())

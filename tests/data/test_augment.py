import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaqat_hw.data import CropAndFlip
from adaqat_hw.data._subset import balanced_subset


def generator(seed):
    return torch.Generator().manual_seed(seed)


def every_variant(image, padding):
    """All shifts and mirrors of one (C, H, W) image, written out plainly."""
    _, height, width = image.shape
    padded = torch.zeros(image.shape[0], height + 2 * padding, width + 2 * padding)
    padded[:, padding : padding + height, padding : padding + width] = image
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = padded[:, top : top + height, left : left + width]
            yield crop
            yield crop.flip(2)


@given(seed=st.integers(0, 2**31), padding=st.integers(0, 2), height=st.integers(1, 5))
def test_each_image_becomes_one_of_its_own_shifted_and_mirrored_copies(seed, padding, height):
    batch = torch.rand(3, 2, height, 4, generator=generator(seed)) + 1
    changed = CropAndFlip(padding)(batch, generator(seed))
    assert changed.shape == batch.shape
    for before, after in zip(batch, changed, strict=True):
        assert any(torch.equal(after, variant) for variant in every_variant(before, padding))


def test_every_variant_occurs_about_equally_often():
    image = torch.arange(1.0, 5.0).reshape(1, 2, 2)
    variants = [v.numpy().tobytes() for v in every_variant(image, 1)]
    changed = CropAndFlip(1)(image.expand(3600, 1, 2, 2), generator(0))
    found = [x.numpy().tobytes() for x in changed]
    assert len(set(variants)) == 18
    for variant in variants:
        assert 120 <= found.count(variant) <= 290


def test_the_generator_alone_decides():
    batch = torch.rand(16, 3, 8, 8, generator=generator(1))
    torch.manual_seed(0)
    first = CropAndFlip()(batch, generator(7))
    torch.manual_seed(1)
    assert torch.equal(first, CropAndFlip()(batch, generator(7)))
    assert not torch.equal(first, CropAndFlip()(batch, generator(8)))


def test_the_batch_itself_is_left_alone():
    batch = torch.rand(4, 3, 8, 8, generator=generator(1))
    before = batch.clone()
    CropAndFlip()(batch, generator(0)).zero_()
    assert torch.equal(batch, before)


@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    limit=st.integers(1, 70),
    seed=st.integers(0, 1000),
)
def test_subsets_are_as_balanced_as_the_classes_allow(labels, limit, seed):
    array = np.array(labels, dtype=np.int64)
    chosen = balanced_subset(array, limit, seed)
    assert len(chosen) == min(limit, len(labels))
    assert len(set(chosen.tolist())) == len(chosen)
    assert chosen.tolist() == sorted(chosen.tolist())
    have = np.bincount(array, minlength=4)
    got = np.bincount(array[chosen], minlength=4)
    for a in range(4):
        for b in range(4):
            if got[a] < have[a]:
                assert got[b] <= got[a] + 1


def test_no_limit_keeps_every_sample_in_order():
    labels = np.array([2, 1, 0], dtype=np.int64)
    assert balanced_subset(labels, None, 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize("seed", [0, 1])
def test_subsets_are_reproducible(seed):
    labels = np.arange(100, dtype=np.int64) % 10
    assert (balanced_subset(labels, 30, seed) == balanced_subset(labels, 30, seed)).all()
    assert (balanced_subset(labels, 30, seed) != balanced_subset(labels, 30, seed + 5)).any()

import pytest
import torch

from adaqat_hw import data
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import DataConfig
from tests.error_texts import raises_text


def load(seed=0, **options):
    return data.load(DataConfig(name="digits", **options), seed)


def test_shapes_types_and_range():
    found = load()
    assert found.train_x.shape == (1437, 1, 8, 8)
    assert found.test_x.shape == (360, 1, 8, 8)
    assert found.train_x.dtype == found.test_x.dtype == torch.float32
    assert found.train_y.dtype == found.test_y.dtype == torch.int64
    assert (found.input_shape, found.num_classes) == ((1, 8, 8), 10)
    assert found.augmenter is None
    assert found.layout == "bundled with scikit-learn"
    both = torch.cat([found.train_x, found.test_x])
    assert (both.min(), both.max()) == (0.0, 1.0)
    assert torch.equal(both * 16, (both * 16).round())
    assert found.largest_input == 1.0


def test_split_is_stratified_disjoint_and_the_same_for_every_seed():
    found, again = load(seed=0), load(seed=5)
    assert torch.equal(found.test_x, again.test_x)
    assert torch.equal(found.train_x, again.train_x)
    share = found.test_y.bincount() / (found.test_y.bincount() + found.train_y.bincount())
    assert (share - 0.2).abs().max() < 0.01
    train = {x.numpy().tobytes() for x in found.train_x}
    assert not any(x.numpy().tobytes() in train for x in found.test_x)


def test_limits_keep_balanced_parts_of_their_own_split():
    whole, part = load(), load(limit_train=100, limit_test=50)
    assert part.train_y.bincount().tolist() == [10] * 10
    assert part.test_y.bincount().tolist() == [5] * 10
    rows = {x.numpy().tobytes() for x in whole.train_x}
    assert all(x.numpy().tobytes() in rows for x in part.train_x)


def test_seed_changes_the_training_part_only():
    one, other = (load(seed=s, limit_train=100, limit_test=50) for s in (0, 1))
    assert not torch.equal(one.train_x, other.train_x)
    assert torch.equal(one.test_x, other.test_x)
    assert torch.equal(one.train_x, load(seed=0, limit_train=100).train_x)


def test_a_limit_above_the_size_keeps_everything():
    assert len(load(limit_train=10_000).train_x) == 1437


def test_reshaped_flattens_for_the_perceptron():
    found = load(limit_train=20)
    flat = found.reshaped((64,))
    assert flat.input_shape == (64,)
    assert torch.equal(flat.train_x, found.train_x.flatten(1))
    assert torch.equal(flat.test_x, found.test_x.flatten(1))
    assert found.reshaped((1, 8, 8)) is found
    with raises_text(
        ConfigError,
        "digits has samples of shape (1, 8, 8), which do not fit an input of shape (3, "
        "32, 32); give the network's input_shape option as many elements or choose "
        "another data set.",
    ):
        found.reshaped((3, 32, 32))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"path": "/x"},
            "The data set 'digits' is bundled with scikit-learn and takes no path, but path is "
            "'/x'; remove it.",
        ),
        (
            {"augment": True},
            "The data set 'digits' cannot be augmented by crops and flips, but augment is True; "
            "remove it or choose cifar10 or fashion-mnist.",
        ),
        (
            {"options": {"size": 4}},
            "data.options.size is unknown: the data set 'digits' takes no options.",
        ),
    ],
)
def test_what_digits_cannot_do_is_refused(options, text):
    with raises_text(ConfigError, text):
        load(**options)


def test_unknown_name_lists_the_sets():
    assert data.names() == (
        "cifar10",
        "digits",
        "fashion-mnist",
        "imagefolder",
        "japanese-vowels",
        "words",
    )
    with raises_text(
        ConfigError,
        "Unknown data set 'mnist'; choose one of cifar10, digits, fashion-mnist, "
        "imagefolder, japanese-vowels, words.",
    ):
        data.load(DataConfig(name="mnist"), 0)

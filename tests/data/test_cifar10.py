import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from adaqat_hw import data
from adaqat_hw.data._cifar_folders import CLASSES
from adaqat_hw.data.cifar10 import MEAN, STD
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import DataConfig
from tests.error_texts import raises_text

BATCHES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]


def colour(label):
    """A different flat colour for each class."""
    return np.array([25 * label, 255 - 25 * label, 128], dtype=np.uint8)


def image(label):
    return np.broadcast_to(colour(label)[:, None, None], (3, 32, 32))


def write_batches(root, count=20):
    root.mkdir(parents=True, exist_ok=True)
    for name in BATCHES:
        labels = [i % 10 for i in range(count)]
        pixels = np.stack([image(label).reshape(-1) for label in labels])
        body = {b"batch_label": b"x", b"labels": labels, b"data": pixels, b"filenames": [b"a.png"]}
        (root / name).write_bytes(pickle.dumps(body, protocol=2))
    return root


def write_folders(root, suffix="png", train=3, test=2):
    for split, count in (("train", train), ("test", test)):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                pixels = Image.fromarray(np.ascontiguousarray(image(label).transpose(1, 2, 0)))
                pixels.save(folder / f"{i:04}.{suffix}")
    return root


def load(path, seed=0, **options):
    return data.load(DataConfig(name="cifar10", path=str(path), **options), seed)


def expected(labels):
    pixels = torch.tensor(np.stack([colour(int(v)) for v in labels])).float() / 255
    return (pixels - torch.tensor(MEAN)) / torch.tensor(STD)


@pytest.mark.parametrize("inside", [True, False])
def test_official_archive_from_its_folder_or_the_one_above(tmp_path, inside):
    folder = write_batches(tmp_path / "cifar-10-batches-py")
    found = load(folder if inside else tmp_path)
    assert found.train_x.shape == (100, 3, 32, 32)
    assert found.test_x.shape == (20, 3, 32, 32)
    assert found.train_x.dtype == torch.float32
    assert found.train_y.dtype == torch.int64
    assert found.name == "CIFAR-10"
    assert found.layout == "cifar-10-batches-py (official archive)"
    assert (found.num_classes, found.input_shape) == (10, (3, 32, 32))
    assert torch.allclose(found.train_x[:, :, 5, 7], expected(found.train_y), atol=1e-6)
    assert found.augmenter is None


def test_python_2_pickles_of_the_original_archive_are_read(tmp_path):
    # Opcodes as Python 2's protocol 2 writes them: byte strings and numpy.core names.
    folder = write_batches(tmp_path)
    labels = list(range(10))
    pixels = np.stack([image(v).reshape(-1) for v in labels])

    def text(value):
        return b"U" + bytes([len(value)]) + value

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
        b"(K\x01K\x0aM\x00\x0c\x86cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R"
        b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"T" + len(pixels.tobytes()).to_bytes(4, "little") + pixels.tobytes() + b"tb"
    )
    listed = b"](" + b"".join(b"K" + bytes([v]) for v in labels) + b"e"
    body = b"\x80\x02}(" + text(b"data") + array + text(b"labels") + listed + b"u."
    (folder / "test_batch").write_bytes(body)
    found = load(folder)
    assert found.test_y.tolist() == labels
    assert torch.allclose(found.test_x[:, :, 0, 0], expected(labels), atol=1e-6)


def test_jpeg_folders_say_so_in_the_name(tmp_path):
    found = load(write_folders(tmp_path, "jpg"))
    assert found.name == "CIFAR-10 (JPEG)"
    assert found.layout == "image folders, JPEG"
    assert found.train_x.shape == (30, 3, 32, 32)
    assert found.test_y.bincount().tolist() == [2] * 10
    assert torch.allclose(found.train_x[:, :, 9, 9], expected(found.train_y), atol=0.05)


def test_png_folders_agree_with_the_archive(tmp_path):
    folders = load(write_folders(tmp_path / "f", "png"))
    archive = load(write_batches(tmp_path / "b"))
    assert folders.name == "CIFAR-10"
    assert folders.layout == "image folders, PNG"
    for label in range(10):
        one = folders.train_x[folders.train_y == label][0]
        assert torch.equal(one, archive.train_x[archive.train_y == label][0])


def test_mixed_folders_count_as_jpeg(tmp_path):
    write_folders(tmp_path, "png")
    write_folders(tmp_path, "jpeg")
    found = load(tmp_path)
    assert (found.name, found.layout) == ("CIFAR-10 (JPEG)", "image folders, JPEG and PNG")


@pytest.mark.parametrize("write", [write_batches, write_folders])
def test_limits_are_balanced_and_the_test_part_fixed(tmp_path, write):
    write(tmp_path)
    one, other = (load(tmp_path, seed=s, limit_train=20, limit_test=10) for s in (0, 1))
    assert one.train_y.bincount().tolist() == [2] * 10
    assert one.test_y.bincount().tolist() == [1] * 10
    assert torch.equal(one.test_x, other.test_x)
    assert torch.allclose(one.train_x[:, :, 0, 0], expected(one.train_y), atol=1e-6)


def test_the_test_split_of_folders_mixes_the_classes(tmp_path):
    write_folders(tmp_path, test=4)
    found = load(tmp_path)
    assert len(set(found.test_y[:10].tolist())) >= 4
    assert torch.allclose(found.test_x[:, :, 0, 0], expected(found.test_y), atol=1e-6)
    assert torch.equal(found.test_y, load(tmp_path, seed=4).test_y)


def test_calibration_batches_of_folders_mix_the_classes(tmp_path):
    found = load(write_folders(tmp_path, train=6))
    assert found.train_y.tolist() == sorted(found.train_y.tolist())
    (batch,) = found.calibration_batches(20, 1)
    assert len(batch[:, :, 0, 0].unique(dim=0)) >= 5


def test_options_are_refused(tmp_path):
    with raises_text(
        ConfigError, "data.options.size is unknown: the data set 'cifar10' takes no options."
    ):
        load(tmp_path, options={"size": 32})


def test_normalisation_constants_are_applied_per_channel():
    from adaqat_hw.data.cifar10 import normalise

    white = normalise(np.full((1, 3, 32, 32), 255, dtype=np.uint8))
    for channel in range(3):
        assert white[0, channel, 0, 0].item() == pytest.approx(
            (1 - MEAN[channel]) / STD[channel], rel=1e-6
        )


def test_no_path_says_what_to_give():
    with raises_text(
        ConfigError,
        "The data set 'cifar10' needs data.path: the folder 'cifar-10-batches-py' of "
        "the official archive, or a folder with train/<class> and test/<class> images.",
    ):
        data.load(DataConfig(name="cifar10"), 0)


def test_missing_folder_is_named(tmp_path):
    with raises_text(
        ConfigError, f"CIFAR-10: data.path '{tmp_path}/gone' is not a folder; unpack the archive."
    ):
        load(tmp_path / "gone")


def test_other_folders_are_refused_with_what_was_found(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with raises_text(
        ConfigError,
        f"CIFAR-10: '{tmp_path}' holds ['notes.txt'], which is neither the official "
        "archive (data_batch_1 to 5 and test_batch) nor image folders (train/<class> "
        "and test/<class>).",
    ):
        load(tmp_path)


@pytest.mark.parametrize("name", BATCHES)
def test_each_missing_batch_is_named(tmp_path, name):
    (write_batches(tmp_path) / name).unlink()
    with raises_text(
        ConfigError, f"CIFAR-10: '{tmp_path}' lacks {name}; unpack the whole archive."
    ):
        load(tmp_path)


@pytest.mark.parametrize("keep", [0, 1, 50, 1000, 30_000, -1])
def test_truncated_batches_are_refused(tmp_path, keep):
    cause = "Ran out of input" if keep in (0, -1) else "pickle data was truncated"
    path = write_batches(tmp_path) / "data_batch_3"
    path.write_bytes(path.read_bytes()[:keep])
    with raises_text(
        ConfigError,
        f"'{path}' cannot be read ({cause}); it is truncated or damaged: unpack the archive again.",
    ):
        load(tmp_path)


class Calls:
    """Pickles to a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (lambda p: Calls(os.mkdir, str(p / "owned")), "'posix.mkdir'"),
        (
            lambda p: Calls(eval, f"__import__('os').mkdir({str(p / 'owned')!r})"),
            "'__builtin__.eval'",
        ),
        (lambda p: {b"data": Calls(np.fromfile, "/dev/null")}, "'numpy.fromfile'"),
        (lambda p: Calls(__import__("codecs").encode, "aa", "rot13"), "the text encoding 'rot13'"),
    ],
)
def test_pickles_that_call_anything_else_are_refused_and_not_run(tmp_path, body, name):
    folder = write_batches(tmp_path)
    (folder / "data_batch_1").write_bytes(pickle.dumps(body(tmp_path), protocol=2))
    with raises_text(
        ConfigError,
        f"'{folder}/data_batch_1' asks for {name}, which is no part of CIFAR-10; nothing of it "
        "was run: use the official archive.",
    ):
        load(folder)
    assert not (tmp_path / "owned").exists()


PIXELS = np.zeros((10, 3072), np.uint8)
NO_BATCH = (
    "is no CIFAR-10 batch: it must be a dictionary with an array 'data' and a list 'labels'; use "
    "the archive 'CIFAR-10 python version'."
)
OTHER_DATA = "has 'data' of shape {} and type {}; CIFAR-10 has (n, 3072) of uint8."
OTHER_LABELS = "has {} labels for {} images; CIFAR-10 has one integer from 0 to 9 for each."


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ([1, 2], NO_BATCH),
        ({b"data": PIXELS}, NO_BATCH),
        ({b"data": PIXELS, b"fine_labels": [0] * 10}, NO_BATCH),
        (
            {b"data": PIXELS.astype(np.float32), b"labels": [0] * 10},
            OTHER_DATA.format("(10, 3072)", "float32"),
        ),
        (
            {b"data": PIXELS[:, :3000], b"labels": [0] * 10},
            OTHER_DATA.format("(10, 3000)", "uint8"),
        ),
        ({b"data": PIXELS, b"labels": [0] * 9}, OTHER_LABELS.format(9, 10)),
        ({b"data": PIXELS, b"labels": [10] * 10}, OTHER_LABELS.format(10, 10)),
        ({b"data": PIXELS, b"labels": [0.5] * 10}, OTHER_LABELS.format(10, 10)),
        ({b"data": PIXELS[:0], b"labels": []}, OTHER_LABELS.format(0, 0)),
    ],
)
def test_batches_of_another_set_are_refused(tmp_path, body, text):
    folder = write_batches(tmp_path)
    (folder / "test_batch").write_bytes(pickle.dumps(body, protocol=4))
    with raises_text(ConfigError, f"'{folder}/test_batch' {text}"):
        load(folder)


def test_missing_split_is_named(tmp_path):
    write_folders(tmp_path)
    (tmp_path / "test").rename(tmp_path / "val")
    with raises_text(
        ConfigError,
        f"CIFAR-10: '{tmp_path}/test' does not exist; image folders need both "
        "train/<class> and test/<class>.",
    ):
        load(tmp_path)


def test_wrong_class_folders_are_named(tmp_path):
    write_folders(tmp_path)
    (tmp_path / "train" / "cat").rename(tmp_path / "train" / "kitten")
    with raises_text(
        ConfigError,
        f"CIFAR-10: '{tmp_path}/train' must hold one folder per class (airplane, "
        "automobile, bird, cat, deer, dog, frog, horse, ship, truck); missing are "
        "['cat'], unknown are ['kitten'].",
    ):
        load(tmp_path)


def test_empty_class_folder_is_named(tmp_path):
    write_folders(tmp_path)
    for path in (tmp_path / "train" / "dog").iterdir():
        path.unlink()
    with raises_text(
        ConfigError,
        f"CIFAR-10: '{tmp_path}/train/dog' holds no .jpg, .jpeg or .png file; unpack "
        "the archive again.",
    ):
        load(tmp_path)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_truncated_images_are_named(tmp_path, suffix, share):
    write_folders(tmp_path, suffix)
    path = tmp_path / "train" / "frog" / f"0001.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    body = path.read_bytes()
    path.write_bytes(body[: int(share * len(body))])
    # What is in brackets is Pillow's own text.
    with pytest.raises(
        ConfigError,
        match=rf"^The image '{path}' cannot be read \(.+\); it is truncated or damaged: unpack the "
        r"archive again\.$",
    ):
        load(tmp_path)


def test_images_of_another_size_are_named(tmp_path):
    write_folders(tmp_path)
    path = tmp_path / "test" / "ship" / "0000.png"
    Image.new("RGB", (64, 48)).save(path)
    with raises_text(
        ConfigError,
        f"The image '{tmp_path}/test/ship/0000.png' is 64x48 pixels; CIFAR-10 has 32x32.",
    ):
        load(tmp_path)


def test_only_the_chosen_images_are_read(tmp_path):
    write_folders(tmp_path, train=1, test=1)
    found = load(tmp_path, limit_train=5)
    assert len(found.train_x) == 5

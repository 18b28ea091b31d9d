import gzip
import struct

import numpy as np
import pytest
import torch

from adaqat_hw import data
from adaqat_hw.data import fashion_mnist
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import DataConfig
from tests.error_texts import raises_text

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
OTHER_IMAGES = "holds an array of shape {}; Fashion-MNIST has images of shape (n, 28, 28)."
OTHER_LABELS = (
    "holds labels of shape {} for 40 images; there must be one label per image: copy both files "
    "again."
)


def idx(array):
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim)
    return header + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture(params=["plain", "gz"])
def folder(request, tmp_path):
    """Forty training and twenty test images; pixel (0, 0) of an image is its label."""
    return make(tmp_path, request.param == "gz")


def make(root, packed):
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 40), ("t10k", 20)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        images[:, 0, 0] = labels
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            body = idx(array)
            name = f"{prefix}-{kind}-ubyte"
            if packed:
                (root / f"{name}.gz").write_bytes(gzip.compress(body, mtime=0))
            else:
                (root / name).write_bytes(body)
    return root


def no_idx(start):
    return f"begins with {start[:4]!r} and is no IDX file of unsigned bytes; copy it again."


def load(path, **options):
    return data.load(DataConfig(name="fashion-mnist", path=str(path), **options), 0)


def test_images_and_labels_stay_together(folder):
    found = load(folder)
    assert found.train_x.shape == (40, 1, 28, 28)
    assert found.test_x.shape == (20, 1, 28, 28)
    assert found.train_x.dtype == torch.float32
    assert found.train_y.dtype == torch.int64
    assert torch.equal((found.train_x[:, 0, 0, 0] * 255).round().long(), found.train_y)
    assert found.train_x.min() >= 0
    assert found.train_x.max() == 1.0
    packed = any(folder.glob("*.gz"))
    assert found.layout == ("IDX files, gzip" if packed else "IDX files")
    assert found.name == "Fashion-MNIST"


def test_limits_are_balanced(folder):
    found = load(folder, limit_train=20, limit_test=10)
    assert found.train_y.bincount().tolist() == [2] * 10
    assert found.test_y.bincount().tolist() == [1] * 10
    assert torch.equal((found.train_x[:, 0, 0, 0] * 255).round().long(), found.train_y)


def test_augment_gives_an_augmenter(folder):
    found = load(folder, augment=True)
    changed = found.augmenter(found.train_x, torch.Generator().manual_seed(0))
    assert changed.shape == found.train_x.shape
    assert not torch.equal(changed, found.train_x)
    with raises_text(
        ConfigError,
        "Fashion-MNIST is augmented as images of shape (1, 28, 28) and cannot be "
        "reshaped to (784,); set augment = false.",
    ):
        found.reshaped((784,))


def test_without_a_path_the_debian_folder_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", make(tmp_path, True))
    assert len(data.load(DataConfig(name="fashion-mnist"), 0).train_x) == 40


def test_missing_folder_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", tmp_path / "none")
    with raises_text(
        ConfigError,
        f"Fashion-MNIST: the folder '{tmp_path}/none' does not exist; install Debian's "
        "package dataset-fashion-mnist or set data.path to the folder with the four IDX "
        "files.",
    ):
        data.load(DataConfig(name="fashion-mnist"), 0)


@pytest.mark.parametrize("name", FILES)
def test_each_missing_file_is_named(tmp_path, name):
    make(tmp_path, False)
    (tmp_path / name).unlink()
    with raises_text(
        ConfigError,
        f"Fashion-MNIST: '{tmp_path}' has neither '{name}' nor '{name}.gz'; put the four IDX "
        "files there.",
    ):
        load(tmp_path)


@pytest.mark.parametrize("keep", [0, 3, 4, 7])
@pytest.mark.parametrize("name", FILES[:2])
def test_files_without_a_whole_header_are_refused(tmp_path, name, keep):
    path = make(tmp_path, False) / name
    start = path.read_bytes()[:keep]
    path.write_bytes(start)
    with raises_text(ConfigError, f"'{path}' {no_idx(start)}"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "keep", "shape", "size"),
    [
        (FILES[0], 9, (40, 0, 0), 16),
        (FILES[0], 15, (40, 28, 0), 16),
        (FILES[0], 16, (40, 28, 28), 31_376),
        (FILES[0], 17, (40, 28, 28), 31_376),
        (FILES[0], 31_375, (40, 28, 28), 31_376),
        (FILES[1], 9, (40,), 48),
        (FILES[1], 47, (40,), 48),
    ],
)
def test_truncated_files_are_refused(tmp_path, name, keep, shape, size):
    path = make(tmp_path, False) / name
    path.write_bytes(path.read_bytes()[:keep])
    with raises_text(
        ConfigError,
        f"'{path}' holds {keep} bytes where its header of shape {shape} asks for {size}; it is "
        "truncated or damaged: copy it again.",
    ):
        load(tmp_path)


def test_an_empty_gzip_file_is_refused(tmp_path):
    path = make(tmp_path, True) / f"{FILES[0]}.gz"
    path.write_bytes(b"")
    with raises_text(ConfigError, f"'{path}' {no_idx(b'')}"):
        load(tmp_path)


@pytest.mark.parametrize("keep", [5, 30, -9, -1])
def test_truncated_gzip_files_are_refused(tmp_path, keep):
    path = make(tmp_path, True) / f"{FILES[0]}.gz"
    path.write_bytes(path.read_bytes()[:keep])
    with raises_text(
        ConfigError,
        f"'{path}' cannot be read (Compressed file ended before the end-of-stream marker was "
        "reached); it is damaged or truncated: copy it again.",
    ):
        load(tmp_path)


def test_corrupt_gzip_data_is_refused(tmp_path):
    path = make(tmp_path, True) / f"{FILES[0]}.gz"
    body = bytearray(path.read_bytes())
    body[100:200] = bytes(100)
    path.write_bytes(bytes(body))
    with raises_text(
        ConfigError,
        f"'{tmp_path}/train-images-idx3-ubyte.gz' cannot be read (CRC check failed); it "
        "is damaged or truncated: copy it again.",
    ):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "array", "text"),
    [
        (FILES[0], np.zeros((40, 27, 28), np.uint8), OTHER_IMAGES.format("(40, 27, 28)")),
        (FILES[0], np.zeros((0, 28, 28), np.uint8), OTHER_IMAGES.format("(0, 28, 28)")),
        (FILES[1], np.zeros(39, np.uint8), OTHER_LABELS.format("(39,)")),
        (FILES[1], np.zeros(0, np.uint8), OTHER_LABELS.format("(0,)")),
        (FILES[1], np.full(40, 10, np.uint8), "holds the label 10; Fashion-MNIST has 0 to 9."),
        (FILES[1], np.zeros((40, 1), np.uint8), OTHER_LABELS.format("(40, 1)")),
    ],
)
def test_files_of_another_set_are_refused(tmp_path, name, array, text):
    (make(tmp_path, False) / name).write_bytes(idx(array))
    with raises_text(ConfigError, f"'{tmp_path}/{name}' {text}"):
        load(tmp_path)


@pytest.mark.parametrize("start", [b"PK\3\4zzzz", b"\0\0\x0d\1aaaa", b"\0\0\x08\0aaaa"])
def test_other_formats_are_refused(tmp_path, start):
    (make(tmp_path, False) / FILES[0]).write_bytes(start)
    with raises_text(ConfigError, f"'{tmp_path}/{FILES[0]}' {no_idx(start)}"):
        load(tmp_path)


def test_a_header_that_announces_more_than_memory_is_refused(tmp_path):
    header = struct.pack(">BBBBIII", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1)
    (make(tmp_path, False) / FILES[0]).write_bytes(header)
    with raises_text(
        ConfigError,
        f"'{tmp_path}/train-images-idx3-ubyte' holds 16 bytes where its header of shape "
        "(4294967295, 4294967295, 4294967295) asks for 79228162458924105385300197391; "
        "it is truncated or damaged: copy it again.",
    ):
        load(tmp_path)

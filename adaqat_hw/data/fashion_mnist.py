"""Fashion-MNIST from IDX files: 70,000 grey images of 28x28 pixels in 10 classes."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from adaqat_hw.data._augment import CropAndFlip
from adaqat_hw.data._dataset import Dataset
from adaqat_hw.data._options import refuse_options
from adaqat_hw.data._subset import balanced_subset
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import DataConfig

SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package ``dataset-fashion-mnist`` puts the files."""

_SIDE = 28
_UINT8 = 0x08


def load(config: DataConfig, seed: int) -> Dataset:
    """Return Fashion-MNIST as (n, 1, 28, 28) in [0, 1].

    Reads ``train-images-idx3-ubyte`` and its three companions, each plain or with ``.gz``,
    from ``config.path`` or from the folder of Debian's package.

    Raises:
        ConfigError: options are given, files are missing, truncated or not IDX.
    """
    refuse_options(config)
    folder = Path(config.path).expanduser() if config.path is not None else SYSTEM_FOLDER
    if not folder.is_dir():
        raise ConfigError(
            f"Fashion-MNIST: the folder {str(folder)!r} does not exist; install Debian's package "
            "dataset-fashion-mnist or set data.path to the folder with the four IDX files."
        )
    train_x, train_y, train_gz = _split(folder, "train", config.limit_train, seed)
    test_x, test_y, test_gz = _split(folder, "t10k", config.limit_test, 0)
    return Dataset(
        name="Fashion-MNIST",
        layout="IDX files, gzip" if train_gz or test_gz else "IDX files",
        train_x=train_x,
        train_y=train_y,
        test_x=test_x,
        test_y=test_y,
        num_classes=10,
        input_shape=(1, _SIDE, _SIDE),
        augmenter=CropAndFlip() if config.augment else None,
    )


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Return the array of an IDX file of unsigned bytes, unpacking ``.gz``.

    Raises:
        ConfigError: not an IDX file of unsigned bytes, or its length is not what it announces.
    """
    try:
        raw = path.read_bytes()
        body = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as exc:
        raise ConfigError(
            f"{str(path)!r} cannot be read ({exc}); it is damaged or truncated: copy it again."
        ) from exc
    start = 4 + 4 * body[3] if len(body) >= 4 else 0
    if len(body) < 8 or body[:2] != b"\0\0" or body[2] != _UINT8 or start <= 4:
        raise ConfigError(
            f"{str(path)!r} begins with {body[:4]!r} and is no IDX file of unsigned bytes; "
            "copy it again."
        )
    sides = [body[i : i + 4] for i in range(4, start, 4)]
    shape = tuple(int.from_bytes(side, "big") for side in sides)
    expected = start + math.prod(shape)
    if len(body) != expected:
        raise ConfigError(
            f"{str(path)!r} holds {len(body)} bytes where its header of shape {shape!r} asks for "
            f"{expected}; it is truncated or damaged: copy it again."
        )
    return np.frombuffer(body, dtype=np.uint8, offset=start).reshape(shape)


def _split(
    folder: Path, prefix: str, limit: int | None, seed: int
) -> tuple[torch.Tensor, torch.Tensor, bool]:
    images_path = _find(folder, f"{prefix}-images-idx3-ubyte")
    labels_path = _find(folder, f"{prefix}-labels-idx1-ubyte")
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or images.shape[1:] != (_SIDE, _SIDE) or len(images) == 0:
        raise ConfigError(
            f"{str(images_path)!r} holds an array of shape {images.shape!r}; Fashion-MNIST has "
            f"images of shape (n, {_SIDE}, {_SIDE})."
        )
    if labels.shape != (len(images),):
        raise ConfigError(
            f"{str(labels_path)!r} holds labels of shape {labels.shape!r} for {len(images)} "
            "images; there must be one label per image: copy both files again."
        )
    if labels.max() > 9:
        raise ConfigError(
            f"{str(labels_path)!r} holds the label {labels.max()}; Fashion-MNIST has 0 to 9."
        )
    chosen = balanced_subset(labels.astype(np.int64), limit, seed)
    pixels = images[chosen][:, None].astype(np.float32) / np.float32(255)
    gz = images_path.suffix == ".gz" or labels_path.suffix == ".gz"
    return torch.from_numpy(pixels), torch.from_numpy(labels[chosen].astype(np.int64)), gz


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise ConfigError(
        f"Fashion-MNIST: {str(folder)!r} has neither {name!r} nor {name + '.gz'!r}; put the four "
        "IDX files there."
    )

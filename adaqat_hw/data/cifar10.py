"""CIFAR-10 from the official Python archive or from image folders; says which it found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaqat_hw.data import _cifar_batches, _cifar_folders
from adaqat_hw.data._augment import CropAndFlip
from adaqat_hw.data._dataset import Dataset
from adaqat_hw.data._options import refuse_options
from adaqat_hw.data._subset import balanced_subset
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import DataConfig

MEAN = (0.4914, 0.4822, 0.4465)
"""Channel means of the official training images in [0, 1]."""
STD = (0.2470, 0.2435, 0.2616)
"""Channel standard deviations of the official training images in [0, 1]."""


def load(config: DataConfig, seed: int) -> Dataset:
    """Return CIFAR-10 as (n, 3, 32, 32), each channel shifted by MEAN and divided by STD.

    ``config.path`` is the folder ``cifar-10-batches-py`` or the one that holds it, or a folder
    with ``train/<class>/*.jpg`` and ``test/<class>/*.jpg`` (or ``.png``). Labels are the same
    in every layout. JPEG images are lossy copies: the set is then named "CIFAR-10 (JPEG)".

    Raises:
        ConfigError: options are given, no path, another layout, missing or damaged files.
    """
    refuse_options(config)
    if config.path is None:
        raise ConfigError(
            "The data set 'cifar10' needs data.path: the folder 'cifar-10-batches-py' of the "
            "official archive, or a folder with train/<class> and test/<class> images."
        )
    root = Path(config.path).expanduser()
    if not root.is_dir():
        raise ConfigError(f"CIFAR-10: data.path {str(root)!r} is not a folder; unpack the archive.")
    for batches in (root, root / "cifar-10-batches-py"):
        if any(batches.glob("data_batch_*")) or (batches / "test_batch").exists():
            return _from_batches(batches, config, seed)
    if (root / "train").is_dir() or (root / "test").is_dir():
        return _from_folders(root, config, seed)
    names = sorted(p.name for p in root.iterdir())[:5]
    raise ConfigError(
        f"CIFAR-10: {str(root)!r} holds {names!r}, which is neither the official archive "
        "(data_batch_1 to 5 and test_batch) nor image folders (train/<class> and test/<class>)."
    )


def normalise(images: NDArray[np.uint8]) -> Tensor:
    """Map (n, 3, 32, 32) bytes to float32 of about zero mean and unit spread per channel."""
    x = torch.from_numpy(images).to(torch.float32).div_(255)
    x.sub_(torch.tensor(MEAN).view(3, 1, 1))
    return x.div_(torch.tensor(STD).view(3, 1, 1))


def _from_batches(folder: Path, config: DataConfig, seed: int) -> Dataset:
    train_x, train_y = _cifar_batches.read(folder, [f"data_batch_{i}" for i in range(1, 6)])
    test_x, test_y = _cifar_batches.read(folder, ["test_batch"])
    train = balanced_subset(train_y, config.limit_train, seed)
    test = balanced_subset(test_y, config.limit_test, 0)
    return _dataset(
        "CIFAR-10",
        "cifar-10-batches-py (official archive)",
        (train_x[train], train_y[train], test_x[test], test_y[test]),
        config,
    )


def _from_folders(root: Path, config: DataConfig, seed: int) -> Dataset:
    train, test = _cifar_folders.scan(root / "train"), _cifar_folders.scan(root / "test")
    formats = sorted(train.formats | test.formats)
    train_x, train_y = train.read(balanced_subset(train.labels, config.limit_train, seed))
    # Files come class by class; the first test samples, which exports keep, must be of all.
    subset = balanced_subset(test.labels, config.limit_test, 0)
    test_x, test_y = test.read(np.random.default_rng(0).permutation(subset))
    return _dataset(
        "CIFAR-10 (JPEG)" if "JPEG" in formats else "CIFAR-10",
        f"image folders, {' and '.join(formats)}",
        (train_x, train_y, test_x, test_y),
        config,
    )


def _dataset(
    name: str,
    layout: str,
    arrays: tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]],
    config: DataConfig,
) -> Dataset:
    train_x, train_y, test_x, test_y = arrays
    return Dataset(
        name=name,
        layout=layout,
        train_x=normalise(train_x),
        train_y=torch.from_numpy(train_y),
        test_x=normalise(test_x),
        test_y=torch.from_numpy(test_y),
        num_classes=10,
        input_shape=(3, 32, 32),
        augmenter=CropAndFlip() if config.augment else None,
    )

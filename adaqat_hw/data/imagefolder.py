"""ImageNet-style folders of images, one per class, decoded while training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adaqat_hw.data._image_files import class_folders, scan
from adaqat_hw.data._options import integer, refuse_options
from adaqat_hw.data._streamed import StreamedImages
from adaqat_hw.data._subset import balanced_subset
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import DataConfig


def load(config: DataConfig, seed: int) -> StreamedImages:
    """Return the images under ``config.path`` as (n, 3, size, size); option ``size`` (224).

    Training images lie in ``train/<class>/``, test images in ``val/<class>/`` or, without
    ``val``, in ``test/<class>/``; classes are numbered in the order of their names. Folders are
    listed once, here; files are opened when their batch comes. With ``augment`` training images
    are random parts, half of them mirrored, else central ones, as test images always are. The
    test split has a fixed shuffled order, so that its first samples are of all classes.

    Raises:
        ConfigError: no path, another layout, or the splits' classes differ.
    """
    refuse_options(config, ("size",))
    size = integer(config, "size", 224, 8, 1024)
    if config.path is None:
        raise ConfigError(
            "The data set 'imagefolder' needs data.path: a folder with train/<class>/* and "
            "val/<class>/* (or test/<class>/*)."
        )
    root = Path(config.path).expanduser()
    held_out = root / ("val" if (root / "val").is_dir() or not (root / "test").is_dir() else "test")
    classes, others = class_folders(root / "train"), class_folders(held_out)
    if classes != others:
        missing, extra = sorted(set(classes) - set(others)), sorted(set(others) - set(classes))
        raise ConfigError(
            f"The class folders of {str(held_out)!r} differ from those of 'train': missing are "
            f"{missing[:5]!r} ({len(missing)}), unknown are {extra[:5]!r} ({len(extra)}); both "
            "splits need the same classes."
        )
    train, test = scan(root / "train", classes), scan(held_out, classes)
    subset = balanced_subset(test.labels, config.limit_test, 0)
    return StreamedImages(
        name=f"images of {root.resolve().name}",
        layout=f"image folders, train and {held_out.name}",
        train=train.only(balanced_subset(train.labels, config.limit_train, seed)),
        test=test.only(np.random.default_rng(0).permutation(subset)),
        num_classes=len(classes),
        size=size,
        augment=config.augment,
        workers=config.workers,
    )

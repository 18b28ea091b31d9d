"""List image files in class folders, and turn one file into pixels."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adaqat_hw.errors import ConfigError

_SUFFIXES = (".jpg", ".jpeg", ".png")
_RESIZE = 256 / 224
_AREA = (0.08, 1.0)
_ASPECT = (3 / 4, 4 / 3)
_TRIES = 10

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class ImageFiles:
    """The files of one split; ``labels`` (n,) int64 goes with ``paths`` (n,) bytes.

    Paths are relative to ``folder`` and lie in one array, which worker processes share without
    copying it.
    """

    folder: Path
    paths: NDArray[np.bytes_]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> Path:
        """Return the path of file ``index``."""
        return self.folder / os.fsdecode(bytes(self.paths[index]))

    def only(self, chosen: NDArray[np.int64]) -> ImageFiles:
        """Return the files at the indices ``chosen``, in their order."""
        return ImageFiles(self.folder, self.paths[chosen], self.labels[chosen])


def class_folders(split: Path) -> tuple[str, ...]:
    """Return the names of the class folders of a split, sorted: a class's place is its label.

    Raises:
        ConfigError: the split is missing or holds fewer than two folders.
    """
    if not split.is_dir():
        raise ConfigError(
            f"The image folder {str(split)!r} does not exist; data.path must hold train/<class>/* "
            "and val/<class>/* (or test/<class>/*)."
        )
    with os.scandir(split) as entries:
        names = sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir())
    if len(names) < 2:
        raise ConfigError(
            f"The image folder {str(split)!r} holds the class folders {names!r}; it needs one "
            "folder for each of at least two classes."
        )
    return tuple(names)


def scan(split: Path, classes: Sequence[str]) -> ImageFiles:
    """List the images of a split without opening one.

    Raises:
        ConfigError: a class folder holds no .jpg, .jpeg or .png file.
    """
    paths: list[bytes] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        with os.scandir(split / name) as entries:
            files = sorted(e.name for e in entries if e.name.lower().endswith(_SUFFIXES))
        if not files:
            raise ConfigError(
                f"The class folder {str(split / name)!r} holds no .jpg, .jpeg or .png file; fill "
                "it, or remove it from every split."
            )
        paths += [os.fsencode(f"{name}/{file}") for file in files]
        labels += [label] * len(files)
    return ImageFiles(split, np.array(paths, dtype=np.bytes_), np.array(labels, dtype=np.int64))


def read_image(path: Path, size: int, seed: int | None) -> Pixels:
    """Return the image as (3, size, size) bytes.

    Without ``seed`` its shorter side is resized to 256/224 of ``size`` and the centre is cut
    out; else ``seed`` alone draws a part of 8 to 100 % of the area and of an aspect ratio from
    3/4 to 4/3, which is resized and half of the times mirrored (arXiv 1409.4842, section 6).

    Raises:
        ConfigError: the file is no image, truncated or damaged.
    """
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as exc:
        raise ConfigError(
            f"The image {str(path)!r} cannot be read ({exc}); it is truncated or damaged: copy it "
            "again or remove it."
        ) from exc
    if seed is None:
        changed = _centre(image, size)
    else:
        draw = random.Random(seed)  # noqa: S311 - augmentation, no secret
        part = image.crop(_random_box(*image.size, draw))
        changed = part.resize((size, size), Image.Resampling.BILINEAR)
        if draw.random() < 0.5:
            changed = changed.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.ascontiguousarray(np.asarray(changed, dtype=np.uint8).transpose(2, 0, 1))


def _centre(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    shorter = round(_RESIZE * size)
    scale = shorter / min(width, height)
    # int() and not round(): the longer side of the reference pipelines.
    wide, high = (
        shorter if side == min(width, height) else int(side * scale) for side in (width, height)
    )
    left, top = round((wide - size) / 2), round((high - size) / 2)
    resized = image.resize((wide, high), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + size, top + size))


def _random_box(width: int, height: int, draw: random.Random) -> tuple[int, int, int, int]:
    area = width * height
    for _ in range(_TRIES):
        part = area * draw.uniform(*_AREA)
        aspect = math.exp(draw.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
        wide, high = round(math.sqrt(part * aspect)), round(math.sqrt(part / aspect))
        if 0 < wide <= width and 0 < high <= height:
            left, top = draw.randint(0, width - wide), draw.randint(0, height - high)
            return left, top, left + wide, top + high
    # An image too long and thin for any draw: its largest part of an allowed aspect ratio.
    wide = max(1, min(width, round(height * _ASPECT[1])))
    high = max(1, min(height, round(width / _ASPECT[0])))
    left, top = (width - wide) // 2, (height - high) // 2
    return left, top, left + wide, top + high

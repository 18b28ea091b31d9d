"""Read CIFAR-10 from folders of images, one folder per class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adaqat_hw.errors import ConfigError

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
"""Class names; a class's place is its label in the official archive."""

_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
_SIDE = 32


@dataclass(frozen=True)
class Split:
    """The image files of one split, class by class; ``labels`` (n,) goes with ``paths``."""

    paths: tuple[Path, ...]
    labels: NDArray[np.int64]
    formats: frozenset[str]

    def read(self, chosen: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return images (n, 3, 32, 32) and labels (n,) of the files at the indices ``chosen``.

        Raises:
            ConfigError: a file is damaged or not 32x32 pixels.
        """
        images = np.empty((len(chosen), 3, _SIDE, _SIDE), dtype=np.uint8)
        for place, index in enumerate(chosen):
            images[place] = _read_image(self.paths[index])
        return images, self.labels[chosen]


def scan(folder: Path) -> Split:
    """List the images of a split without reading them.

    Raises:
        ConfigError: the folder is missing, or its class folders are not CIFAR-10's ten, or one
            of them holds no image.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"CIFAR-10: {str(folder)!r} does not exist; image folders need both train/<class> "
            "and test/<class>."
        )
    names = {path.name for path in folder.iterdir() if path.is_dir()}
    if names != set(CLASSES):
        missing, extra = sorted(set(CLASSES) - names), sorted(names - set(CLASSES))
        raise ConfigError(
            f"CIFAR-10: {str(folder)!r} must hold one folder per class ({', '.join(CLASSES)}); "
            f"missing are {missing!r}, unknown are {extra!r}."
        )
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(CLASSES):
        files = sorted(p for p in (folder / name).iterdir() if p.suffix.lower() in _FORMATS)
        if not files:
            raise ConfigError(
                f"CIFAR-10: {str(folder / name)!r} holds no .jpg, .jpeg or .png file; unpack the "
                "archive again."
            )
        paths += files
        labels += [label] * len(files)
    formats = frozenset(_FORMATS[path.suffix.lower()] for path in paths)
    return Split(tuple(paths), np.array(labels, dtype=np.int64), formats)


def _read_image(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            size = image.size
            if size == (_SIDE, _SIDE):
                return np.asarray(image.convert("RGB"), dtype=np.uint8).transpose(2, 0, 1)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as exc:
        raise ConfigError(
            f"The image {str(path)!r} cannot be read ({exc}); it is truncated or damaged: unpack "
            "the archive again."
        ) from exc
    raise ConfigError(
        f"The image {str(path)!r} is {size[0]}x{size[1]} pixels; CIFAR-10 has {_SIDE}x{_SIDE}."
    )

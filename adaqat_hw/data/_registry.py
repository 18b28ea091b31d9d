"""Find a data set's loader by name."""

from __future__ import annotations

from collections.abc import Callable

from adaqat_hw.data import cifar10, digits, fashion_mnist, imagefolder, japanese_vowels, words
from adaqat_hw.data._source import DataSource
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import DataConfig

_LOADERS: dict[str, Callable[[DataConfig, int], DataSource]] = {
    "cifar10": cifar10.load,
    "digits": digits.load,
    "fashion-mnist": fashion_mnist.load,
    "imagefolder": imagefolder.load,
    "japanese-vowels": japanese_vowels.load,
    "words": words.load,
}


def names() -> tuple[str, ...]:
    """Return the names of all data sets, sorted."""
    return tuple(sorted(_LOADERS))


def load(config: DataConfig, seed: int = 0) -> DataSource:
    """Load a data set into memory, or list the files of one that is streamed.

    ``seed`` only chooses which training samples ``limit_train`` keeps. The split into train
    and test, and the test samples that ``limit_test`` keeps, are the same for every seed, so
    that accuracies can be compared.

    Raises:
        ConfigError: unknown name, missing files, another layout or damaged files.
    """
    if config.name not in _LOADERS:
        raise ConfigError(f"Unknown data set {config.name!r}; choose one of {', '.join(names())}.")
    return _LOADERS[config.name](config, seed)

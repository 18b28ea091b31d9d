"""Japanese vowels: which of nine speakers said /ae/; 640 short utterances.

Kudo, Toyama and Shimbo, "Multidimensional curve classification using passing-through regions",
Pattern Recognition Letters 20, 1999.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from adaqat_hw.data._dataset import Dataset
from adaqat_hw.data._options import refuse_augment, refuse_options
from adaqat_hw.data._subset import balanced_subset
from adaqat_hw.data._vowel_files import (
    COEFFICIENTS,
    LONGEST,
    SPEAKERS,
    TEST_BLOCKS,
    TRAIN_BLOCKS,
    Utterances,
    read_ts,
    read_uci,
)
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import DataConfig

_TS = ("JapaneseVowels_TRAIN.ts", "JapaneseVowels_TEST.ts")
_UCI = ("ae.train", "ae.test")
# Without --no-deps pip would replace NumPy by an older one than this package needs (aeon 1.6.0).
_ADVICE = (
    "'pip install --no-deps aeon', whose package holds the files, or set data.path to a folder "
    f"with {_UCI[0]!r} and {_UCI[1]!r} (UCI Machine Learning Repository, 'Japanese Vowels') or "
    f"{_TS[0]!r} and {_TS[1]!r} (aeon, sktime)"
)


def load(config: DataConfig, seed: int) -> Dataset:
    """Return the utterances as (n, 12, 29): 12 LPC cepstrum coefficients over time.

    270 utterances train and 370 test, as published. Each coefficient is shifted and scaled to
    zero mean and unit variance over the frames of the whole training split; utterances of 7 to 29
    frames are then filled with zeros at the end. Without ``config.path`` the files inside an
    installed ``aeon`` package are read; the package itself is not imported. Both splits are
    stored in a fixed shuffled order, as the archive's is speaker by speaker.

    Raises:
        ConfigError: no files, another layout, damaged files, or augment is set.
    """
    refuse_options(config)
    refuse_augment(config)
    layout, train, test = _read(config)
    frames = np.concatenate([x for x, _ in train], axis=1).astype(np.float64)
    mean, std = frames.mean(axis=1, keepdims=True), frames.std(axis=1, keepdims=True)
    if not (std > 0).all():
        raise ConfigError(
            "Japanese vowels: a coefficient is the same in every training frame; the files are "
            "damaged, copy them again."
        )
    train_x, train_y = _padded(train, mean, std)
    test_x, test_y = _padded(test, mean, std)
    chosen = balanced_subset(train_y, config.limit_train, seed)
    subset = balanced_subset(test_y, config.limit_test, 0)
    return Dataset(
        name="Japanese vowels",
        layout=layout,
        train_x=torch.from_numpy(train_x[chosen]),
        train_y=torch.from_numpy(train_y[chosen]),
        test_x=torch.from_numpy(test_x[subset]),
        test_y=torch.from_numpy(test_y[subset]),
        num_classes=SPEAKERS,
        input_shape=(COEFFICIENTS, LONGEST),
    )


def _read(config: DataConfig) -> tuple[str, Utterances, Utterances]:
    root = Path(config.path).expanduser() if config.path is not None else _inside_aeon()
    if root is None:
        raise ConfigError(f"The data set 'japanese-vowels' needs its files: {_ADVICE}.")
    for folder in (root, root / "JapaneseVowels"):
        if any((folder / name).is_file() for name in _UCI):
            paths = _both(folder, _UCI)
            train, test = (TRAIN_BLOCKS, TEST_BLOCKS)
            return "ae.train and ae.test (UCI)", read_uci(paths[0], train), read_uci(paths[1], test)
        if any((folder / name).is_file() for name in _TS):
            paths = _both(folder, _TS)
            counts = sum(TRAIN_BLOCKS), sum(TEST_BLOCKS)
            return ".ts files (aeon)", read_ts(paths[0], counts[0]), read_ts(paths[1], counts[1])
    names = sorted(p.name for p in root.iterdir())[:5] if root.is_dir() else None
    fault = "does not exist" if names is None else f"holds {names!r}, which is no known layout"
    raise ConfigError(f"Japanese vowels: the folder {str(root)!r} {fault}; {_ADVICE}.")


def _both(folder: Path, names: tuple[str, str]) -> tuple[Path, Path]:
    for name in names:
        if not (folder / name).is_file():
            raise ConfigError(
                f"Japanese vowels: {str(folder)!r} lacks {name!r}; it must hold both {names[0]!r} "
                f"and {names[1]!r}."
            )
    return folder / names[0], folder / names[1]


def _inside_aeon() -> Path | None:
    """Return where an installed aeon keeps the files, without running any of it."""
    spec = importlib.util.find_spec("aeon")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        folder = Path(place) / "datasets" / "data" / "JapaneseVowels"
        if folder.is_dir():
            return folder
    return None


def _padded(
    utterances: Utterances, mean: NDArray[np.float64], std: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    x = np.zeros((len(utterances), COEFFICIENTS, LONGEST), dtype=np.float32)
    y = np.empty(len(utterances), dtype=np.int64)
    order = np.random.default_rng(0).permutation(len(utterances))
    for place, index in enumerate(order):
        frames, speaker = utterances[index]
        x[place, :, : frames.shape[1]] = (frames - mean) / std
        y[place] = speaker
    return x, y

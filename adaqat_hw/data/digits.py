"""scikit-learn's bundled handwritten digits: 1,797 images of 8x8 pixels, no download."""

from __future__ import annotations

import numpy as np
import torch

from adaqat_hw.data._dataset import Dataset
from adaqat_hw.data._options import refuse_options
from adaqat_hw.data._subset import balanced_subset
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import DataConfig

_TEST_SHARE = 0.2
_SPLIT_SEED = 0


def load(config: DataConfig, seed: int) -> Dataset:
    """Return the digits as (n, 1, 8, 8) in [0, 1], a fifth of them, stratified, for testing.

    Pixels are integers from 0 to 16 and are divided by 16.

    Raises:
        ConfigError: ``path``, ``options`` or ``augment`` is set; the set is bundled, and shifted
            or mirrored 8x8 digits are other digits.
    """
    refuse_options(config)
    if config.path is not None:
        raise ConfigError(
            f"The data set 'digits' is bundled with scikit-learn and takes no path, but path is "
            f"{config.path!r}; remove it."
        )
    if config.augment:
        raise ConfigError(
            "The data set 'digits' cannot be augmented by crops and flips, but augment is True; "
            "remove it or choose cifar10 or fashion-mnist."
        )
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bundle = load_digits()
    pixels = (bundle.images / 16).astype(np.float32)[:, None]
    labels = bundle.target.astype(np.int64)
    train_x, test_x, train_y, test_y = train_test_split(
        pixels, labels, test_size=_TEST_SHARE, random_state=_SPLIT_SEED, stratify=labels
    )
    train = balanced_subset(train_y, config.limit_train, seed)
    test = balanced_subset(test_y, config.limit_test, 0)
    return Dataset(
        name="digits",
        layout="bundled with scikit-learn",
        train_x=torch.from_numpy(train_x[train]),
        train_y=torch.from_numpy(train_y[train]),
        test_x=torch.from_numpy(test_x[test]),
        test_y=torch.from_numpy(test_y[test]),
        num_classes=10,
        input_shape=(1, 8, 8),
    )

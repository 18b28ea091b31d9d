"""Choose a limited, class-balanced part of a split."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def balanced_subset(labels: NDArray[np.int64], limit: int | None, seed: int) -> NDArray[np.int64]:
    """Return the sorted indices of at most ``limit`` samples, spread evenly over the classes.

    Classes differ by at most one sample as long as each has enough. ``None`` and a limit above
    the number of samples choose all of them.
    """
    everything = np.arange(len(labels), dtype=np.int64)
    if limit is None or limit >= len(labels):
        return everything
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    turn = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        turn[members] = np.arange(len(members))
    first = order[np.argsort(turn[order], kind="stable")][:limit]
    return np.sort(first).astype(np.int64)

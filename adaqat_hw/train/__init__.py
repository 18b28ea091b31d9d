"""Train one variant of a run: full precision, learned bit-widths, uniform ones or a plan's.

What identifies a training (:class:`Variant`, :func:`training_inputs`) loads no torch; each other
name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from adaqat_hw.train.digest import training_digest, training_inputs
from adaqat_hw.train.variant import Variant

if TYPE_CHECKING:
    from adaqat_hw.train.api import Trained, train_network
    from adaqat_hw.train.checkpoint import load_into, load_weights
    from adaqat_hw.train.loop import train
    from adaqat_hw.train.trajectory import read_trajectory
    from adaqat_hw.train.world import leave_world

_LAZY = {
    "Trained": "api",
    "leave_world": "world",
    "load_into": "checkpoint",
    "load_weights": "checkpoint",
    "read_trajectory": "trajectory",
    "train": "loop",
    "train_network": "api",
}

__all__ = [
    "Trained",
    "Variant",
    "leave_world",
    "load_into",
    "load_weights",
    "read_trajectory",
    "train",
    "train_network",
    "training_digest",
    "training_inputs",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'adaqat_hw.train' has no attribute {name!r}")
    return getattr(importlib.import_module(f"adaqat_hw.train.{_LAZY[name]}"), name)

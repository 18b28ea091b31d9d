"""Train one variant of a run: full precision, learned bit-widths, uniform ones or a plan's."""

from adaqat_hw.train.api import Trained, train_network
from adaqat_hw.train.checkpoint import load_into, load_weights
from adaqat_hw.train.loop import train
from adaqat_hw.train.trajectory import read_trajectory
from adaqat_hw.train.variant import Variant, config_digest
from adaqat_hw.train.world import leave_world

__all__ = [
    "Trained",
    "Variant",
    "config_digest",
    "leave_world",
    "load_into",
    "load_weights",
    "read_trajectory",
    "train",
    "train_network",
]

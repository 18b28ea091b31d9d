"""Data sets by name: images, speech and words, in memory or streamed from files."""

from adaqat_hw.data._augment import CropAndFlip
from adaqat_hw.data._dataset import Dataset
from adaqat_hw.data._registry import load, names
from adaqat_hw.data._source import DataSource

__all__ = ["CropAndFlip", "DataSource", "Dataset", "load", "names"]

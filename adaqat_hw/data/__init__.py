"""Data sets as tensors in memory: digits, Fashion-MNIST and CIFAR-10."""

from adaqat_hw.data._augment import CropAndFlip
from adaqat_hw.data._dataset import Dataset
from adaqat_hw.data._registry import load, names

__all__ = ["CropAndFlip", "Dataset", "load", "names"]

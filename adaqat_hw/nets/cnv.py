"""CNV, the VGG-like CIFAR-10 network of the FINN papers (arXiv 1612.07119, section 4.1)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated

from pydantic import Field
from torch import nn

from adaqat_hw.nets._init import kaiming
from adaqat_hw.nets._registry import Options, register

Width = Annotated[int, Field(gt=0)]


class CnvOptions(Options):
    """``channels``: of the three convolution pairs; ``hidden``: units of the two linear layers."""

    input_shape: tuple[Width, Width, Width] = (3, 32, 32)
    channels: tuple[Width, Width, Width] = (64, 128, 256)
    hidden: tuple[Width, Width] = (512, 512)


@register(
    "cnv",
    options=CnvOptions,
    description="FINN's CNV: six unpadded 3x3 convolutions and three linear layers, 32x32 images",
)
def cnv(options: CnvOptions) -> nn.Module:
    """Build conv pairs of 64, 128 and 256 channels, pooled after the first two, then 512-512-10.

    Raises:
        ValueError: the image is too small for six unpadded convolutions and two poolings.
    """
    inputs, height, width = options.input_shape
    left = [_left_of(side) for side in (height, width)]
    if min(left) < 1:
        raise ValueError(
            f"input_shape {options.input_shape!r} must be at least 32 pixels high and wide, or "
            "nothing is left after the convolutions"
        )
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    index = 0
    for pair, outputs in enumerate(options.channels):
        for _ in range(2):
            index += 1
            layers[f"conv{index}"] = nn.Conv2d(inputs, outputs, 3, bias=False)
            layers[f"bn{index}"] = nn.BatchNorm2d(outputs)
            layers[f"relu{index}"] = nn.ReLU()
            inputs = outputs
        if pair < 2:
            layers[f"pool{pair + 1}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    features = inputs * left[0] * left[1]
    for number, units in enumerate(options.hidden, start=1):
        layers[f"fc{number}"] = nn.Linear(features, units, bias=False)
        layers[f"bn{index + number}"] = nn.BatchNorm1d(units)
        layers[f"relu{index + number}"] = nn.ReLU()
        features = units
    layers["fc3"] = nn.Linear(features, options.num_classes, bias=options.head_bias)
    return kaiming(nn.Sequential(layers))


def _left_of(side: int) -> int:
    """Return what two unpadded conv pairs with pooling and a third pair leave of ``side``."""
    return ((side - 4) // 2 - 4) // 2 - 4

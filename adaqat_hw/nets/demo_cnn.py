"""Two-convolution network for 8x8 digits: small enough to simulate and synthesize in a demo."""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated

from pydantic import Field
from torch import nn

from adaqat_hw.nets._init import kaiming
from adaqat_hw.nets._registry import Options, register

Width = Annotated[int, Field(gt=0)]


class DemoCnnOptions(Options):
    """``channels``: output channels of the two convolutions."""

    input_shape: tuple[Width, Width, Width] = (1, 8, 8)
    channels: tuple[Width, Width] = (8, 16)


@register(
    "demo-cnn",
    options=DemoCnnOptions,
    description="two 3x3 convolutions with max-pooling and a linear classifier, for 8x8 digits",
)
def demo_cnn(options: DemoCnnOptions) -> nn.Module:
    """Build (conv3x3 - BatchNorm - ReLU - maxpool2) twice, then a linear classifier.

    Raises:
        ValueError: height or width is not a multiple of 4, so pooling would drop pixels.
    """
    inputs, height, width = options.input_shape
    if height % 4 or width % 4:
        raise ValueError(
            f"input_shape {options.input_shape!r} must have a height and a width that are "
            "multiples of 4, for two 2x2 poolings"
        )
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, outputs in enumerate(options.channels, start=1):
        layers[f"conv{index}"] = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        layers[f"bn{index}"] = nn.BatchNorm2d(outputs)
        layers[f"relu{index}"] = nn.ReLU()
        layers[f"pool{index}"] = nn.MaxPool2d(2)
        inputs = outputs
    layers["flatten"] = nn.Flatten()
    features = inputs * (height // 4) * (width // 4)
    layers["fc"] = nn.Linear(features, options.num_classes, bias=options.head_bias)
    return kaiming(nn.Sequential(layers))

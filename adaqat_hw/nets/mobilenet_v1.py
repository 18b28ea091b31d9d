"""MobileNetV1 (Howard et al., arXiv 1704.04861, table 1)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from adaqat_hw.nets._init import kaiming
from adaqat_hw.nets._mobile import convolution, scaled
from adaqat_hw.nets._registry import Options, register

Width = Annotated[int, Field(gt=0)]

_STEM = 32
_CHANNELS = (64, 128, 256, 512, 1024)


class MobileNetV1Options(Options):
    """``width`` multiplies all channel counts; ``repeats``: blocks of the five stages.

    ``strides``: ``"imagenet"`` halves the image in the stem and in the stages 2 to 5;
    ``"cifar"`` keeps it in the stem, so that 32x32 images end at 2x2.
    """

    input_shape: tuple[Width, Width, Width] = (3, 224, 224)
    num_classes: int = Field(default=1000, ge=2)
    width: float = Field(default=1.0, gt=0, le=4)
    repeats: tuple[Width, Width, Width, Width, Width] = (1, 2, 2, 6, 2)
    strides: Literal["imagenet", "cifar"] = "imagenet"


def separable(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Build a depthwise 3x3 and a pointwise 1x1 convolution, each with batch norm and ReLU."""
    depthwise = convolution(inputs, inputs, 3, stride=stride, groups=inputs)
    pointwise = convolution(inputs, outputs, 1)
    return nn.Sequential(OrderedDict([("depthwise", depthwise), ("pointwise", pointwise)]))


@register(
    "mobilenet-v1",
    options=MobileNetV1Options,
    description="MobileNetV1: depthwise separable convolutions, for 224x224 or small images",
)
def mobilenet_v1(options: MobileNetV1Options) -> nn.Module:
    """Build the stem, five stages of depthwise separable blocks, global pooling, a classifier."""
    inputs = scaled(_STEM, options.width)
    stem_stride = 2 if options.strides == "imagenet" else 1
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["stem"] = convolution(options.input_shape[0], inputs, 3, stride=stem_stride)
    stages = zip(_CHANNELS, options.repeats, strict=True)
    for stage, (channels, repeats) in enumerate(stages, start=1):
        blocks = []
        for block in range(repeats):
            stride = 2 if stage > 1 and block == 0 else 1
            outputs = scaled(channels, options.width)
            blocks.append(separable(inputs, outputs, stride))
            inputs = outputs
        layers[f"stage{stage}"] = nn.Sequential(*blocks)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(inputs, options.num_classes, bias=options.head_bias)
    return kaiming(nn.Sequential(layers))

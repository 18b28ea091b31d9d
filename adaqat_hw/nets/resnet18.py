"""ResNet18 for ImageNet (He et al., arXiv 1512.03385, table 1)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from adaqat_hw.nets._init import kaiming
from adaqat_hw.nets._registry import Options, register
from adaqat_hw.nets.resnet20 import BasicBlock

Width = Annotated[int, Field(gt=0)]


class ResNet18Options(Options):
    """``channels``: of the four stages.

    ``stem``: ``"imagenet"`` is a 7x7 convolution and a max pooling, each of stride 2;
    ``"cifar"`` a 3x3 convolution of stride 1 for small images.
    """

    input_shape: tuple[Width, Width, Width] = (3, 224, 224)
    num_classes: int = Field(default=1000, ge=2)
    channels: tuple[Width, Width, Width, Width] = (64, 128, 256, 512)
    stem: Literal["imagenet", "cifar"] = "imagenet"


@register(
    "resnet18",
    options=ResNet18Options,
    description="ResNet18 for 224x224 images (or small ones, by its stem), 1x1 shortcuts",
)
def resnet18(options: ResNet18Options) -> nn.Module:
    """Build the stem, four stages of two basic blocks, global pooling and a classifier.

    Where a stage changes the shape, its shortcut is a 1x1 convolution with batch norm.
    """
    colours, inputs = options.input_shape[0], options.channels[0]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if options.stem == "imagenet":
        layers["conv1"] = nn.Conv2d(colours, inputs, 7, stride=2, padding=3, bias=False)
    else:
        layers["conv1"] = nn.Conv2d(colours, inputs, 3, padding=1, bias=False)
    layers["bn1"] = nn.BatchNorm2d(inputs)
    layers["relu1"] = nn.ReLU()
    if options.stem == "imagenet":
        layers["pool1"] = nn.MaxPool2d(3, stride=2, padding=1)
    for stage, outputs in enumerate(options.channels, start=1):
        stride = 1 if stage == 1 else 2
        layers[f"stage{stage}"] = nn.Sequential(
            BasicBlock(inputs, outputs, stride, shortcut="B"),
            BasicBlock(outputs, outputs, 1, shortcut="B"),
        )
        inputs = outputs
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(inputs, options.num_classes, bias=options.head_bias)
    return kaiming(nn.Sequential(layers))

"""ResNet20 for CIFAR and its shorter and longer kin (He et al., arXiv 1512.03385, section 4.2)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from adaqat_hw.nets._init import kaiming
from adaqat_hw.nets._registry import Options, register

Width = Annotated[int, Field(gt=0)]


class ResNet20Options(Options):
    """``channels``: of the three stages. ``blocks``: of each; 1 is ResNet8, 9 is ResNet56.

    ``shortcut``: where a stage changes the shape, ``"A"`` subsamples and pads with zero
    channels (no parameters; the paper's BitOPs count this one), ``"B"`` convolves 1x1.
    """

    input_shape: tuple[Width, Width, Width] = (3, 32, 32)
    channels: tuple[Width, Width, Width] = (16, 32, 64)
    blocks: Width = 3
    shortcut: Literal["A", "B"] = "A"


class PadShortcut(nn.Module):
    """Take every second pixel and append ``extra`` zero channels, half in front, half behind."""

    def __init__(self, stride: int, extra: int) -> None:
        super().__init__()
        self.stride = stride
        self.front = extra // 2
        self.behind = extra - extra // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, C, H, W) to (n, C + extra, ceil(H / stride), ceil(W / stride))."""
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.front, self.behind))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and a residual add in front of the last ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if (stride != 1 or inputs != outputs) and shortcut == "A":
            self.shortcut = PadShortcut(stride, outputs - inputs)
        elif stride != 1 or inputs != outputs:
            conv = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(
                OrderedDict([("conv", conv), ("bn", nn.BatchNorm2d(outputs))])
            )
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, H, W) to (n, outputs, H / stride, W / stride)."""
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        out: Tensor = self.relu2(y + self.shortcut(x))
        return out


@register(
    "resnet20",
    options=ResNet20Options,
    description="ResNet20 for 32x32 images, parameter-free (A) or 1x1 convolution (B) shortcuts",
)
def resnet20(options: ResNet20Options) -> nn.Module:
    """Build a 3x3 stem, three stages of basic blocks, global pooling and a classifier.

    Raises:
        ValueError: shortcut A with channels that shrink from one stage to the next.
    """
    if options.shortcut == "A" and list(options.channels) != sorted(options.channels):
        raise ValueError(
            f"channels {options.channels!r} must not shrink with shortcut 'A', which only adds "
            "channels; use shortcut 'B'"
        )
    inputs = options.channels[0]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv1"] = nn.Conv2d(options.input_shape[0], inputs, 3, padding=1, bias=False)
    layers["bn1"] = nn.BatchNorm2d(inputs)
    layers["relu1"] = nn.ReLU()
    for stage, outputs in enumerate(options.channels, start=1):
        blocks = []
        for block in range(options.blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            blocks.append(BasicBlock(inputs, outputs, stride, options.shortcut))
            inputs = outputs
        layers[f"stage{stage}"] = nn.Sequential(*blocks)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(inputs, options.num_classes, bias=options.head_bias)
    return kaiming(nn.Sequential(layers))

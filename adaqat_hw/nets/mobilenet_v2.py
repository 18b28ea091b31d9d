"""MobileNetV2 (Sandler et al., arXiv 1801.04381, table 2)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from adaqat_hw.nets._init import kaiming
from adaqat_hw.nets._mobile import convolution, scaled
from adaqat_hw.nets._registry import Options, register

Width = Annotated[int, Field(gt=0)]

_STEM, _HEAD, _EXPANSION = 32, 1280, 6
_CHANNELS = (16, 24, 32, 64, 96, 160, 320)
_STRIDES = {"imagenet": (2, 1, 2, 2, 2, 1, 2, 1), "cifar": (1, 1, 1, 2, 2, 1, 2, 1)}
_RELUS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6}


class MobileNetV2Options(Options):
    """``width`` multiplies the channel counts; ``repeats``: blocks of the seven stages.

    ``head_channels``: of the last convolution; None takes 1280, or more with a ``width`` above 1.
    ``strides``: ``"imagenet"`` ends 32 times smaller than the image; ``"cifar"`` keeps the size
    in the stem and in stage 2, so that 32x32 images end at 4x4. ``activation`` is the float
    network's; a quantized one clips at a learned value either way.
    """

    input_shape: tuple[Width, Width, Width] = (3, 224, 224)
    num_classes: int = Field(default=1000, ge=2)
    width: float = Field(default=1.0, gt=0, le=4)
    repeats: tuple[Width, Width, Width, Width, Width, Width, Width] = (1, 2, 3, 4, 3, 3, 1)
    head_channels: Width | None = None
    strides: Literal["imagenet", "cifar"] = "imagenet"
    activation: Literal["relu", "relu6"] = "relu6"


class InvertedResidual(nn.Module):
    """Expand 1x1, filter depthwise 3x3, project 1x1 without an activation; add where it fits.

    The residual add joins two linear tensors and no ReLU follows it. Without ``expansion`` (1)
    the first convolution is left out.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, expansion: int, relu: type[nn.Module]
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand: nn.Module = (
            convolution(inputs, hidden, 1, relu=relu) if expansion > 1 else nn.Identity()
        )
        self.depthwise = convolution(hidden, hidden, 3, stride=stride, groups=hidden, relu=relu)
        self.project = convolution(hidden, outputs, 1, relu=None)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, H, W) to (n, outputs, H / stride, W / stride)."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


@register(
    "mobilenet-v2",
    options=MobileNetV2Options,
    description="MobileNetV2: inverted residuals, linear bottlenecks, for 224x224 or small images",
)
def mobilenet_v2(options: MobileNetV2Options) -> nn.Module:
    """Build the stem, seven stages of inverted residuals, a 1x1 head, pooling, a classifier."""
    relu = _RELUS[options.activation]
    stem_stride, *strides = _STRIDES[options.strides]
    inputs = scaled(_STEM, options.width)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["stem"] = convolution(options.input_shape[0], inputs, 3, stride=stem_stride, relu=relu)
    stages = zip(_CHANNELS, options.repeats, strides, strict=True)
    for stage, (channels, repeats, first) in enumerate(stages, start=1):
        outputs = scaled(channels, options.width)
        expansion = 1 if stage == 1 else _EXPANSION
        blocks = []
        for block in range(repeats):
            stride = first if block == 0 else 1
            blocks.append(InvertedResidual(inputs, outputs, stride, expansion, relu))
            inputs = outputs
        layers[f"stage{stage}"] = nn.Sequential(*blocks)
    head = options.head_channels or scaled(_HEAD, max(1.0, options.width))
    layers["head"] = convolution(inputs, head, 1, relu=relu)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(head, options.num_classes, bias=options.head_bias)
    return kaiming(nn.Sequential(layers))

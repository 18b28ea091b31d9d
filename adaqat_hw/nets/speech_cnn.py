"""Convolutions over time for short sequences of speech features."""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from adaqat_hw.nets._init import kaiming
from adaqat_hw.nets._registry import Options, register

Width = Annotated[int, Field(gt=0)]


class SpeechCnnOptions(Options):
    """``input_shape`` is (features, time steps); ``channels``: of the convolutions.

    ``kernel``: time steps that each convolution sees. From the second convolution on, the
    stride is 2. ``pooling``: ``"average"`` over time, or ``"none"`` to hand all remaining time
    steps to the classifier.
    """

    input_shape: tuple[Width, Width] = (12, 29)
    num_classes: int = Field(default=9, ge=2)
    channels: tuple[Width, ...] = Field(default=(32, 64, 64), min_length=1)
    kernel: Width = 5
    pooling: Literal["average", "none"] = "average"


@register(
    "speech-cnn",
    options=SpeechCnnOptions,
    description="one-dimensional convolutions over time, for speech features such as LPC frames",
)
def speech_cnn(options: SpeechCnnOptions) -> nn.Module:
    """Build Conv1d - BatchNorm - ReLU for each channel count, then pooling and a classifier.

    Raises:
        ValueError: the kernel is even, so its padding would be uneven.
    """
    if options.kernel % 2 == 0:
        raise ValueError(f"kernel {options.kernel!r} must be odd, so that it is padded evenly")
    inputs, steps = options.input_shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, outputs in enumerate(options.channels, start=1):
        stride = 1 if index == 1 else 2
        layers[f"conv{index}"] = nn.Conv1d(
            inputs, outputs, options.kernel, stride=stride, padding=options.kernel // 2, bias=False
        )
        layers[f"bn{index}"] = nn.BatchNorm1d(outputs)
        layers[f"relu{index}"] = nn.ReLU()
        inputs, steps = outputs, (steps - 1) // stride + 1
    if options.pooling == "average":
        layers["pool"] = nn.AdaptiveAvgPool1d(1)
        steps = 1
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(inputs * steps, options.num_classes, bias=options.head_bias)
    return kaiming(nn.Sequential(layers))

"""Multi-layer perceptron 64-64-64-10, the small fully connected network of the FINN papers."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Annotated

from pydantic import Field
from torch import nn

from adaqat_hw.nets._init import kaiming
from adaqat_hw.nets._registry import Options, register

Width = Annotated[int, Field(gt=0)]


class MlpOptions(Options):
    """``hidden``: units of each hidden layer."""

    input_shape: tuple[Width, ...] = Field(default=(1, 8, 8), min_length=1)
    hidden: tuple[Width, ...] = Field(default=(64, 64), min_length=1)


@register(
    "mlp",
    options=MlpOptions,
    description="64-64-64-10 perceptron for 8x8 digits (Linear, batch norm, ReLU)",
)
def mlp(options: MlpOptions) -> nn.Module:
    """Build Linear - BatchNorm - ReLU for each hidden width, then a linear classifier.

    Images are flattened first; the network with its default shape (1, 8, 8) takes (n, 64) too.
    With a one-dimensional ``input_shape`` the flattening is left out altogether.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if len(options.input_shape) > 1:
        layers["flatten"] = nn.Flatten()
    width = math.prod(options.input_shape)
    for index, units in enumerate(options.hidden, start=1):
        layers[f"fc{index}"] = nn.Linear(width, units, bias=False)
        layers[f"bn{index}"] = nn.BatchNorm1d(units)
        layers[f"relu{index}"] = nn.ReLU()
        width = units
    last = len(options.hidden) + 1
    layers[f"fc{last}"] = nn.Linear(width, options.num_classes, bias=options.head_bias)
    return kaiming(nn.Sequential(layers))

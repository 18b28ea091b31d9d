"""What the MobileNets share: scaled channel counts and convolutions with batch norm."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

_MULTIPLE = 8


def scaled(channels: int, width: float) -> int:
    """Return ``channels * width`` as a multiple of 8, at least 8, at most a tenth below.

    Source: the reference implementation of arXiv 1801.04381. The multipliers that the papers
    publish give multiples of 8 as they are.

    >>> scaled(32, 0.75), scaled(24, 0.35), scaled(16, 0.1)
    (24, 8, 8)
    """
    exact = channels * width
    rounded = max(_MULTIPLE, int(exact + _MULTIPLE / 2) // _MULTIPLE * _MULTIPLE)
    return rounded + _MULTIPLE if rounded < 0.9 * exact else rounded


def convolution(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    relu: type[nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """Build ``conv`` (padded to keep the size at stride 1), ``bn`` and, unless None, ``relu``."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = nn.Conv2d(
        inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
    )
    layers["bn"] = nn.BatchNorm2d(outputs)
    if relu is not None:
        layers["relu"] = relu()
    return nn.Sequential(layers)

"""What the largest integer of a quantizer stands for, and how it follows the bit-width.

Modules behind Brevitas' ``scaling_impl`` interface: called with a tensor and a threshold they
return ``range / threshold``, the scale. None needs to be told of a change of width: a range that
is best for one width is known relative to the others.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

WIDEST = 32  # bits
_LEAST = 1e-10  # of a range
_FITTED = 8  # bits; wider quantizers lose nothing worth fitting


@cache
def gaussian_clip(bits: int) -> float:
    """Return the clip of least squared error for normally distributed values, in deviations.

    For a signed narrow quantizer of ``bits`` (2 to 32); infinite above 8 bits, where clipping
    gains nothing.

    >>> [round(gaussian_clip(bits), 2) for bits in (2, 3, 4)]
    [1.22, 1.96, 2.48]
    """
    if bits > _FITTED:
        return math.inf
    high = 2 ** (bits - 1) - 1
    x = np.linspace(0, 7, 7001)
    density = np.exp(-x * x / 2)
    clips = np.linspace(0.8, 5, 421)[:, None]
    integers = np.minimum(np.round(x * high / clips), high)
    errors = ((x - integers * clips / high) ** 2 * density).sum(axis=1)
    return float(clips[errors.argmin(), 0])


class _LearnedPeak(torch.autograd.Function):
    """The range, kept above 0; its gradient times ``factor`` passes straight through."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, factor: Any) -> Tensor:
        ctx.factor = factor
        return value.clamp_min(_LEAST)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,) = grads
        plain = isinstance(ctx.factor, float) and ctx.factor == 1.0
        return grad if plain else grad * ctx.factor, None


class _Range(nn.Module, ABC):
    """Base: a scale is the range over the threshold."""

    def __init__(self, bit_width_impl: nn.Module) -> None:
        super().__init__()
        # Not a submodule: the quantizer owns it, and it must not be in the state twice.
        self._width = (bit_width_impl,)

    @property
    def width(self) -> Any:
        """The quantizer's bit-width module."""
        return self._width[0]

    @abstractmethod
    def peak(self, x: Tensor) -> Tensor:
        """Return the range for ``x`` at the present width."""

    def forward(self, x: Tensor, threshold: Tensor | None = None) -> Tensor:
        """Return the scale."""
        peak = self.peak(x)
        return peak if threshold is None else peak / threshold


class SigmaRange(_Range):
    """Range of a weight: :func:`gaussian_clip` root mean squares, at most the largest magnitude.

    Per output channel or per tensor. It is computed from the weight in every pass and passes no
    gradient.
    """

    clips: Tensor

    def __init__(self, bit_width_impl: nn.Module, scaling_shape: tuple[int, ...]) -> None:
        super().__init__(bit_width_impl)
        self._shape = scaling_shape
        self._clips = [_clip(bits) for bits in range(WIDEST + 1)]
        self.register_buffer("clips", torch.tensor(self._clips), persistent=False)

    def peak(self, x: Tensor) -> Tensor:
        """Return the range, (channels, 1, ...) or a scalar."""
        clip = _entry(self._clips, self.clips, self.width)
        return _sigma_range(x.detach(), self._shape, clip)


class LearnedRange(_Range):
    """A range that is learned: ``value`` at the width it was fitted for.

    ``table`` holds, by bit-width, the best range relative to ``value``; all 1 where nothing was
    fitted. With ``scaled_gradient`` the gradient of the range is scaled as that of a learned step
    is (arXiv 1902.08153, section 2.2), in terms of the range: ``Q^1.5 / sqrt(N)`` for the largest
    integer ``Q`` and ``N`` values per sample (of an activation) or per range (of a weight).
    """

    value: nn.Parameter
    table: Tensor

    def __init__(
        self,
        bit_width_impl: nn.Module,
        scaling_init: Tensor | float,
        scaling_shape: tuple[int, ...],
        signed: bool,
        scaled_gradient: bool = False,
        of_weight: bool = False,
    ) -> None:
        super().__init__(bit_width_impl)
        start = torch.as_tensor(scaling_init, dtype=torch.float32).detach()
        self.value = nn.Parameter(start.abs().expand(scaling_shape).clone())
        self.register_buffer("table", torch.ones(WIDEST + 1))
        self._table = [1.0] * (WIDEST + 1)
        self._signed, self._scaled, self.of_weight = signed, scaled_gradient, of_weight

    def peak(self, x: Tensor) -> Tensor:
        """Return the range, of the shape of ``value``."""
        peak: Tensor = _LearnedPeak.apply(self.value, self._gradient_factor(x))  # type: ignore[no-untyped-call]
        factor = _entry(self._table, self.table, self.width)
        return peak if isinstance(factor, float) and factor == 1.0 else peak * factor

    def _gradient_factor(self, x: Tensor) -> Any:
        if not self._scaled or x.dim() == 0:  # an exporter asks for the scale with one number
            return 1.0
        count = x.numel() / (self.value.numel() if self.of_weight else x.shape[0])
        if torch.compiler.is_compiling():  # a number would compile anew for every width
            largest = torch.exp2(self.width.bit_width - float(self._signed)) - 1
        else:
            largest = 2 ** (self.width.bits - int(self._signed)) - 1
        return largest**1.5 / math.sqrt(count)

    def fit(self, by_width: Sequence[float] | None, value: Tensor) -> None:
        """Start again from a fitted range.

        Args:
            by_width: the best ranges at 0 to 32 bits, relative to each other; None where they
                are unknown: then every width has the same.
            value: the best range at the present width, of ``value``'s shape.
        """
        bits = self.width.bits
        table = [1.0] * (WIDEST + 1) if by_width is None else [r / by_width[bits] for r in by_width]
        with torch.no_grad():
            self.value.copy_(value)
            self.table.copy_(torch.tensor(table))
        self._read_table()

    def fit_weight(self, weight: Tensor) -> None:
        """Fit the range of a weight at the present width as :class:`SigmaRange` has it."""
        shape = tuple(self.value.shape)
        ranges = [
            _sigma_range(weight.detach(), shape, _clip(bits)) for bits in range(2, WIDEST + 1)
        ]
        means = [float(x.mean()) for x in ranges]
        self.fit([means[0], means[0], *means], ranges[self.width.bits - 2].reshape(shape))

    def _read_table(self) -> None:
        self._table = [float(x) for x in self.table.tolist()]

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._read_table()


def _clip(bits: int) -> float:
    """Return a finite :func:`gaussian_clip` of a width, that of 2 bits below it."""
    return min(gaussian_clip(max(bits, 2)), 1e9)


def _sigma_range(weight: Tensor, shape: tuple[int, ...], clip: Any) -> Tensor:
    dims = tuple(range(1, weight.dim())) if shape else None
    size = weight[0].numel() if shape else weight.numel()
    norm: Tensor = torch.linalg.vector_norm(weight, 2, dims, keepdim=bool(shape))
    largest: Tensor = torch.linalg.vector_norm(weight, math.inf, dims, keepdim=bool(shape))
    return torch.minimum(norm * (clip / math.sqrt(size)), largest).clamp_min(_LEAST)


def _entry(numbers: Sequence[float], table: Tensor, width: Any) -> Any:
    """Return the entry of the present width: a number, or a tensor where a graph is compiled."""
    if torch.compiler.is_compiling():
        return table.index_select(0, width.bit_width.long().reshape(1)).reshape(())
    return numbers[width.bits]

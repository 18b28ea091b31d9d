"""One fused fake-quantization behind Brevitas' ``tensor_quant`` interface.

Stock Brevitas spends most of a training step in element-wise passes (where, mul, lt, gt). Here
the quantizer is one ``autograd.Function``, and a ReLU in front of it is part of it. Outputs equal
stock Brevitas bit for bit. The integer range comes from Python numbers, so that nothing
synchronises with a GPU; under torch.compile it comes from the width's buffer, so that a change of
width compiles nothing anew.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from brevitas.core.bit_width import BitWidthStatefulConst
from brevitas.core.quant import RescalingIntQuant
from brevitas.core.scaling import StatsFromParameterScaling
from torch import Tensor

from adaqat_hw.quant._ranges import LearnedRange, SigmaRange


def integer_range(bits: int, signed: bool, narrow: bool) -> tuple[int, int]:
    """Return the smallest and largest integer of a quantizer.

    >>> integer_range(4, signed=True, narrow=True), integer_range(4, signed=False, narrow=False)
    ((-7, 7), (0, 15))
    """
    if signed:
        return -(2 ** (bits - 1)) + int(narrow), 2 ** (bits - 1) - 1
    return 0, 2**bits - 1 - int(narrow)


class FakeQuant(torch.autograd.Function):
    """``y = scale * clamp(round(x / scale), low, high)``.

    ``scale`` has one element or broadcasts per output channel. Backward: straight-through for
    ``x`` inside the range; for the scale the difference between quantized and unquantized value
    inside the range and the clipped integer outside of it (learned step size, arXiv 1902.08153,
    equation 3). ``relu`` says that ``x`` is in front of a ReLU, which the clamp at 0 computes:
    then no gradient passes at or below 0.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: int, high: int, relu: bool) -> Tensor:
        """Quantize ``x``."""
        steps = x / scale
        y = steps.round().clamp_(low, high).mul_(scale)
        ctx.save_for_backward(steps, y, scale)
        ctx.bounds = (low, high, relu)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        """Return the gradients for ``x`` and ``scale``."""
        (grad,) = grads
        steps, y, scale = ctx.saved_tensors
        low, high, relu = ctx.bounds
        lower, upper = _open_interval(low, high)
        bounds = (0.0 if relu else lower, upper)
        if grad.stride() != steps.stride():
            # One copy here spares the layers in front from mixing memory formats.
            grad = torch.empty_like(steps).copy_(grad)
        grad_x = torch.ops.aten.hardtanh_backward(grad, steps, *bounds)
        if not ctx.needs_input_grad[1]:
            return grad_x, None, None, None, None
        # sum(grad * integer) over all elements less sum(grad_x * x / scale) over those inside.
        if scale.numel() > 1:
            change = (grad * y).div_(scale).sub_(grad_x * steps).sum(_shared_axes(scale), True)
        else:
            change = _dot(grad, y) / scale.flatten()[0] - _dot(grad_x, steps)
        return grad_x, change.reshape(scale.shape), None, None, None


class FakeQuantWeight(torch.autograd.Function):
    """``y = scale * round(w / scale)`` where the scale leaves no ``w`` outside the range.

    ``scale`` has one element or broadcasts per output channel. Backward as :class:`FakeQuant`'s.
    """

    @staticmethod
    def forward(ctx: Any, w: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
        """Quantize ``w``."""
        y = (w / scale).round_().clamp_(low, high).mul_(scale)
        ctx.save_for_backward(w, y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        """Return the gradients for ``w`` and ``scale``."""
        (grad,) = grads
        w, y, scale = ctx.saved_tensors
        if not ctx.needs_input_grad[1]:
            return grad, None, None, None
        change = (y - w).mul_(grad)
        change = change.sum(_shared_axes(scale), True) if scale.numel() > 1 else change.sum()
        return grad, change.reshape(scale.shape) / scale, None, None


class FakeQuantCompiled(torch.autograd.Function):
    """The same function with its range in tensors, in the terms that torch.compile fuses best.

    Computes in float32 whatever autocast made of ``x``: bfloat16 cannot tell the steps of 8 bits
    apart.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, low: Tensor, high: Tensor, relu: bool
    ) -> Tensor:
        """Quantize ``x``; ``scale`` has one element or broadcasts per output channel."""
        ctx.save_for_backward(x, scale, low, high)
        ctx.relu = relu
        integers = (x.float() / scale).round()
        return (integers.clamp(low, high) * scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        """Return the gradients for ``x`` and ``scale``."""
        (grad,) = grads
        x, scale, low, high = ctx.saved_tensors
        steps = x.float() / scale
        integers = steps.round()
        inside = (integers >= low) & (integers <= high)
        if ctx.relu:
            inside = inside & (x > 0)
        grad_x = torch.where(inside, grad, 0.0)
        if not ctx.needs_input_grad[1]:
            return grad_x, None, None, None, None
        wide = grad.float()
        change = wide * (integers.clamp(low, high) - torch.where(inside, steps, 0.0))
        change = change.sum(_shared_axes(scale), True) if scale.numel() > 1 else change.sum()
        return grad_x, change.reshape(scale.shape), None, None, None


def _shared_axes(scale: Tensor) -> list[int]:
    """Return the dimensions along which values share one scale."""
    return [i for i, size in enumerate(scale.shape) if size == 1]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the sum of products, without a copy where both lie alike in memory."""
    if a.stride() != b.stride():
        return (a * b).sum()
    strides = a.stride()
    order = sorted(range(a.dim()), key=lambda i: -strides[i])
    a, b = a.permute(order), b.permute(order)
    return torch.dot(a.reshape(-1), b.reshape(-1))


@cache
def _open_interval(low: int, high: int) -> tuple[float, float]:
    """Return the open interval of float32 values that round to ``low`` ... ``high``.

    Halves round to even, so a bound belongs to the interval where its integer is even.
    """
    bounds = []
    for integer, outward in ((low, -1), (high, 1)):
        bound = torch.tensor(integer + outward * 0.5)
        if integer % 2 == 0:
            bound = torch.nextafter(bound, torch.tensor(outward * torch.inf))
        bounds.append(float(bound))
    return bounds[0], bounds[1]


class SwitchableBitWidth(BitWidthStatefulConst):  # type: ignore[misc]  # brevitas is untyped
    """Bit-width that is part of the state and also known as the Python number ``bits``."""

    def __init__(
        self,
        bit_width: int,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(bit_width, dtype, device)
        self.bits = int(bit_width)

    def set(self, bits: int) -> None:
        """Switch the width in place."""
        self.bits = bits
        with torch.no_grad():
            self.bit_width.fill_(bits)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.bits = round(float(self.bit_width))


class FusedIntQuant(RescalingIntQuant):  # type: ignore[misc]  # brevitas is untyped
    """Drop-in ``tensor_quant``: the scale as Brevitas defines it, the rest in one function.

    The scale is the range over the largest integer; :mod:`adaqat_hw.quant._ranges` has the
    ranges, beside Brevitas' absolute maximum of a weight and its constant of an input.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return dequantized values, scale, zero point 0 and bit-width."""
        if self.observer_only:
            observed: tuple[Tensor, Tensor, Tensor, Tensor] = super().forward(x)
            return observed
        y, scale = self.quantize(x)
        width = self.msb_clamp_bit_width_impl.bit_width
        return y, scale, self.zero_point_impl(x, scale, width), width

    def quantize(self, x: Tensor, relu: bool = False) -> tuple[Tensor, Tensor]:
        """Return dequantized values and scale; ``relu`` puts a ReLU in front (unsigned only)."""
        if torch.compiler.is_compiling():
            return self._quantize_compiled(x, relu)
        signed = self.int_quant.signed
        bits = self.msb_clamp_bit_width_impl.bits
        low, high = integer_range(bits, signed, self.int_quant.narrow_range)
        peak = self._peak(x)
        # A tensor on the same device: CUDA turns division by a number into a multiplication.
        scale = peak / _constant(float(-low if signed else high), peak.dtype, peak.device)
        y: Tensor
        if self._reaches_all:
            y = FakeQuantWeight.apply(x, scale, low, high)  # type: ignore[no-untyped-call]
        else:
            y = FakeQuant.apply(x, scale, low, high, relu)  # type: ignore[no-untyped-call]
        return y, scale

    def _quantize_compiled(self, x: Tensor, relu: bool) -> tuple[Tensor, Tensor]:
        signed, narrow = self.int_quant.signed, float(self.int_quant.narrow_range)
        bits = self.msb_clamp_bit_width_impl.bit_width
        half = torch.exp2(bits - 1)
        high = half - 1 if signed else 2 * half - 1 - narrow
        low = narrow - half if signed else torch.zeros_like(high)
        scale = self._peak(x) / (-low if signed else high)
        y: Tensor = FakeQuantCompiled.apply(x, scale, low, high, relu)  # type: ignore[no-untyped-call]
        return y, scale

    @property
    def _reaches_all(self) -> bool:
        """Whether no value lies outside of the range: it is the absolute maximum of a weight."""
        return isinstance(self.scaling_impl, StatsFromParameterScaling)

    def _peak(self, x: Tensor) -> Tensor:
        """Return what the largest integer stands for."""
        scaling = self.scaling_impl
        peak: Tensor
        if isinstance(scaling, LearnedRange | SigmaRange):
            peak = scaling.peak(x)
        elif self._reaches_all:
            peak = scaling.stats_scaling_impl.restrict_clamp_scaling(
                scaling.parameter_list_stats(x)
            )
        else:
            peak = scaling.restrict_clamp_scaling(scaling.value())
        return peak


@cache
def _constant(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.full((), value, dtype=dtype, device=device)

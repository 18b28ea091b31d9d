"""One fused fake-quantization behind Brevitas' ``tensor_quant`` interface.

Stock Brevitas spends most of a training step in element-wise passes (where, mul, lt, gt). Here
the quantizer is one ``autograd.Function`` whose integer range comes from Python numbers, so that
nothing synchronises with a GPU. Outputs equal stock Brevitas bit for bit.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from brevitas.core.bit_width import BitWidthStatefulConst
from brevitas.core.quant import RescalingIntQuant
from brevitas.core.scaling import ParameterScaling, StatsFromParameterScaling
from torch import Tensor


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

    Backward: straight-through for ``x`` inside the range; for the scale the difference between
    quantized and unquantized value inside the range and the clipped integer outside of it
    (learned step size, arXiv 1902.08153, equation 3). ``clipped=False`` says that no value can
    lie outside, which saves the mask.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: int, high: int, clipped: bool) -> Tensor:
        """Quantize ``x``; ``scale`` has one element or broadcasts per output channel."""
        ctx.save_for_backward(x, scale)
        ctx.bounds = (low, high, clipped)
        return (x / scale).round_().clamp_(low, high).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        """Return the gradients for ``x`` and ``scale``."""
        (grad,) = grads
        x, scale = ctx.saved_tensors
        low, high, clipped = ctx.bounds
        steps = x / scale
        grad_x = (
            torch.ops.aten.hardtanh_backward(grad, steps, *_open_interval(low, high))
            if clipped
            else grad
        )
        if not ctx.needs_input_grad[1]:
            return grad_x, None, None, None, None
        if scale.numel() == 1:
            inside = torch.dot(grad_x.flatten(), steps.flatten())
            integers = steps.round_().clamp_(low, high)
            change = torch.dot(grad.flatten(), integers.flatten()) - inside
            return grad_x, change.reshape(scale.shape), None, None, None
        integers = steps.round().clamp_(low, high)
        change = integers.mul_(grad).sub_(steps.mul_(grad_x))
        axes = [i for i, size in enumerate(scale.shape) if size == 1]
        return grad_x, change.sum(dim=axes, keepdim=True) if axes else change, None, None, None


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

    The scale of a weight is its absolute maximum (per output channel or per tensor) over the
    largest integer, that of an activation the clip over the largest integer.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return dequantized values, scale, zero point 0 and bit-width."""
        if self.observer_only:
            observed: tuple[Tensor, Tensor, Tensor, Tensor] = super().forward(x)
            return observed
        width = self.msb_clamp_bit_width_impl
        signed = self.int_quant.signed
        low, high = integer_range(width.bits, signed, self.int_quant.narrow_range)
        threshold = float(-low if signed else high)
        of_weight = isinstance(self.scaling_impl, StatsFromParameterScaling)
        scale = self._weight_scale(x, threshold) if of_weight else self._act_scale(x, threshold)
        y: Tensor = FakeQuant.apply(x, scale, low, high, not of_weight)  # type: ignore[no-untyped-call]
        return y, scale, self.zero_point_impl(x, scale, width.bit_width), width.bit_width

    def _act_scale(self, x: Tensor, threshold: float) -> Tensor:
        scaling = self.scaling_impl
        clip = scaling.value if isinstance(scaling, ParameterScaling) else scaling.value()
        clip = scaling.restrict_clamp_scaling(clip)
        # A tensor on the same device: CUDA turns division by a number into a multiplication.
        scale: Tensor = clip / clip.new_full((), threshold)
        return scale

    def _weight_scale(self, x: Tensor, threshold: float) -> Tensor:
        scaling = self.scaling_impl.stats_scaling_impl
        peak = self.scaling_impl.parameter_list_stats(x)
        peak = scaling.restrict_clamp_scaling(peak)
        scale: Tensor = peak / peak.new_full((), threshold)
        return scale

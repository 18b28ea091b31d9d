"""Brevitas layers whose training forward goes straight to the fused quantizer.

Brevitas wraps every tensor with its scale, zero point and width on the way through a layer; a
training step has no use for them. While a layer is exported, or where its quantizer is not the
fused one any more, it is Brevitas' own.
"""

from __future__ import annotations

from typing import Any

import brevitas.nn as qnn
from torch import Tensor
from torch.nn import functional as F

from adaqat_hw.quant._fused import FusedIntQuant


def _weight(layer: Any) -> Tensor | None:
    """Return the quantized weight, or None where Brevitas has to compute it."""
    quantizer = _fused(layer, layer.weight_quant, layer.weight_quant.tensor_quant)
    return None if quantizer is None else quantizer.quantize(layer.weight)[0]


def _activation(layer: Any, x: Any, relu: bool) -> Tensor | None:
    """Return the quantized activation, or None where Brevitas has to compute it."""
    chain = layer.act_quant.fused_activation_quant_proxy
    quantizer = None if chain is None else _fused(layer, layer.act_quant, chain.tensor_quant)
    if quantizer is None or not isinstance(x, Tensor):
        return None
    return quantizer.quantize(x, relu)[0]


def _fused(layer: Any, proxy: Any, quantizer: Any) -> FusedIntQuant | None:
    if layer.export_mode or proxy.export_mode or not proxy.is_quant_enabled:
        return None
    fused = isinstance(quantizer, FusedIntQuant) and not quantizer.observer_only
    return quantizer if fused else None


class FastConv1d(qnn.QuantConv1d):  # type: ignore[misc]  # brevitas is untyped
    """``QuantConv1d`` with a plain training forward."""

    def forward(self, x: Any) -> Any:
        """Map (n, C, L) to (n, M, L')."""
        weight = _weight(self)
        if weight is None:
            return super().forward(x)
        return self.inner_forward_impl(x, weight, self.bias)


class FastConv2d(qnn.QuantConv2d):  # type: ignore[misc]  # brevitas is untyped
    """``QuantConv2d`` with a plain training forward."""

    def forward(self, x: Any) -> Any:
        """Map (n, C, H, W) to (n, M, H', W')."""
        weight = _weight(self)
        if weight is None:
            return super().forward(x)
        return self.inner_forward_impl(x, weight, self.bias)


class FastLinear(qnn.QuantLinear):  # type: ignore[misc]  # brevitas is untyped
    """``QuantLinear`` with a plain training forward."""

    def forward(self, x: Any) -> Any:
        """Map (..., C) to (..., M)."""
        weight = _weight(self)
        return super().forward(x) if weight is None else F.linear(x, weight, self.bias)


class FastReLU(qnn.QuantReLU):  # type: ignore[misc]  # brevitas is untyped
    """``QuantReLU`` whose ReLU is the quantizer's clamp at 0."""

    def forward(self, x: Any) -> Any:
        """Map a tensor to one of the same shape."""
        y = _activation(self, x, relu=True)
        return super().forward(x) if y is None else y


class FastIdentity(qnn.QuantIdentity):  # type: ignore[misc]  # brevitas is untyped
    """``QuantIdentity`` with a plain training forward."""

    def forward(self, x: Any) -> Any:
        """Map a tensor to one of the same shape."""
        y = _activation(self, x, relu=False)
        return super().forward(x) if y is None else y

"""Brevitas quantizers of this package and handles on their bit-widths.

All have zero point 0 and a float scale, ``scale = range / largest integer``, so that a change of
width re-derives nothing. Weights: signed, narrow, one range per output channel (or per tensor):
``QuantConfig.weight_range`` says which. Activations: learned clip; after a ReLU unsigned,
elsewhere signed, never narrow. The network's input: a constant clip.
"""

from __future__ import annotations

from typing import Any

import brevitas.nn as qnn
from brevitas.core.function_wrapper import TensorClamp
from brevitas.export.onnx.qonnx.function import BrevitasQuantOp
from brevitas.export.onnx.qonnx.handler import BrevitasActQuantProxyHandler
from brevitas.inject.enum import ScalingImplType
from brevitas.proxy import ActQuantProxyFromInjector
from brevitas.quant import (
    Int8ActPerTensorFloat,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFloat,
    Uint8ActPerTensorFloat,
)
from brevitas.quant.base import ParamMinMaxInitScaling
from torch import nn

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant._fast import FastConv1d, FastConv2d, FastIdentity, FastLinear, FastReLU
from adaqat_hw.quant._fused import FusedIntQuant, SwitchableBitWidth
from adaqat_hw.quant._ranges import WIDEST, LearnedRange, SigmaRange
from adaqat_hw.schema import QuantConfig


class BitWidth:
    """The run-time width of one quantizer.

    Reads through its module on every access, so it stays valid after ``load_state_dict``, which
    makes Brevitas rebuild its quantizers. ``minimum`` is 1 for unsigned quantizers and 2 for
    signed ones, ``of_weight`` says whether it is a layer's weight that is quantized.
    """

    def __init__(self, name: str, module: nn.Module, *, weight: bool, signed: bool) -> None:
        self.name = name
        self.signed = signed
        self.minimum = 2 if signed else 1
        self._module = module
        self.of_weight = weight

    @property
    def bits(self) -> int:
        """The width in bits."""
        return int(self._slot().bits)

    def set(self, bits: int) -> None:
        """Switch to ``bits``.

        Raises:
            ConfigError: not an integer from ``minimum`` to 32.
        """
        if isinstance(bits, bool) or not isinstance(bits, int):
            raise ConfigError(
                f"Bit-width {bits!r} of {self.name!r} must be an integer from {self.minimum} to "
                f"{WIDEST}."
            )
        if not self.minimum <= bits <= WIDEST:
            kind = "signed" if self.signed else "unsigned"
            raise ConfigError(
                f"Bit-width {bits!r} of {self.name!r} must lie between {self.minimum} and "
                f"{WIDEST}: it is a {kind} quantizer."
            )
        self._slot().set(bits)

    @property
    def module(self) -> Any:
        """The layer or the activation quantizer that has this width."""
        return self._module

    @property
    def learned_range(self) -> LearnedRange | None:
        """What the largest integer stands for, where it is learned; else None."""
        scaling = self._quantizer().scaling_impl
        return scaling if isinstance(scaling, LearnedRange) else None

    def __repr__(self) -> str:
        return f"BitWidth({self.name!r}, bits={self.bits})"

    def _slot(self) -> Any:
        return self._quantizer().msb_clamp_bit_width_impl

    def _quantizer(self) -> Any:
        module: Any = self._module
        if self.of_weight:
            return module.weight_quant.tensor_quant
        return module.act_quant.fused_activation_quant_proxy.tensor_quant


class _ActHandler(BrevitasActQuantProxyHandler):  # type: ignore[misc]  # brevitas is untyped
    """Export unsigned 1-bit activations as Quant.

    Brevitas 0.13.4 writes every 1-bit quantizer as BipolarQuant, whose values are -1 and 1, where
    an unsigned one has 0 and 1. Delete when it tells the two apart.
    """

    def prepare_for_export(self, module: Any) -> None:
        """Collect scale and width, then choose the operator."""
        super().prepare_for_export(module)
        if module.is_quant_enabled:
            self.quant_op = BrevitasQuantOp


def quant_layer(layer: nn.Module, config: QuantConfig, bits: int, fused: bool = True) -> nn.Module:
    """Return the quantized twin of a Conv1d, Conv2d or Linear, holding the same weights.

    A bias stays float; FINN absorbs it into the thresholds that follow or into the output's bias.
    """
    per_channel = config.weight_scaling == "per_channel"
    base = Int8WeightPerChannelFloat if per_channel else Int8WeightPerTensorFloat
    common: dict[str, Any] = {
        "bias": layer.bias is not None,
        "bias_quant": None,
        "weight_quant": base.let(**_arithmetic(fused), **_weight_range(config)),
        "weight_bit_width": bits,
    }
    twin: nn.Module
    if isinstance(layer, nn.Linear):
        dense = FastLinear if fused else qnn.QuantLinear
        twin = dense(layer.in_features, layer.out_features, **common)
    elif isinstance(layer, nn.Conv1d | nn.Conv2d):
        kinds = (FastConv1d, FastConv2d) if fused else (qnn.QuantConv1d, qnn.QuantConv2d)
        twin = kinds[isinstance(layer, nn.Conv2d)](
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            stride=layer.stride,
            padding=layer.padding,
            padding_mode=layer.padding_mode,
            dilation=layer.dilation,
            groups=layer.groups,
            **common,
        )
    else:
        raise ConfigError(
            f"Layer type {type(layer).__name__!r} has no quantized twin; use Conv1d, Conv2d or "
            "Linear."
        )
    weight = layer.weight
    twin.to(device=weight.device, dtype=weight.dtype)
    twin.load_state_dict({**twin.state_dict(), **layer.state_dict()})
    twin.train(layer.training)
    if (scale := BitWidth("", twin, weight=True, signed=True).learned_range) is not None:
        scale.fit_weight(weight)
    return twin


def _weight_range(config: QuantConfig) -> dict[str, Any]:
    if config.weight_range == "absmax":
        return {}
    # Weights outside of the range get no gradient.
    clipped = {"tensor_clamp_impl": TensorClamp}
    if config.weight_range == "sigma":
        return {"scaling_impl": SigmaRange, **clipped}
    learned = {"scaling_init": 1.0, "scaled_gradient": True, "of_weight": True}
    return {"scaling_impl": LearnedRange, **learned, **clipped}


def quant_relu(config: QuantConfig, bits: int, fused: bool = True) -> nn.Module:
    """Return ReLU with an unsigned quantizer whose clip is learned from ``config.act_clip``."""
    quantizer = _learned_act(Uint8ActPerTensorFloat, config.act_clip, config, fused)
    return _module(FastReLU if fused else qnn.QuantReLU, quantizer, bits)


def quant_signed(config: QuantConfig, bits: int, fused: bool = True) -> nn.Module:
    """Return a signed quantizer whose clip is learned from ``config.act_clip``."""
    quantizer = _learned_act(Int8ActPerTensorFloat, config.act_clip, config, fused)
    return _module(FastIdentity if fused else qnn.QuantIdentity, quantizer, bits)


def quant_unsigned(
    config: QuantConfig, bits: int, fused: bool = True, *, clip: float | None = None
) -> nn.Module:
    """Return an unsigned quantizer without ReLU, for values that are never negative.

    Its clip is learned from ``clip``, the largest value they can take (1 for a softmax), or from
    ``config.act_clip`` where that is not known.
    """
    high = config.act_clip if clip is None else clip
    quantizer = _learned_act(Uint8ActPerTensorFloat, high, config, fused)
    return _module(FastIdentity if fused else qnn.QuantIdentity, quantizer, bits)


def quant_input(config: QuantConfig, bits: int, fused: bool = True) -> nn.Module:
    """Return the quantizer of the network's input: constant clip ``config.input_range``."""
    clip = config.input_range
    base, low = (
        (Int8ActPerTensorFloat, -clip) if config.input_signed else (Uint8ActPerTensorFloat, 0.0)
    )
    bounds = {"min_val": low, "max_val": clip, "scaling_impl_type": ScalingImplType.CONST}
    quantizer = _act(base, bounds, fused)
    return _module(FastIdentity if fused else qnn.QuantIdentity, quantizer, bits)


def _learned_act(base: Any, clip: float, config: QuantConfig, fused: bool) -> Any:
    settings = {
        "scaling_impl_type": ScalingImplType.PARAMETER,
        "scaling_impl": LearnedRange,
        "min_val": 0.0,
        "max_val": clip,
        "scaled_gradient": config.clip_gradient == "scaled",
    }
    return _act(base, settings, fused)


def _act(base: Any, settings: dict[str, Any], fused: bool) -> Any:
    class _Quantizer(ParamMinMaxInitScaling, base):  # type: ignore[misc]  # brevitas is untyped
        pass

    return _Quantizer.let(**settings, **_arithmetic(fused))


def _module(kind: Any, quantizer: Any, bits: int) -> nn.Module:
    module: nn.Module = kind(act_quant=quantizer, bit_width=bits)
    return module


def _arithmetic(fused: bool) -> dict[str, Any]:
    settings: dict[str, Any] = {"bit_width_impl": SwitchableBitWidth}
    if fused:
        settings["tensor_quant"] = FusedIntQuant
    return settings


def arm_export(module: nn.Module) -> None:
    """Give unsigned 1-bit activation quantizers below ``module`` the right export handler.

    Brevitas picks a handler where none is set and drops it after each export. One that is set
    already stays: an export in progress has prepared it.
    """
    for part in module.modules():
        if isinstance(part, ActQuantProxyFromInjector) and part.is_quant_enabled:
            bits = part.fused_activation_quant_proxy.tensor_quant.msb_clamp_bit_width_impl.bits
            ours = isinstance(part.export_handler, _ActHandler)
            if bits == 1 and not part.is_signed and not ours:
                part.export_handler = _ActHandler()
            elif bits != 1 and ours:
                part.export_handler = None

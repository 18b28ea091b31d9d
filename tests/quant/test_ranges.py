"""Ranges of quantizers: how they follow widths, data and weights."""

from __future__ import annotations

import math

import brevitas.nn as qnn
import pytest
import torch
from brevitas.inject.enum import ScalingImplType
from brevitas.quant import Int8WeightPerChannelFloat, Uint8ActPerTensorFloat
from brevitas.quant.base import ParamMinMaxInitScaling
from torch import nn

from adaqat_hw.quant import calibrate_clips, fit_weight_ranges, probing, quantize
from adaqat_hw.quant._ranges import gaussian_clip
from adaqat_hw.quant.quantizers import BitWidth, quant_layer, quant_relu
from adaqat_hw.schema import QuantConfig


def squared_error(module, width, bits, weight):
    width.set(bits)
    return float((module.quant_weight().value - weight).square().sum())


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_gaussian_clip_loses_least(bits):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200_000, generator=generator, dtype=torch.float64)
    high = 2 ** (bits - 1) - 1

    def error(clip):
        return float(((x * high / clip).round().clamp(-high, high) * clip / high - x).var())

    best = error(gaussian_clip(bits))
    assert best <= error(gaussian_clip(bits) * 0.93)
    assert best <= error(gaussian_clip(bits) * 1.07)


def test_wide_weights_are_not_clipped():
    assert gaussian_clip(9) == math.inf
    layer = nn.Linear(50, 4)
    module = quant_layer(layer, QuantConfig(), 12)
    module.weight_quant.tensor_quant.msb_clamp_bit_width_impl.set(12)
    scale = module.quant_weight().scale.flatten() * (2**11 - 1)
    torch.testing.assert_close(scale, layer.weight.detach().abs().amax(1))


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("weight_range", ["sigma", "learned"])
def test_normal_weights_lose_less_than_by_their_largest_magnitude(weight_range, bits):
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 8, 3)
    nn.init.normal_(layer.weight)
    errors = {}
    for kind in ("absmax", weight_range):
        module = quant_layer(layer, QuantConfig(weight_range=kind), bits)
        width = BitWidth("w", module, weight=True, signed=True)
        width.set(bits)
        fit_weight_ranges([width])
        errors[kind] = squared_error(module, width, bits, layer.weight.detach())
    assert errors[weight_range] < 0.85 * errors["absmax"]


@pytest.mark.parametrize("fan_in", [1, 2, 9])
def test_a_range_never_exceeds_the_largest_magnitude_and_a_channel_of_zeros_stays_zero(fan_in):
    layer = nn.Linear(fan_in, 5)
    with torch.no_grad():
        layer.weight[2] = 0.0
    for kind in ("sigma", "learned"):
        quantized = quant_layer(layer, QuantConfig(weight_range=kind), 8).quant_weight()
        assert quantized.value[2].abs().max() == 0
        largest = layer.weight.detach().abs().amax(1)
        assert (quantized.scale.flatten() * 127 <= largest * (1 + 1e-6) + 1e-8).all()
        assert quantized.value.isfinite().all()


def test_a_learned_range_follows_a_change_of_width_and_comes_back_exactly():
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 4, 3)
    nn.init.normal_(layer.weight)
    module = quant_layer(layer, QuantConfig(weight_range="learned"), 4)
    width = BitWidth("w", module, weight=True, signed=True)
    width.set(4)
    fit_weight_ranges([width])
    before = module.quant_weight().value
    width.set(2)
    narrow = module.quant_weight()
    expected = layer.weight.detach().square().mean((1, 2, 3)).sqrt() * gaussian_clip(2)
    torch.testing.assert_close(narrow.scale.flatten(), expected, rtol=0.1, atol=0)
    width.set(4)
    assert torch.equal(module.quant_weight().value, before)


def test_stock_layers_of_brevitas_compute_the_same():
    """Against quantizers that hold nothing of this package."""
    torch.manual_seed(0)
    layer, x = nn.Conv2d(3, 4, 3), torch.randn(2, 3, 8, 8)
    stock = qnn.QuantConv2d(3, 4, 3, weight_quant=Int8WeightPerChannelFloat, weight_bit_width=3)
    with torch.no_grad():
        stock.weight.copy_(layer.weight)
        stock.bias.copy_(layer.bias)
    ours = quant_layer(layer, QuantConfig(weight_range="absmax"), 3)
    assert torch.equal(ours(x), stock(x))

    class Clip(ParamMinMaxInitScaling, Uint8ActPerTensorFloat):
        scaling_impl_type = ScalingImplType.PARAMETER
        min_val, max_val, bit_width = 0.0, 2.5, 3

    relu = qnn.QuantReLU(act_quant=Clip)
    assert torch.equal(quant_relu(QuantConfig(act_clip=2.5), 3)(x), relu(x))


class Small(nn.Module):
    """Convolution, residual sum, classifier."""

    def __init__(self):
        super().__init__()
        self.a, self.na = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.b, self.nb = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.na(self.a(x)))
        y = torch.relu(self.nb(self.b(x)) + x)
        return self.fc(self.drop(y.mean((2, 3))))


def small(bits, **keys):
    torch.manual_seed(0)
    config = QuantConfig(**keys)
    about = {"input_shape": (1, 8, 8), "name": "small", "num_classes": 3}
    return quantize(Small().train(), config, **about, weight_bits=4, act_bits=bits)


def clips(net):
    scales = {name: width.learned_range for name, width in net.act_widths.items()}
    return {name: float(scale.value) for name, scale in scales.items() if scale is not None}


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_a_calibrated_clip_loses_least(bits):
    net, x = small(bits), torch.randn(16, 1, 8, 8)
    calibrate_clips(net, x)
    seen = {}
    modules = {width.module: name for name, width in net.act_widths.items()}

    def keep(module, inputs, output):
        seen[modules[module]] = inputs[0], output

    for module in modules:
        module.register_forward_hook(keep)
    with probing(net, dropout=False):
        net(x)
    for name, clip in clips(net).items():
        value, output = seen[name]
        width = net.act_widths[name]
        target = value if width.signed else value.clamp_min(0)
        error = float((output - target).square().mean())
        for factor in (0.8, 1.25):
            width.learned_range.value.data.fill_(clip * factor)
            other = float((width.module(value) - target).square().mean())
            # The batch alone, and a quantizer that sees two addends fits both of them.
            assert error <= other * 1.05 or name.endswith("join_quant")
        width.learned_range.value.data.fill_(clip)


def test_calibration_changes_nothing_but_clips():
    net, x = small(3), torch.randn(16, 1, 8, 8)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    random = torch.get_rng_state()
    calibrate_clips(net, x)
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert all(k.endswith(("scaling_impl.value", "scaling_impl.table")) for k in changed)
    assert torch.equal(random, torch.get_rng_state())
    assert net.training
    assert net.network.drop.training


def test_calibration_of_one_quantizer_leaves_the_others():
    net, x = small(3), torch.randn(16, 1, 8, 8)
    calibrate_clips(net, x)
    before = clips(net)
    name, width = next((n, w) for n, w in net.act_widths.items() if w.learned_range is not None)
    width.set(2)
    calibrate_clips(net, x, [width])
    after = clips(net)
    assert {n for n in after if after[n] != before[n]} == {name}
    assert after[name] < before[name]


def test_a_probe_sees_the_clip_of_its_width():
    net, x = small(4), torch.randn(16, 1, 8, 8)
    calibrate_clips(net, x)
    width = next(w for w in net.act_widths.values() if w.learned_range is not None)
    width.set(2)
    value = torch.randn(500)
    probed = width.module(value).max()
    calibrate_clips(net, x, [width])
    torch.testing.assert_close(probed, width.module(value).max())


def test_a_quantizer_of_zeros_keeps_its_clip():
    net = small(3)
    with torch.no_grad():
        net.network.na.weight.zero_()
        net.network.na.bias.zero_()
    calibrate_clips(net, torch.randn(4, 1, 8, 8))
    assert 6.0 in clips(net).values()
    assert all(math.isfinite(clip) and clip > 0 for clip in clips(net).values())

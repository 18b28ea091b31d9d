from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant._fused import FakeQuant
from adaqat_hw.quant.quantizers import (
    BitWidth,
    quant_input,
    quant_layer,
    quant_relu,
    quant_signed,
)
from adaqat_hw.schema import QuantConfig

ACTS = {"relu": quant_relu, "signed": quant_signed, "input": quant_input}
LAYERS = {
    "conv2d": (lambda: nn.Conv2d(3, 4, 3, padding=1), (2, 3, 6, 6)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4, bias=False), (2, 4, 6, 6)),
    "conv1d": (lambda: nn.Conv1d(3, 4, 3, stride=2), (2, 3, 9)),
    "linear": (lambda: nn.Linear(7, 5), (6, 7)),
}


def width_of(module, kind="x"):
    weight = hasattr(module, "weight_quant")
    signed = weight or module.act_quant.is_signed
    return BitWidth(kind, module, weight=weight, signed=signed)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(ACTS)),
    bits=st.integers(1, 8),
    clip=st.floats(0.1, 20),
    seed=st.integers(0, 1000),
)
def test_fused_activations_equal_stock_brevitas(kind, bits, clip, seed):
    bits = max(bits, 1 if kind == "relu" else 2)
    config = QuantConfig(act_clip=clip, input_range=clip)
    pair = [ACTS[kind](config, 8, fused) for fused in (True, False)]
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(5, 3, 4, generator=generator) * clip
    grad = torch.randn(x.shape, generator=generator)
    inputs = [x.clone().requires_grad_() for _ in pair]
    outputs = []
    for module, value in zip(pair, inputs, strict=True):
        width_of(module).set(bits)
        outputs.append(module(value))
        outputs[-1].backward(grad)
    assert torch.equal(*outputs)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-5, atol=1e-6)
    fused, stock = [list(module.parameters()) for module in pair]
    assert len(fused) == len(stock) == (0 if kind == "input" else 1)
    for a, b in zip(fused, stock, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["relu", "signed"])
def test_halves_at_the_ends_of_the_range_have_stock_gradients(kind):
    config = QuantConfig(act_clip=8.0 if kind == "signed" else 15.0)  # both: scale 1
    x = torch.arange(-20, 20, 0.5)
    grads = []
    for fused in (True, False):
        value = x.clone().requires_grad_()
        ACTS[kind](config, 4, fused)(value).sum().backward()
        grads.append(value.grad)
    assert torch.equal(*grads)
    assert 0 < grads[0].sum() < len(x)


@pytest.mark.parametrize("low", [-8, -7, 0])
@pytest.mark.parametrize("high", [7, 8])
def test_gradient_mask_is_the_range_of_the_rounded_value(low, high):
    x = torch.arange(-12, 12, 0.25, requires_grad=True)
    FakeQuant.apply(x, torch.tensor(1.0), low, high, False).sum().backward()
    rounded = x.detach().round()
    assert torch.equal(x.grad, ((rounded >= low) & (rounded <= high)).float())


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("scaling", ["per_channel", "per_tensor"])
@pytest.mark.parametrize("weight_range", ["absmax", "sigma", "learned"])
@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_fused_weights_equal_stock_brevitas(kind, weight_range, scaling, bits):
    make, shape = LAYERS[kind]
    layer, x = make(), torch.randn(shape)
    config = QuantConfig(weight_scaling=scaling, weight_range=weight_range)
    pair = [quant_layer(layer, config, 8, fused) for fused in (True, False)]
    outputs = []
    for module in pair:
        width_of(module).set(bits)
        outputs.append(module(x))
        torch.manual_seed(1)
        outputs[-1].backward(torch.randn(outputs[-1].shape))
    assert torch.equal(*outputs)
    names = [name for name, _ in pair[0].named_parameters()]
    for name, a, b in zip(names, *[m.parameters() for m in pair], strict=True):
        # The gradient of a range is a small difference of large sums.
        rtol = 1e-3 if name.endswith("scaling_impl.value") else 2e-4
        torch.testing.assert_close(a.grad, b.grad, rtol=rtol, atol=2e-5)


@pytest.mark.parametrize("scaling", ["per_channel", "per_tensor"])
def test_weights_are_signed_narrow_and_scaled_by_their_absolute_maximum(scaling):
    layer = nn.Conv2d(3, 4, 3)
    config = QuantConfig(weight_scaling=scaling, weight_range="absmax")
    quantized = quant_layer(layer, config, 3).quant_weight()
    integers = quantized.value / quantized.scale
    assert integers.round().unique().tolist() == [-3, -2, -1, 0, 1, 2, 3]
    peak = (
        layer.weight.abs().amax((1, 2, 3)) if scaling == "per_channel" else layer.weight.abs().max()
    )
    torch.testing.assert_close(quantized.scale.flatten(), (peak / 3).flatten())
    assert quantized.zero_point == 0


def test_activation_ranges():
    config = QuantConfig(act_clip=3.0, input_range=2.0)
    x = torch.linspace(-10, 10, 4001)
    relu, signed, given_in = (ACTS[k](config, 2)(x).unique() for k in ("relu", "signed", "input"))
    torch.testing.assert_close(relu, torch.tensor([0.0, 1.0, 2.0, 3.0]))
    torch.testing.assert_close(signed, torch.tensor([-3.0, -1.5, 0.0, 1.5]))
    torch.testing.assert_close(given_in, torch.tensor([-2.0, -1.0, 0.0, 1.0]))
    unsigned = quant_input(config.model_copy(update={"input_signed": False}), 1)(x).unique()
    torch.testing.assert_close(unsigned, torch.tensor([0.0, 2.0]))


def test_the_clip_is_learned_and_the_input_range_is_constant():
    config = QuantConfig()
    assert [p.item() for p in quant_relu(config, 4).parameters()] == [6.0]
    assert list(quant_input(config, 8).parameters()) == []


def test_switching_there_and_back_is_exact():
    module = quant_layer(nn.Linear(7, 5), QuantConfig(), 4)
    width, x = width_of(module), torch.randn(3, 7)
    before = module(x)
    width.set(2)
    assert width.bits == 2
    assert not torch.equal(module(x), before)
    width.set(4)
    assert torch.equal(module(x), before)


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        *(
            (bits, f"Bit-width {bits} of 'fc' must lie between 2 and 32: it is a signed quantizer.")
            for bits in (0, 1, 33)
        ),
        (2.0, "Bit-width 2.0 of 'fc' must be an integer from 2 to 32."),
        (True, "Bit-width True of 'fc' must be an integer from 2 to 32."),
    ],
)
def test_impossible_widths_are_refused(bits, text):
    width = width_of(quant_layer(nn.Linear(7, 5), QuantConfig(), 4), "fc")
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        width.set(bits)
    assert width.bits == 4


def test_layers_without_a_twin_are_refused():
    text = "Layer type 'Bilinear' has no quantized twin; use Conv1d, Conv2d or Linear."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        quant_layer(nn.Bilinear(2, 2, 2), QuantConfig(), 4)

"""Under torch.compile the quantizers are written otherwise; they must compute the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._dynamo import reset
from torch._dynamo.testing import CompileCounter

from adaqat_hw.quant import quantize
from adaqat_hw.quant._fused import FakeQuant, FakeQuantCompiled, integer_range
from adaqat_hw.schema import QuantConfig


@pytest.fixture(autouse=True)
def _fresh_dynamo():
    reset()
    yield
    reset()


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("scale", [0.037, 1.0])
def test_both_forms_of_the_function_agree(relu, bits, scale):
    low, high = integer_range(bits, signed=not relu, narrow=False)
    x = torch.cat(
        [torch.randn(500) * high * scale, torch.arange(-2.0 * high, 2.0 * high) * scale / 2]
    )
    grad = torch.randn(x.shape)
    results = []
    for function, bounds in (
        (FakeQuant, (low, high)),
        (FakeQuantCompiled, (torch.tensor(float(low)), torch.tensor(float(high)))),
    ):
        value, step = x.clone().requires_grad_(), torch.tensor(scale, requires_grad=True)
        y = function.apply(value, step, *bounds, relu)
        y.backward(grad)
        results.append((y.detach(), value.grad, step.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    torch.testing.assert_close(results[0][2], results[1][2], rtol=1e-4, atol=1e-3)


def test_a_compiled_network_computes_the_same_and_widths_compile_nothing_anew():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 3)
    )
    quantized = quantize(
        net, QuantConfig(ends="learned"), input_shape=(1, 8, 8), name="tiny", num_classes=3
    )
    counter = CompileCounter()
    compiled = torch.compile(quantized, backend=counter)
    x = torch.randn(5, 1, 8, 8)
    for bits in (8, 2, 5, 3):
        quantized.apply_plan(quantized.uniform_plan(bits, bits))
        gradients = []
        for forward in (quantized, compiled):
            quantized.zero_grad()
            y = forward(x)
            y.square().sum().backward()
            gradients.append((y.detach(), [p.grad.clone() for p in quantized.parameters()]))
        assert torch.equal(gradients[0][0], gradients[1][0])
        for a, b in zip(gradients[0][1], gradients[1][1], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert counter.frame_count == 1

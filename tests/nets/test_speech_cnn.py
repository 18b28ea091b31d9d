from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from adaqat_hw import nets
from adaqat_hw.quant import network_spec
from adaqat_hw.schema import NetworkConfig


def build(**options):
    return nets.build(NetworkConfig(name="speech-cnn", options=options))


@pytest.mark.parametrize("pooling", ["average", "none"])
def test_macs_equal_torchs_counter(pooling):
    net = build(pooling=pooling)
    layers = network_spec(net, (12, 29), "speech-cnn", 9).layers
    with FlopCounterMode(display=False) as counter:
        net.eval()(torch.zeros(1, 12, 29))
    assert sum(layer.macs for layer in layers) == counter.get_total_flops() // 2
    assert [layer.kind for layer in layers] == ["conv", "conv", "conv", "linear"]
    assert layers[0].macs == 29 * 32 * 12 * 5
    assert [layer.output_shape for layer in layers[:3]] == [(32, 29), (64, 15), (64, 8)]
    assert layers[-1].in_channels == (64 if pooling == "average" else 64 * 8)


def test_convolutions_run_over_time_only():
    net = build(channels=(4, 4), kernel=3)
    convs = [m for m in net.modules() if isinstance(m, nn.Conv1d)]
    assert [(m.kernel_size, m.stride, m.padding) for m in convs] == [
        ((3,), (1,), (1,)),
        ((3,), (2,), (1,)),
    ]
    assert not any(isinstance(m, nn.Conv2d) for m in net.modules())


@pytest.mark.parametrize("steps", [1, 2, 29, 30])
def test_any_number_of_time_steps_fits(steps):
    for pooling in ("average", "none"):
        net = build(input_shape=(12, steps), pooling=pooling).eval()
        assert net(torch.zeros(2, 12, steps)).shape == (2, 9)

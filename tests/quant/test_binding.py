from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant import bind, live_loss, probe_losses, quantize
from adaqat_hw.schema import AdaqatConfig, QuantConfig


def members(binding):
    return {name: [s.name for s in slots] for name, slots in binding.groups.items()}


@pytest.fixture
def network(residual, shape):
    return quantize(residual, QuantConfig(), **shape)


@pytest.fixture
def batch():
    return torch.randn(8, 1, 8, 8), torch.randint(0, 3, (8,))


def test_network_granularity_drives_all_but_the_ends(network):
    binding = bind(network, AdaqatConfig(initial_bits=4.5))
    assert members(binding) == {
        "weights": ["body.0", "body.3"],
        "acts": ["relu0", "body.2", "relu_join_quant"],
    }
    assert binding.controller.bits == {"weights": 5, "acts": 5}
    assert [r.weight_bits for r in network.plan("adaqat").layers] == [8, 5, 5, 8]
    assert binding.controller.hard_cost({"weights": 3, "acts": 4}) == 12


def test_layer_granularity_names_and_price(network):
    binding = bind(network, AdaqatConfig(granularity="layer", initial_bits=4))
    assert members(binding) == {
        "weights:body.0": ["body.0"],
        "weights:body.3": ["body.3"],
        "acts:relu0": ["relu0"],
        "acts:body.2": ["body.2", "relu_join_quant"],  # no learned quantizer follows the join
    }
    bits = {"weights:body.0": 2, "acts:relu0": 3, "weights:body.3": 5, "acts:body.2": 4}
    assert binding.controller.hard_cost(bits) == (2 * 3 + 5 * 4) / 2  # equal MACs


def test_layer_granularity_with_learned_ends_prices_the_first_layer_at_the_input(residual, shape):
    network = quantize(residual, QuantConfig(ends="learned"), **shape)
    binding = bind(network, AdaqatConfig(granularity="layer"))
    assert "acts:relu" in binding.groups
    assert members(binding)["acts:relu"] == ["relu", "relu_join_quant"]
    macs = [layer.macs for layer in network.spec.layers]
    bits = dict.fromkeys(binding.groups, 2)
    expected = (macs[0] * 2 * 8 + sum(macs[1:]) * 4) / sum(macs)
    assert binding.controller.hard_cost(bits) == pytest.approx(expected)


def test_signed_quantizers_stop_at_two_bits(network):
    binding = bind(network, AdaqatConfig(min_act_bits=1))
    binding.apply_bits({"weights": 2, "acts": 1})
    assert network.act_widths["relu0"].bits == 1
    assert network.act_widths["relu_join_quant"].bits == 2


def test_initial_bits_below_the_minimum_start_at_it(network):
    binding = bind(network, AdaqatConfig(initial_bits=1.0, min_weight_bits=3, min_act_bits=2))
    assert binding.controller.bits == {"weights": 3, "acts": 2}


def test_nothing_to_learn_is_refused():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    network = quantize(net, QuantConfig(), input_shape=(4,), name="two", num_classes=2)
    with pytest.raises(ConfigError, match="'two' has no layer between its fixed ends"):
        bind(network, AdaqatConfig())


def test_probes_measure_each_neighbour_and_leave_no_trace(network, batch):
    binding = bind(network, AdaqatConfig(initial_bits=4))
    network.train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    live = live_loss(network, F.cross_entropy, *batch)
    losses = probe_losses(network, binding, F.cross_entropy, *batch)
    assert list(losses) == ["weights", "acts"]
    for name, other in (
        ("weights", {"weights": 3, "acts": 4}),
        ("acts", {"weights": 4, "acts": 3}),
    ):
        binding.apply_bits(other)
        assert live_loss(network, F.cross_entropy, *batch) == losses[name] != live
    binding.apply()
    after = network.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())
    assert network.training


def test_the_training_loss_is_the_live_loss(network, batch):
    bind(network, AdaqatConfig(initial_bits=3))
    network.train()
    live = live_loss(network, F.cross_entropy, *batch)
    assert F.cross_entropy(network(batch[0]), batch[1]).item() == live


def test_widths_come_back_after_an_exception(network, batch):
    binding = bind(network, AdaqatConfig(initial_bits=4))
    plan = network.plan("adaqat")

    def broken(logits, targets):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        probe_losses(network, binding, broken, *batch)
    assert network.plan("adaqat") == plan


def test_all_probes_see_the_same_dropout(shape):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.5))
    net.extend([nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)])
    network = quantize(net, QuantConfig(), **shape)
    binding = bind(network, AdaqatConfig(initial_bits=8))
    x, y = torch.randn(8, 1, 8, 8), torch.randint(0, 3, (8,))
    first = probe_losses(network, binding, F.cross_entropy, x, y)
    assert probe_losses(network, binding, F.cross_entropy, x, y) == first
    torch.rand(1)
    assert probe_losses(network, binding, F.cross_entropy, x, y) != first


def test_a_subset_can_be_probed(network, batch):
    binding = bind(network, AdaqatConfig())
    losses = probe_losses(network, binding, F.cross_entropy, *batch, names=["acts"])
    assert list(losses) == ["acts"]


def test_short_training_lowers_the_loss_and_the_widths(residual, shape):
    torch.manual_seed(3)
    centres = torch.randn(3, 1, 8, 8)
    y = torch.randint(0, 3, (256,))
    x = centres[y] + 0.3 * torch.randn(256, 1, 8, 8)
    network = quantize(residual, QuantConfig(input_range=3.0), **shape).train()
    config = AdaqatConfig(hardware_lambda=0.05, lr_weights=0.1, lr_acts=0.1, initial_bits=6)
    binding = bind(network, config)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for step in range(60):
        pick = torch.arange(64) + 64 * (step % 4)
        loss = F.cross_entropy(network(x[pick]), y[pick])
        optimizer.zero_grad()
        loss.backward()
        probes = probe_losses(network, binding, F.cross_entropy, x[pick], y[pick])
        binding.controller.step(probes, loss.item())
        optimizer.step()
        binding.apply()
        losses.append(loss.item())
    assert sum(losses[-4:]) < 0.5 * sum(losses[:4])
    assert max(binding.controller.bits.values()) < 6
    assert network.plan("adaqat").layer("body.0").weight_bits == binding.controller.bits["weights"]

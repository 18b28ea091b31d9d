"""Every registered network: traced, quantized, counted, trained a few steps, reloaded."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from adaqat_hw import nets
from adaqat_hw.cost import bitops
from adaqat_hw.quant import bind, probe_losses
from adaqat_hw.schema import AdaqatConfig, ProbingConfig, QuantConfig

NEW = ("mobilenet-v1", "mobilenet-v2", "resnet18", "speech-cnn")


@pytest.mark.parametrize("name", nets.names())
@pytest.mark.parametrize(("weights", "acts"), [(8, 8), (4, 3)])
def test_uniform_plans_cost_macs_times_widths(small, name, weights, acts):
    network = small(name)
    plan = network.uniform_plan(weights, acts)
    wanted = 0
    for layer in network.spec.layers:
        left = network.fixed_acts.get(layer.act, acts)
        right = network.fixed_weights.get(layer.name, weights)
        if layer.second_act is not None:
            right = network.fixed_acts.get(layer.second_act, acts)
        wanted += layer.macs * left * right
    assert bitops(network.spec, plan).total == wanted
    fixed = {network.spec.layers[0].act, network.spec.layers[-1].act, "input_quant"}
    joins = {join.quantizer for join in plan.joins}
    assert {act for act in network.fixed_acts if act not in joins} <= fixed
    assert {join.bits for join in plan.joins} <= {6}
    assert set(network.fixed_weights) <= {network.first_layer, network.last_layer}


@pytest.mark.parametrize("name", nets.names())
def test_a_training_step_reaches_all_weights_and_widths_change_the_output(small, samples, name):
    network = small(name)
    x, y = samples(network, 4)
    F.cross_entropy(network(x), y).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []
    assert all(bool(p.grad.isfinite().all()) for p in network.parameters())
    network.eval()
    wide = network(x)
    network.apply_plan(network.uniform_plan(2, 2))
    narrow = network(x)
    assert not torch.equal(wide, narrow)
    network.apply_plan(network.uniform_plan(8, 8))
    assert torch.equal(network(x), wide)


@pytest.mark.parametrize("name", nets.names())
def test_state_and_widths_reload_into_a_fresh_network(small, samples, name):
    network = small(name, bits=3)
    x, _ = samples(network, 4)
    network(x)  # moves batch-norm statistics
    fresh = small(name)
    fresh.load_state_dict(network.state_dict(), strict=True)
    assert fresh.plan("uniform") == network.plan("uniform")
    assert torch.equal(fresh.eval()(x), network.eval()(x))


@pytest.mark.parametrize(("granularity", "probes"), [("network", None), ("layer", 4)])
@pytest.mark.parametrize("name", NEW)
def test_widths_are_learned_for_a_few_steps(small, samples, name, granularity, probes):
    network = small(name)
    x, y = samples(network, 8)
    binding = bind(
        network,
        AdaqatConfig(
            granularity=granularity,
            probing=ProbingConfig(per_step=probes),
            **{"initial_bits": 4, "lr_weights": 1e-4, "lr_acts": 1e-4},
        ),
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    assert set(binding.controller.real.values()) == {4.0}
    probed = set()
    for step in range(1, 3):
        loss = F.cross_entropy(network(x), y)
        names = binding.probe_names(step)
        live, losses = probe_losses(
            binding, lambda: F.cross_entropy(network(x), y), names, live=loss
        )
        assert set(losses) == set(names)
        probed |= set(names)
        binding.step(losses, live, step)
        binding.apply()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert {n for n, real in binding.controller.real.items() if real != 4.0} == probed
    assert len(probed) == (2 if probes is None else min(8, len(binding.groups)))
    binding.freeze_all(3)
    binding.apply()
    assert binding.controller.done
    plan = network.plan("adaqat")
    assert binding.facts()["bitops"] == bitops(network.spec, plan).total
    network.apply_plan(plan)


@pytest.mark.parametrize("name", NEW)
def test_learned_ends_leave_only_a_fixed_input(small, name):
    network = small(name, QuantConfig(ends="learned", input="fixed", join_bits="acts"))
    assert network.fixed_weights == {}
    assert network.fixed_acts == {"input_quant": 8}
    network = small(name, QuantConfig(ends="learned", join_bits="acts"))
    assert (network.fixed_weights, network.fixed_acts) == ({}, {})
    assert network.input_acts == ("input_quant",)

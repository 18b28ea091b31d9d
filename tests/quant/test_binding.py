from __future__ import annotations

import json
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adaqat_hw.cost import BitOpsCost, bitops, weight_compression
from adaqat_hw.errors import ConfigError
from adaqat_hw.quant import bind, probe_losses, quantize
from adaqat_hw.schema import (
    AdaqatConfig,
    BudgetConfig,
    ProbingConfig,
    QuantConfig,
)


def loss_on(network, batch):
    """Return what measures the loss of the network on a batch."""
    return lambda: F.cross_entropy(network(batch[0]), batch[1])


def members(binding):
    return {name: [s.name for s in slots] for name, slots in binding.groups.items()}


@pytest.fixture
def network(residual, shape):
    return quantize(residual, QuantConfig(join_bits="acts"), **shape)


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
    assert binding.controller.cost.hard_loss({"weights": 3, "acts": 4}) == 12


def test_layer_granularity_names_and_price(network):
    binding = bind(network, AdaqatConfig(granularity="layer", initial_bits=4))
    assert members(binding) == {
        "weights:body.0": ["body.0"],
        "weights:body.3": ["body.3"],
        "acts:relu0": ["relu0"],
        "acts:body.2": ["body.2", "relu_join_quant"],  # no learned quantizer follows the join
    }
    bits = {"weights:body.0": 2, "acts:relu0": 3, "weights:body.3": 5, "acts:body.2": 4}
    assert binding.controller.cost.hard_loss(bits) == (2 * 3 + 5 * 4) / 2  # equal MACs


def test_layer_granularity_with_learned_ends_prices_the_first_layer_at_the_input(residual, shape):
    config = QuantConfig(ends="learned", input="fixed", join_bits="acts")
    network = quantize(residual, config, **shape)
    binding = bind(network, AdaqatConfig(granularity="layer"))
    assert "acts:relu" in binding.groups
    assert members(binding)["acts:relu"] == ["relu", "relu_join_quant"]
    macs = [layer.macs for layer in network.spec.layers]
    bits = dict.fromkeys(binding.groups, 2)
    expected = (macs[0] * 2 * 8 + sum(macs[1:]) * 4) / sum(macs)
    assert binding.controller.cost.hard_loss(bits) == pytest.approx(expected)


@pytest.mark.parametrize("granularity", ["network", "layer"])
def test_a_learned_input_is_priced_at_the_first_layer(residual, shape, granularity):
    network = quantize(residual, QuantConfig(ends="learned"), **shape)
    binding = bind(network, AdaqatConfig(granularity=granularity))
    assert members(binding)["input"] == ["input_quant"]
    macs = [layer.macs for layer in network.spec.layers]
    bits = {**dict.fromkeys(binding.groups, 2), "input": 5}
    expected = (macs[0] * 2 * 5 + sum(macs[1:]) * 4) / sum(macs)
    assert binding.controller.cost.hard_loss(bits) == pytest.approx(expected)
    assert binding.controller.cost.depends_on("input")
    binding.apply_bits(bits)
    plan = network.plan("adaqat")
    assert (plan.layer("conv0").weight_bits, plan.layer("conv0").act_bits) == (2, 5)


def test_an_input_alone_is_learned_between_its_bounds(residual, shape):
    config = QuantConfig(input="learned", input_bits=5)
    network = quantize(residual, config, **shape)
    for learn, names in (("*", {"weights", "acts", "input"}), ("conv0", {"input"})):
        binding = bind(network, AdaqatConfig(learn=(learn,)))
        assert set(binding.groups) == names
        width = binding.controller.widths["input"]
        assert (width.initial, width.minimum, width.maximum) == (5.0, 2, 5)
    # Where min_act_bits asks for more, input_bits is what it keeps.
    narrow = quantize(residual, QuantConfig(input="learned", input_bits=2), **shape)
    width = bind(narrow, AdaqatConfig(min_act_bits=3)).controller.widths["input"]
    assert (width.initial, width.minimum, width.maximum) == (2.0, 2, 2)


@pytest.mark.parametrize("name", ["learn", "groups"])
def test_an_input_that_no_pattern_reaches_is_refused_where_it_was_asked_for(residual, shape, name):
    config = (
        AdaqatConfig(learn=("body.*",))
        if name == "learn"
        else AdaqatConfig(granularity="group", groups={"inner": ("body.*",)})
    )
    text = (
        f"quant.input = 'learned', and no pattern of adaqat.{name} matches 'conv0', the layer that "
        "reads the input; add one, or set quant.input to 'fixed'."
    )
    network = quantize(residual, QuantConfig(input="learned"), **shape)
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        bind(network, config)
    # With the ends, it keeps its width.
    follows = quantize(residual, QuantConfig(ends="learned", input_bits=6), **shape)
    bind(follows, config)
    assert follows.plan("adaqat").layer("conv0").act_bits == 6


def test_group_granularity_shares_one_pair_of_widths(network):
    config = AdaqatConfig(granularity="group", groups={"inner": ("body.*",)}, initial_bits=4)
    binding = bind(network, config)
    assert members(binding) == {
        "weights:inner": ["body.0", "body.3"],
        "acts:inner": ["relu0", "body.2", "relu_join_quant"],
    }
    assert binding.controller.cost.hard_loss({"weights:inner": 3, "acts:inner": 4}) == 12


def test_layers_that_do_not_learn_keep_other_bits(network):
    config = AdaqatConfig(granularity="layer", learn=("body.3",), other_bits="5/6", initial_bits=4)
    binding = bind(network, config)
    assert members(binding) == {
        "weights:body.3": ["body.3"],
        "acts:body.2": ["body.2", "relu_join_quant"],
    }
    binding.apply_bits({"weights:body.3": 2, "acts:body.2": 3})
    plan = network.plan("adaqat")
    assert [(r.weight_bits, r.act_bits) for r in plan.layers] == [(8, 8), (5, 6), (2, 3), (8, 8)]
    # Only the layer that learns has a price.
    assert binding.controller.cost.hard_loss({"weights:body.3": 2, "acts:body.2": 3}) == 6


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"granularity": "layer", "min_act_bits": 1},
        {"granularity": "layer", "learn": ("body.0",), "other_bits": "3/1"},
        {"granularity": "group", "groups": {"one": ("body.0",)}},
    ],
)
@pytest.mark.parametrize("bits", [1, 3])
def test_bitops_in_the_log_are_those_of_the_plan(network, config, bits):
    binding = bind(network, AdaqatConfig(**config, initial_bits=bits))
    plan = network.plan("adaqat")
    assert binding.facts()["bitops"] == bitops(network.spec, plan).total
    assert binding.budget_result() is None


def train_widths(network, binding, batch, start, stop, steps, every=2):
    for step in range(start, stop):
        binding.progress(step / steps)
        if step % every == 0:
            names = binding.probe_names(step)
            live, losses = probe_losses(binding, loss_on(network, batch), names)
            assert list(losses) == names
            binding.step(losses, live, step)
            binding.apply()


@pytest.mark.parametrize("granularity", ["network", "layer"])
def test_a_budget_is_met_exactly_as_counted_on_the_plan(network, batch, granularity):
    config = AdaqatConfig(
        granularity=granularity,
        lr_weights=0.2,
        lr_acts=0.2,
        hysteresis=0.1,
        probing=ProbingConfig(every=2, per_step=1, gradient_ema=0.5),
        budget=BudgetConfig(bitops=400_000),
    )
    binding = bind(network, config)
    network.train()
    train_widths(network, binding, batch, 0, 120, 120)
    assert binding.facts()["budget"]["reached"] < 650_000
    binding.freeze_all(120)
    binding.apply()
    result = binding.budget_result()
    total = bitops(network.spec, network.plan("adaqat")).total
    assert result.met
    assert result.reached == total == binding.facts()["bitops"] <= 400_000
    assert binding.controller.done
    assert binding.probe_names(121) == []


def test_weight_compression_learns_weights_and_holds_activations(network, batch):
    config = AdaqatConfig(
        granularity="layer",
        rule="gradient",
        budget=BudgetConfig(compression=6.0),
        lr_weights=0.3,
        initial_bits=6.0,
    )
    binding = bind(network, config)
    assert binding.probe_names(0) == ["weights:body.0", "weights:body.3"]
    network.train()
    train_widths(network, binding, batch, 0, 60, 60, every=1)
    binding.freeze_all(60)
    binding.apply()
    plan = network.plan("adaqat")
    assert weight_compression(network.spec, plan).total == binding.budget_result().reached >= 6.0
    assert [row.act_bits for row in plan.layers] == [8, 6, 6, 8]


def test_resume_is_bit_identical(residual, shape, batch):
    config = AdaqatConfig(
        granularity="layer",
        lr_weights=0.5,
        lr_acts=0.5,
        hysteresis=0.05,
        probing=ProbingConfig(every=2, per_step=3, gradient_ema=0.8),
        budget=BudgetConfig(bitops=400_000),
    )

    def fresh():
        network = quantize(residual, QuantConfig(), **shape)
        return network.train(), bind(network, config)

    network, straight = fresh()
    train_widths(network, straight, batch, 0, 20, 60)
    state = json.loads(json.dumps(straight.state_dict()))
    train_widths(network, straight, batch, 20, 50, 60)
    network, resumed = fresh()
    resumed.load_state_dict(state)
    resumed.apply()
    train_widths(network, resumed, batch, 20, 50, 60)
    assert straight.state_dict() == resumed.state_dict()
    assert straight.facts() == resumed.facts()
    assert json.loads(json.dumps(straight.facts())) == straight.facts()


def test_a_state_under_a_budget_does_not_fit_a_run_without(network):
    free = bind(network, AdaqatConfig())
    state = bind(network, AdaqatConfig(budget=BudgetConfig(bitops=400_000))).state_dict()
    text = (
        "The saved widths were learned under a budget; was the configuration changed? Train again."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        free.load_state_dict(state)


SPAN = "choose a budget between these two, or"
LOWER = f"{SPAN} lower adaqat.min_weight_bits or adaqat.min_act_bits."


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        (
            {"bitops": 1e5},
            "bitops = 100000.0 is out of reach for 'tiny': with all learned widths at their "
            "minimum it still comes to 221,952 BitOPs, and it starts at 1,327,872 BitOPs; "
            f"{LOWER}",
        ),
        (
            {"bitops": 1e8},
            "bitops = 100000000.0 asks for nothing: 'tiny' starts at 1,327,872 BitOPs and can "
            f"come to 221,952 BitOPs; {SPAN} raise adaqat.initial_bits.",
        ),
        (
            {"compression": 30.0},
            "compression = 30.0 is out of reach for 'tiny': with all learned widths at their "
            "minimum it still comes to 11.20x weight compression, and it starts at 4.00x weight "
            f"compression; {LOWER}",
        ),
        (
            {"compression": 2.0},
            "compression = 2.0 asks for nothing: 'tiny' starts at 4.00x weight compression and can "
            f"come to 11.20x weight compression; {SPAN} raise adaqat.initial_bits.",
        ),
    ],
)
def test_what_cannot_be_met_is_refused_before_training(network, budget, text):
    with pytest.raises(ConfigError, match=f"^adaqat\\.budget\\.{re.escape(text)}$"):
        bind(network, AdaqatConfig(budget=budget))


def test_a_pattern_that_matches_no_layer_is_refused_before_training(network):
    text = (
        "Pattern 'conv0' of adaqat.learn matches no layer of 'tiny' that can learn a width; these "
        "can: body.0, body.3."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        bind(network, AdaqatConfig(learn=("conv0",)))


def test_widths_can_be_learned_under_a_cost_of_ones_own(network):
    """It is made from the layers' widths, and what it does not limit is held."""
    layers = []

    def only_the_second(listed):
        layers.extend(listed)
        return BitOpsCost([row for row in listed if row.layer == "body.3"], limit=50_000)

    binding = bind(network, AdaqatConfig(granularity="layer"), only_the_second)
    assert [row.layer for row in layers] == ["conv0", "body.0", "body.3", "fc"]
    assert [(row.second.width, row.acts.width) for row in layers] == [
        (8, 8),
        ("weights:body.0", "acts:relu0"),
        ("weights:body.3", "acts:body.2"),
        (8, 8),
    ]
    assert binding.probe_names(0) == ["weights:body.3", "acts:body.2"]
    assert set(binding.controller.frozen) == {"weights:body.0", "acts:relu0"}
    binding.freeze_all(1)
    assert binding.budget_result().reached <= 50_000


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
    text = (
        "Network 'two' has no layer between its fixed ends, so no width can be learned; set "
        "quant.ends to 'learned' or add layers."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        bind(network, AdaqatConfig())


def test_probes_measure_each_neighbour_and_leave_no_trace(network, batch):
    binding = bind(network, AdaqatConfig(initial_bits=4))
    network.train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    live, losses = probe_losses(binding, loss_on(network, batch))
    assert list(losses) == ["weights", "acts"]
    for name, other in (
        ("weights", {"weights": 3, "acts": 4}),
        ("acts", {"weights": 4, "acts": 3}),
    ):
        binding.apply_bits(other)
        assert probe_losses(binding, loss_on(network, batch), [])[0] == losses[name] != live
    binding.apply()
    after = network.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())
    assert network.training


def test_the_training_loss_is_the_live_loss(network, batch):
    binding = bind(network, AdaqatConfig(initial_bits=3))
    network.train()
    live, _ = probe_losses(binding, loss_on(network, batch), [])
    training = loss_on(network, batch)()
    assert training.item() == live
    assert probe_losses(binding, loss_on(network, batch), [], live=training)[0] == live


def test_losses_are_means_over_processes_in_one_transfer(network, batch):
    binding = bind(network, AdaqatConfig(initial_bits=4))
    live, losses = probe_losses(binding, loss_on(network, batch))
    sent = []

    def mean(values):
        sent.append(values.tolist())
        return 2 * values

    shared = probe_losses(binding, loss_on(network, batch), mean=mean)
    assert sent == [[live, *losses.values()]]
    assert shared == (2 * live, {name: 2 * loss for name, loss in losses.items()})


def test_widths_come_back_after_an_exception(network, batch):
    binding = bind(network, AdaqatConfig(initial_bits=4))
    plan = network.plan("adaqat")

    def broken():
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        probe_losses(binding, broken, live=torch.zeros(()))
    assert network.plan("adaqat") == plan


def test_all_probes_see_the_same_dropout(shape):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.5))
    net.extend([nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)])
    network = quantize(net, QuantConfig(), **shape)
    binding = bind(network, AdaqatConfig(initial_bits=8))
    loss = loss_on(network, (torch.randn(8, 1, 8, 8), torch.randint(0, 3, (8,))))
    first = probe_losses(binding, loss)
    assert probe_losses(binding, loss) == first
    torch.rand(1)
    assert probe_losses(binding, loss) != first


def test_a_subset_can_be_probed(network, batch):
    binding = bind(network, AdaqatConfig())
    _, losses = probe_losses(binding, loss_on(network, batch), ["acts"])
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
        live, probes = probe_losses(binding, loss_on(network, (x[pick], y[pick])), live=loss)
        binding.controller.step(probes, live)
        optimizer.step()
        binding.apply()
        losses.append(loss.item())
    assert sum(losses[-4:]) < 0.5 * sum(losses[:4])
    assert max(binding.controller.bits.values()) < 6
    assert network.plan("adaqat").layer("body.0").weight_bits == binding.controller.bits["weights"]

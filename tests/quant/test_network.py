from __future__ import annotations

import copy
import io
import re

import pytest
import torch
from torch import nn

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant import format_plan, quantize
from adaqat_hw.schema import BitWidthPlan, QuantConfig


def bits(plan: BitWidthPlan):
    return [(row.layer, row.weight_bits, row.act_bits) for row in plan.layers]


def test_a_plain_network_in_a_few_lines():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)
    )
    quantized = quantize(
        net, QuantConfig(), input_shape=(1, 8, 8), name="mine", num_classes=2, weight_bits=3
    )
    out = quantized(torch.randn(5, 1, 8, 8))
    assert type(out) is torch.Tensor
    assert out.shape == (5, 2)
    assert bits(quantized.plan("manual")) == [("0", 8, 8), ("2", 3, 8), ("5", 8, 8)]


def test_high_widths_come_close_to_the_float_network(residual, shape):
    residual.eval()
    x = torch.rand(16, 1, 8, 8) * 2 - 1
    quantized = quantize(residual, QuantConfig(input_range=1.0), **shape)
    assert not quantized.training
    for width in (*quantized.weight_widths.values(), *quantized.act_widths.values()):
        width.set(16)
    torch.testing.assert_close(quantized(x), residual(x), rtol=0, atol=2e-3)


def test_the_float_network_is_left_as_it_is(residual, shape):
    before = {k: v.clone() for k, v in residual.state_dict().items()}
    quantized = quantize(residual, QuantConfig(), **shape)
    quantized.train()(torch.randn(4, 1, 8, 8)).sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in residual.state_dict().items())
    assert all(p.grad is None for p in residual.parameters())


def test_fixed_ends_and_input(residual, shape):
    config = QuantConfig(end_weight_bits=7, end_act_bits=6, input_bits=5, join_bits=4)
    quantized = quantize(residual, config, **shape, weight_bits=2.2, act_bits=3.0)
    assert (quantized.first_layer, quantized.last_layer) == ("conv0", "fc")
    assert bits(quantized.plan("manual")) == [
        ("conv0", 7, 5),
        ("body.0", 3, 3),
        ("body.3", 3, 3),
        ("fc", 7, 6),
    ]
    assert [(j.quantizer, j.bits, j.signed) for j in quantized.plan("manual").joins] == [
        ("relu_join_quant", 4, True)
    ]


def test_joins_at_the_width_of_the_activations(residual, shape):
    quantized = quantize(residual, QuantConfig(join_bits="acts"), **shape, act_bits=3)
    assert [join.bits for join in quantized.plan("manual").joins] == [3]
    assert quantized.uniform_plan(2, 1).joins[0].bits == 2  # signed: at least 2


def test_learned_ends_keep_a_fixed_input_only(residual, shape):
    quantized = quantize(residual, QuantConfig(ends="learned", input="fixed"), **shape)
    assert quantized.fixed_weights == {}
    assert quantized.fixed_acts == {"input_quant": 8, "relu_join_quant": 6}
    assert bits(quantized.uniform_plan(2, 1)) == [
        ("conv0", 2, 8),
        ("body.0", 2, 1),
        ("body.3", 2, 1),
        ("fc", 2, 1),
    ]


@pytest.mark.parametrize(
    ("ends", "mode", "learned", "fixed"),
    [
        ("fixed", None, False, {"relu": 8, "input_quant": 8}),
        ("fixed", "learned", True, {"relu": 8}),
        ("learned", None, True, {}),
        ("learned", "fixed", False, {"input_quant": 8}),
    ],
)
def test_the_input_learns_as_the_ends_do_unless_it_is_said(
    residual, shape, ends, mode, learned, fixed
):
    config = QuantConfig(ends=ends, input=mode, join_bits="acts")
    assert config.learns_input is learned
    assert quantize(residual, config, **shape).fixed_acts == fixed


@pytest.mark.parametrize("mode", ["fixed", "learned"])
@pytest.mark.parametrize("fixed_ends", [True, False])
def test_a_uniform_plan_takes_ends_and_input(residual, shape, mode, fixed_ends):
    """Whatever is learned: a uniform plan's input keeps ``input_bits`` unless it is given."""
    config = QuantConfig(ends="fixed" if fixed_ends else "learned", input=mode, input_bits=6)
    quantized = quantize(residual, config, **shape)
    ends = (8, 8) if fixed_ends else (3, 2)

    def widths(**given):
        return bits(quantized.uniform_plan(3, 2, **given))

    inner = [("body.0", 3, 2), ("body.3", 3, 2)]
    assert widths() == [("conv0", ends[0], 6), *inner, ("fc", *ends)]
    assert widths(ends=(4, 5)) == [("conv0", 4, 6), *inner, ("fc", 4, 5)]
    assert widths(input_bits=3) == [("conv0", ends[0], 3), *inner, ("fc", *ends)]
    assert widths(ends=(4, 5), input_bits=3) == [("conv0", 4, 3), *inner, ("fc", 4, 5)]


def test_another_width_of_the_input_is_another_scale_of_the_same_range(residual, shape):
    quantized = quantize(residual, QuantConfig(ends="learned", input_range=2.0), **shape).eval()
    quantizer = quantized.network.get_submodule("input_quant")
    values = torch.linspace(-3, 3, 1001)
    for width in (2, 3, 8, 2):
        quantized.apply_plan(quantized.uniform_plan(8, 8, input_bits=width))
        steps = 2 ** (width - 1)
        expected = (values / (2.0 / steps)).round().clamp(-steps, steps - 1) * (2.0 / steps)
        assert torch.equal(quantizer(values), expected)


def test_a_signed_input_needs_two_bits(residual, shape):
    quantized = quantize(residual, QuantConfig(), **shape)
    with pytest.raises(
        ConfigError,
        match=r"^Bit-width 1 of 'input_quant' must lie between 2 and 32: it is a signed quantizer"
        r"\.$",
    ):
        quantized.apply_plan(quantized.uniform_plan(8, 8, input_bits=1))
    unsigned = quantize(residual, QuantConfig(input_signed=False), **shape)
    unsigned.apply_plan(unsigned.uniform_plan(8, 8, input_bits=1))
    assert unsigned.plan("uniform").layer("conv0").act_bits == 1


def test_both_addends_share_one_scale(residual, shape):
    quantized = quantize(residual, QuantConfig(), **shape)
    seen = []
    quantized.network.relu_join_quant.register_forward_hook(lambda *a: seen.append(a[2]))
    quantized(torch.randn(2, 1, 8, 8))
    assert len(seen) == 2
    assert [p.numel() for p in quantized.network.relu_join_quant.parameters()] == [1]


def test_gradients_reach_all_parameters(residual, shape):
    quantized = quantize(residual, QuantConfig(), **shape, weight_bits=3, act_bits=3)
    quantized.train()(torch.randn(8, 1, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in quantized.parameters())


def test_functional_dropout_follows_the_mode(shape):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(64, 32), nn.Linear(32, 3)

        def forward(self, x):
            x = nn.functional.relu(self.a(x.flatten(1)))
            return self.b(nn.functional.dropout(x, 0.5, self.training))

    quantized = quantize(Net(), QuantConfig(), **shape)
    x = torch.randn(4, 1, 8, 8)
    assert not torch.equal(quantized.train()(x), quantized(x))
    assert torch.equal(quantized.eval()(x), quantized(x))


def test_plan_round_trip(residual, shape):
    first = quantize(residual, QuantConfig(), **shape, weight_bits=3, act_bits=5)
    second = quantize(residual, QuantConfig(), **shape)
    plan = BitWidthPlan.parse_text(first.plan("adaqat").to_json(), "test")
    second.apply_plan(plan)
    assert second.plan("adaqat") == plan
    x = torch.randn(4, 1, 8, 8)
    assert torch.equal(first.eval()(x), second.eval()(x))


def test_plans_that_do_not_fit_change_nothing(mlp, residual, shape):
    quantized = quantize(mlp, QuantConfig(), **shape, weight_bits=4, act_bits=4)
    own = quantized.plan("manual")
    other = quantize(residual, QuantConfig(), **shape).plan("manual")
    text = (
        "The plan does not fit the network: layers ['1', '4', '7'] are missing from the plan "
        "and ['conv0', 'body.0', 'body.3', 'fc'] are not in the network; give one row for each "
        "of ['1', '4', '7']."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        quantized.apply_plan(other)
    rows = [row.model_copy(update={"act_signed": True}) for row in own.layers]
    text = (
        "The plan has act_signed = True for layer '4'; the network's quantizer has False: only "
        "widths can be changed."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        quantized.apply_plan(own.model_copy(update={"layers": tuple(rows)}))
    rows = [row.model_copy(update={"act": "elsewhere"}) for row in own.layers]
    text = "The plan says that layer '1' reads 'elsewhere'; it reads 'input_quant' in the network."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        quantized.apply_plan(own.model_copy(update={"layers": tuple(rows)}))
    rows = [
        row.model_copy(update={"weight_bits": 5 if row.layer != "7" else 1}) for row in own.layers
    ]
    text = "Bit-width 1 of '7' must lie between 2 and 32: it is a signed quantizer."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        quantized.apply_plan(own.model_copy(update={"layers": tuple(rows)}))
    assert quantized.plan("manual") == own


def test_state_dict_round_trip_restores_widths(residual, shape):
    first = quantize(residual, QuantConfig(), **shape, weight_bits=3, act_bits=2)
    first.act_widths["body.2"].set(5)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = quantize(copy.deepcopy(residual).apply(_scramble), QuantConfig(), **shape)
    handles = (second.weight_widths["body.0"], second.act_widths["body.2"])
    second.load_state_dict(torch.load(file, weights_only=True))
    assert [h.bits for h in handles] == [3, 5]
    assert second.plan("manual") == first.plan("manual")
    x = torch.randn(4, 1, 8, 8)
    assert torch.equal(first.eval()(x), second.eval()(x))
    handles[0].set(2)
    assert second.plan("manual").layer("body.0").weight_bits == 2
    assert first.plan("manual").layer("body.0").weight_bits == 3


def test_a_deep_copy_is_independent(residual, shape):
    first = quantize(residual, QuantConfig(), **shape, weight_bits=4, act_bits=4)
    second = copy.deepcopy(first)
    second.load_state_dict(first.state_dict())
    second.weight_widths["body.0"].set(2)
    second.act_widths["relu0"].set(2)
    x = torch.randn(4, 1, 8, 8)
    assert first.weight_widths["body.0"].bits == 4
    assert not torch.equal(first.eval()(x), second.eval()(x))
    second.apply_plan(first.plan("manual"))
    assert torch.equal(first(x), second(x))


def test_quantized_networks_are_refused(mlp, shape):
    quantized = quantize(mlp, QuantConfig(), **shape)
    text = (
        "Module 'network.1.input_quant' is already quantized (ActQuantProxyFromInjector); pass "
        "the float network."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        quantize(quantized, QuantConfig(), **shape)


def test_a_module_named_like_a_quantizer_is_refused(shape):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.input_quant = nn.Linear(64, 3)

        def forward(self, x):
            return self.input_quant(x.flatten(1))

    text = "The network has a module 'input_quant', the name that a quantizer gets; rename it."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        quantize(Net(), QuantConfig(), **shape)


def test_format_plan(mlp, shape):
    quantized = quantize(mlp, QuantConfig(), **shape, weight_bits=3, act_bits=4)
    assert format_plan(quantized.uniform_plan(3, 4)) == "\n".join(
        [
            "network tiny, uniform widths in bits (s = signed activations)",
            "layer  weights  acts  quantizer",
            "1            8    8s  input_quant",
            "4            3     4  3",
            "7            8     8  6",
        ]
    )


def test_format_plan_of_a_product_of_activations():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            x = self.a(x)
            return self.b((x.softmax(-1) @ x).mean(1))

    quantized = quantize(Net(), QuantConfig(), input_shape=(4, 4), name="tiny", num_classes=3)
    assert format_plan(quantized.uniform_plan(3, 4)) == "\n".join(
        [
            "network tiny, uniform widths in bits (s = signed activations)",
            "layer   weights    acts  quantizer",
            "a             8      8s  input_quant",
            "matmul        -  4 x 4s  matmul_input_quant x matmul_second_quant",
            "b             8      8s  b_input_quant",
        ]
    )


def _scramble(module):
    if isinstance(module, nn.Linear | nn.Conv2d):
        module.reset_parameters()

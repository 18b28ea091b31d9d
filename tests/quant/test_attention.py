"""Products of two activations, float operators between layers, integer inputs."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from adaqat_hw import nets
from adaqat_hw.cost import bitops, weight_compression
from adaqat_hw.errors import ConfigError
from adaqat_hw.quant import MatMul, bind, network_spec, probe_losses, quantize
from adaqat_hw.quant.trace import trace
from adaqat_hw.schema import AdaqatConfig, BitWidthPlan, NetworkConfig, QuantConfig

_VIT = {"input_shape": (3, 8, 8), "dim": 8, "depth": 1, "heads": 2}
_TEXT = {"input_shape": (6,), "vocabulary": 11, "dim": 8, "depth": 1, "heads": 2}
_NETWORKS = [("vit", _VIT), ("vit", {**_VIT, "pool": "token"}), ("text-encoder", _TEXT)]


def float_net(name, **options):
    config = NetworkConfig(name=name, options=options)
    info = nets.info(config)
    about = {"input_shape": info.input_shape, "name": name, "num_classes": info.num_classes}
    return nets.build(config), about


def quantized(name, quant=None, *, weights=8, acts=8, **options):
    net, about = float_net(name, **options)
    return quantize(net, quant or QuantConfig(), **about, weight_bits=weights, act_bits=acts)


def draw(network, count=8):
    shape = (count, *network.spec.input_shape)
    return torch.randint(0, 11, shape) if network.integer_input else torch.rand(shape) * 2 - 1


def macs_by_hand(length, dim, heads, hidden, depth):
    """Multiply-accumulates of encoder blocks: projections, both products, MLP."""
    products = 2 * heads * length * length * (dim // heads)
    return depth * (4 * length * dim * dim + products + 2 * length * dim * hidden)


def test_vit_counts_what_a_hand_counts():
    network = quantized("vit")
    blocks = macs_by_hand(length=64, dim=128, heads=4, hidden=256, depth=6)
    ends = 64 * 3 * 4 * 4 * 128 + 128 * 10
    assert sum(layer.macs for layer in network.spec.layers) == blocks + ends == 57_017_600
    for bits in (8, 4):
        plan = network.uniform_plan(bits, bits)
        assert bitops(network.spec, plan).total == blocks * bits**2 + ends * 64
    weights = weight_compression(network.spec, network.uniform_plan(4, 4))
    assert weights.inner == 8.0


def test_text_encoder_counts_what_a_hand_counts():
    network = quantized("text-encoder")
    blocks = macs_by_hand(length=16, dim=64, heads=4, hidden=256, depth=2)
    assert sum(layer.macs for layer in network.spec.layers) == blocks + 64 * 5 == 1_638_720
    assert bitops(network.spec, network.uniform_plan(8, 8)).total == (blocks + 64 * 5) * 64
    # The first layer and its activations, which k and v read as well, stay at 8 bits.
    q = 16 * 64 * 64
    expected = (blocks - 3 * q) * 16 + q * 64 + 2 * q * 4 * 8 + 64 * 5 * 64
    assert bitops(network.spec, network.uniform_plan(4, 4)).total == expected == 31_477_760


@pytest.mark.parametrize(("name", "options"), _NETWORKS)
def test_macs_are_those_that_torch_counts(name, options):
    net, about = float_net(name, **options)
    x = torch.zeros(1, *about["input_shape"], dtype=torch.long if name != "vit" else torch.float)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(x)
    spec = network_spec(net, **about)
    assert 2 * sum(layer.macs for layer in spec.layers) == counter.get_total_flops()


def test_quantizers_of_one_block():
    network = quantized("vit", **_VIT)
    reads = [(x.name, x.act, x.second_act) for x in network.spec.layers]
    block = "blocks.0."
    prefix = "blocks_0_"
    assert reads == [
        ("patches", "input_quant", None),
        *((f"{block}attention.{n}", f"{prefix}attention_q_input_quant", None) for n in "qkv"),
        *(
            (
                f"{block}attention.{n}",
                f"{prefix}attention_{n}_input_quant",
                f"{prefix}attention_{n}_second_quant",
            )
            for n in ("scores", "context")
        ),
        (f"{block}attention.out", f"{prefix}attention_out_input_quant", None),
        (f"{block}mlp.fc1", f"{prefix}mlp_fc1_input_quant", None),
        (f"{block}mlp.fc2", f"{prefix}mlp_fc2_input_quant", None),
        ("head", "head_input_quant", None),
    ]
    joins = [join.quantizer for join in network.plan("uniform").joins]
    assert joins == [f"{prefix}add_join_quant", f"{prefix}add_1_join_quant"]
    unsigned = [name for name, width in network.act_widths.items() if not width.signed]
    assert unsigned == [f"{prefix}attention_context_input_quant"]
    scores, context = (x for x in network.spec.layers if x.kind == "matmul")
    assert (scores.input_shape, scores.output_shape) == ((2, 4, 4), (2, 4, 4))
    assert (scores.in_channels, scores.out_channels, scores.weights) == (4, 4, 0)
    assert context.macs == 2 * 4 * 4 * 4
    assert not {scores.name, context.name} & set(network.weight_widths)


def test_relu_in_the_mlp_is_the_quantizer():
    acts = {x.name: x.act for x in quantized("vit", **_VIT, activation="relu").spec.layers}
    assert acts["blocks.0.mlp.fc2"] == "blocks.0.mlp.act"


def test_softmax_is_clipped_at_one_and_spans_all_levels():
    network = quantized("vit", **_VIT, acts=2)
    seen = {}
    for name in ("input", "second"):
        path = f"blocks_0_attention_context_{name}_quant"
        module = network.network.get_submodule(path)
        module.register_forward_hook(lambda m, a, out, n=name: seen.update({n: out}))
    network.eval()(draw(network))
    levels = (seen["input"] * 3).round()
    torch.testing.assert_close(seen["input"] * 3, levels)
    assert set(levels.unique().tolist()) <= {0.0, 1.0, 2.0, 3.0}
    assert seen["second"].unique().numel() <= 4


@pytest.mark.parametrize(("name", "options"), _NETWORKS)
def test_gradients_reach_queries_keys_and_values(name, options):
    network = quantized(name, **options, weights=4, acts=4)
    loss = F.cross_entropy(network.train()(draw(network)), torch.zeros(8, dtype=torch.long))
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    attention = network.network.get_submodule("blocks.0.attention")
    assert all(getattr(attention, part).weight.grad.abs().sum() > 0 for part in "qkv")


@pytest.mark.parametrize(("name", "options"), _NETWORKS)
def test_high_widths_come_close_to_the_float_network(name, options):
    net, about = float_net(name, **options)
    network = quantize(net, QuantConfig(act_clip=16.0), **about).eval()
    for width in (*network.weight_widths.values(), *network.act_widths.values()):
        width.set(18)
    x = draw(network)
    torch.testing.assert_close(network(x), net.eval()(x), rtol=0, atol=5e-3)


def test_both_operands_of_a_product_switch_alone():
    network = quantized("vit", **_VIT).eval()
    x = draw(network)
    before = network(x)
    for operand in ("input", "second"):
        name = f"blocks_0_attention_scores_{operand}_quant"
        network.act_widths[name].set(2)
        assert not torch.equal(network(x), before)
        row = network.plan("manual").layer("blocks.0.attention.scores")
        assert (row.act_bits, row.second_act_bits) == ((2, 8) if operand == "input" else (8, 2))
        network.act_widths[name].set(8)
        assert torch.equal(network(x), before)


def test_plan_round_trip_with_different_widths_per_operand():
    first = quantized("text-encoder", **_TEXT)
    for number, width in enumerate(first.act_widths.values()):
        width.set(3 + number % 5)
    plan = BitWidthPlan.parse_text(first.plan("manual").to_json(), "test")
    second = quantized("text-encoder", **_TEXT)
    second.load_state_dict(first.state_dict())
    second.apply_plan(second.uniform_plan(8, 8))
    second.apply_plan(plan)
    assert second.plan("manual") == plan
    x = draw(first)
    assert torch.equal(first.eval()(x), second.eval()(x))


def test_plans_of_another_kind_of_layer_change_nothing():
    network = quantized("vit", **_VIT, weights=4, acts=4)
    own = network.plan("manual")
    scores = own.layer("blocks.0.attention.scores")

    def changed(**update):
        body = {**scores.model_dump(), **update}
        row = type(scores).model_validate(body)
        rows = tuple(row if x.layer == row.layer else x for x in own.layers)
        return own.model_copy(update={"layers": rows})

    none = {"second_act": None, "second_act_bits": None, "second_act_signed": None}
    text = (
        "The plan has weight_bits 3 and second_act None for layer 'blocks.0.attention.scores', "
        "which multiplies two activations in the network."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        network.apply_plan(changed(**none, weight_bits=3))
    text = (
        "The plan says that layer 'blocks.0.attention.scores' reads 'other'; it reads "
        "'blocks_0_attention_scores_second_quant' in the network."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        network.apply_plan(changed(second_act="other"))
    text = (
        "The plan has second_act_signed = False for layer 'blocks.0.attention.scores'; the "
        "network's quantizer has True: only widths can be changed."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        network.apply_plan(changed(second_act_signed=False))
    text = (
        "Bit-width 1 of 'blocks_0_attention_scores_second_quant' must lie between 2 and 32: it "
        "is a signed quantizer."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        network.apply_plan(changed(second_act_bits=1, act_bits=7))
    assert network.plan("manual") == own


def test_state_dict_and_deep_copy_keep_operand_widths():
    first = quantized("vit", **_VIT)
    name = "blocks_0_attention_context_second_quant"
    first.act_widths[name].set(3)
    second = copy.deepcopy(first)
    second.load_state_dict(first.state_dict())
    second.act_widths[name].set(5)
    assert (first.act_widths[name].bits, second.act_widths[name].bits) == (3, 5)


def test_integer_inputs_have_no_quantizer_and_end_widths_are_the_ends():
    config = QuantConfig(input_bits=5, end_act_bits=6, join_bits="acts")
    network = quantized("text-encoder", config, **_TEXT)
    assert network.integer_input
    assert "input_quant" not in network.act_widths
    first = "blocks_0_attention_q_input_quant"
    assert network.fixed_acts == {"head_input_quant": 6, first: 6}
    learned = quantized("text-encoder", QuantConfig(ends="learned", join_bits="acts"), **_TEXT)
    assert (learned.fixed_weights, learned.fixed_acts) == ({}, {})
    assert not quantized("vit", **_VIT).integer_input


def test_integer_inputs_have_no_width():
    network = quantized("text-encoder", QuantConfig(ends="learned", input="learned"), **_TEXT)
    assert network.input_acts == ()
    with pytest.raises(ConfigError) as caught:
        network.uniform_plan(4, 4, input_bits=3)
    assert str(caught.value) == (
        f"Network {network.spec.name!r} takes integer tokens, which no quantizer narrows, so its "
        "input has no width and cannot have 3 bits; leave that out."
    )
    with pytest.raises(ConfigError) as caught:
        bind(network, AdaqatConfig())
    assert str(caught.value) == (
        f"quant.input = 'learned', and network {network.spec.name!r} takes integer tokens, which "
        "have no width; leave the key out."
    )
    first = "blocks_0_attention_q_input_quant"
    plan = network.uniform_plan(4, 4, ends=(5, 6))
    assert {row.act_bits for row in plan.layers if row.act == first} == {6}


@pytest.mark.parametrize(("name", "options"), _NETWORKS)
def test_widths_can_be_probed(name, options):
    network = quantized(name, **options)
    binding = bind(network, AdaqatConfig(initial_bits=4.0))
    x, y = draw(network), torch.arange(8) % 5
    before = network.plan("manual")
    _, losses = probe_losses(binding, lambda: F.cross_entropy(network(x), y))
    assert set(losses) == {"weights", "acts"}
    assert all(loss > 0 for loss in losses.values())
    assert network.plan("manual") == before
    operands = before.layer("blocks.0.attention.scores")
    assert (operands.act_bits, operands.second_act_bits) == (4, 4)


class Written(nn.Module):
    """Attention as users write it: one projection, ``@``, a class token, buffers, no biases."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.register_buffer("places", torch.arange(4))
        self.table = nn.Embedding(4, 4)
        self.qkv = nn.Linear(4, 12)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), dim=1)
        x = x + self.table(self.places)
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        weights = F.softmax(q @ k.transpose(1, 2) / 4**0.5, dim=-1)
        return self.fc(torch.matmul(F.dropout(weights, 0.1, self.training), v)[:, 0])


def test_products_written_with_an_operator_are_named_by_the_graph():
    spec = network_spec(Written(), (3, 4), "n", 2)
    rows = [(x.name, x.kind, x.macs, x.act, x.second_act) for x in spec.layers]
    assert rows == [
        ("qkv", "linear", 4 * 4 * 12, "qkv_input_quant", None),
        ("matmul", "matmul", 4 * 4 * 4, "matmul_input_quant", "matmul_second_quant"),
        ("matmul_1", "matmul", 4 * 4 * 4, "matmul_1_input_quant", "matmul_1_second_quant"),
        ("fc", "linear", 8, "fc_input_quant", None),
    ]
    network = quantize(Written(), QuantConfig(), input_shape=(3, 4), name="n", num_classes=2)
    assert not network.act_widths["matmul_1_input_quant"].signed
    assert network.act_widths["matmul_second_quant"].signed
    # Class token, positions and their table are parameters: nothing joins them.
    assert all(site.kind != "join" for site in trace(Written(), (3, 4), "n", 2).sites)
    network(torch.randn(5, 3, 4)).sum().backward()
    assert network.network.token.grad.abs().sum() > 0


def test_samples_merged_with_heads_are_counted_once():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.product = nn.Linear(4, 4), nn.Linear(4, 2), MatMul()

        def forward(self, x):
            y = self.a(x).reshape(-1, 3, 2)  # (n * 2, 3, 2)
            y = self.product(y, torch.bmm(y.transpose(1, 2), y))
            return self.b(y.reshape(-1, 3, 4).mean(dim=1))

    spec = network_spec(Net(), (3, 4), "n", 2)
    assert [(x.name, x.macs) for x in spec.layers if x.kind == "matmul"] == [
        ("bmm", 2 * 2 * 2 * 3),
        ("product", 2 * 3 * 2 * 2),
    ]


NO_FORM = (
    " before a layer, which has no quantized form; use Conv1d/2d, Linear, MultiheadAttention, "
    "products of two activations (MatMul), BatchNorm, LayerNorm, ReLU, GELU, SiLU, Mish, ELU, "
    "LeakyReLU, Hardswish, Sigmoid, Tanh, Softmax, Embedding, max or average pooling, nearest "
    "Upsample, flattening, dropout, residual additions of two tensors and arithmetic with "
    "constants."
)


class _Bad(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)
        self.w = nn.Parameter(torch.ones(4, 4))
        self._forward = forward

    def forward(self, x):
        return self.b(self._forward(self, self.a(x)).mean(dim=1))


@pytest.mark.parametrize(
    ("forward", "part"),
    [
        (lambda net, x: x @ net.w, "function 'matmul' with a parameter"),
        (lambda net, x: x * torch.tanh(x), "function 'mul' of two activations"),
        (lambda net, x: x - x.relu(), "function 'sub' of two activations"),
        (lambda net, x: 1 / x, "function 'truediv'"),
        (
            lambda net, x: F.scaled_dot_product_attention(x, x, x),
            "function 'scaled_dot_product_attention'",
        ),
        (lambda net, x: torch.einsum("nld,nmd->nlm", x, x), "function 'einsum'"),
    ],
)
def test_what_has_no_quantized_form_is_refused_in_one_sentence(forward, part):
    text = f"The network holds {part}{NO_FORM}"
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        network_spec(_Bad(forward), (4, 4), "n", 2)


def test_a_product_over_the_batch_or_used_twice_is_refused():
    class Twice(_Bad):
        def __init__(self):
            super().__init__(lambda net, x: net.product(net.product(x, x), x))
            self.product = MatMul()

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            x = self.a(x)
            return self.b(x @ (x.T @ x))

    text = "Layer 'product' is used twice in the network; give each use its own module."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        network_spec(Twice(), (4, 4), "n", 2)
    text = (
        "Product 'matmul' takes a tensor of shape (4, 2) for a batch of 2; give both operands a "
        "batch dimension and the two of a matrix."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        network_spec(Flat(), (4,), "n", 2)

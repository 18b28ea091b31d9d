"""torch's attention, reparametrized weights and per-sample drops of a user's network."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm
from torch.nn.utils import prune as pruning

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant import copy_network, network_spec, quantize
from adaqat_hw.quant._symbolic import symbolic
from adaqat_hw.schema import QuantConfig

NO_DROP = (
    "a random drop of whole samples cannot be quantized: set its probability to 0 or replace its "
    "module by nn.Identity, and use modules such as Dropout in place of branches on self.training."
)


def _refused(net, shape, text, classes=None):
    pattern = re.escape(text).replace("line\\ N", r"line\ \d+")
    with pytest.raises(ConfigError, match=f"^{pattern}$"):
        network_spec(net, shape, "n", classes)


class Attends(nn.Module):
    """Attention over an input (n, L, 16), with what comes out of it as ``forward`` says."""

    def __init__(self, forward, **options):
        super().__init__()
        self.p = nn.Linear(16, 16)
        self.other = nn.Linear(16, 12)
        self.a = nn.MultiheadAttention(16, 4, **{"batch_first": True, **options})
        self._forward = forward
        for parameter in self.a.parameters():  # biases other than 0
            nn.init.normal_(parameter, std=0.3)

    def forward(self, x):
        return self._forward(self, self.p(x))


def _self(net, x):
    return net.a(x, x, x, need_weights=False)[0]


def _cross(net, x):
    return net.a(x, x.flip(1), net.other(x)[..., :16])[0]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("forward", "options"),
    [
        (_self, {}),
        (lambda net, x: net.a(x, x, x)[0], {"dropout": 0.0}),
        (lambda net, x: net.a(net.p(x), x, x)[0], {}),
        (lambda net, x: net.a(x, x, net.other(x))[0], {"vdim": 12}),
        (lambda net, x: net.a(x, net.other(x), x)[0], {"kdim": 12}),
        (lambda net, x: _self(net, x.transpose(0, 1)).transpose(0, 1), {"batch_first": False}),
        (lambda net, x: net.a(x, x, x)[1] @ x, {}),
        (lambda net, x: net.a(x, x, x, average_attn_weights=False)[1].flatten(1), {}),
    ],
)
def test_attention_computes_what_torchs_does(forward, options, bias, training):
    net = Attends(forward, bias=bias, **options).train(training)
    traced, notes = symbolic(net)
    x = torch.randn(3, 6, 16)
    assert notes == []
    torch.testing.assert_close(traced(x), net(x), rtol=1e-5, atol=1e-5)


def test_attention_with_dropout_rests_in_evaluation_alone():
    net = Attends(_self, dropout=0.5)
    traced, _ = symbolic(net.eval())
    x = torch.randn(3, 6, 16)
    torch.testing.assert_close(traced(x), net(x), rtol=1e-5, atol=1e-5)
    traced.train()
    assert not torch.equal(traced(x), traced(x))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu", nn.LeakyReLU()])
def test_encoders_compute_what_torchs_do(batch_first, norm_first, activation):
    layer = nn.TransformerEncoderLayer(
        16, 4, 32, batch_first=batch_first, norm_first=norm_first, activation=activation
    )
    norm = nn.LayerNorm(16) if norm_first else None
    net = nn.Sequential(nn.TransformerEncoder(layer, 2, norm, enable_nested_tensor=False))
    net.eval()
    traced, _ = symbolic(net)
    x = torch.randn(4, 6, 16)
    with torch.no_grad():  # torch takes its fast path without gradients, where it has one
        torch.testing.assert_close(traced(x), net(x), rtol=1e-5, atol=1e-5)
    layers = {path for path, module in traced.named_modules() if isinstance(module, nn.Linear)}
    assert layers == {
        f"0.layers.{i}.{part}"
        for i in (0, 1)
        for part in ("linear1", "linear2", *(f"self_attn.{x}" for x in ("q", "k", "v", "out")))
    }


def test_the_layers_of_attention_have_names_and_one_input_quantizer():
    spec = network_spec(Attends(_self), (6, 16), "n")
    acts = {x.name: (x.act, x.second_act) for x in spec.layers}
    assert list(acts) == ["p", "a.q", "a.k", "a.v", "a.scores", "a.context", "a.out"]
    assert acts["a.q"] == acts["a.k"] == acts["a.v"] == ("a_q_input_quant", None)
    turned = Attends(lambda n, x: _self(n, x.transpose(0, 1)).transpose(0, 1), batch_first=False)
    assert {
        x.name: (x.act, x.second_act) for x in network_spec(turned, (6, 16), "n").layers
    } == acts


def test_the_twin_carries_the_weights_over_and_leaves_the_network_alone():
    net = Attends(_self)
    before = copy.deepcopy(net.state_dict())
    twin = quantize(net, QuantConfig(), input_shape=(6, 16), name="n")
    q, k, v = before["a.in_proj_weight"].chunk(3)
    state = twin.network.state_dict()
    assert torch.equal(state["a.q.weight"], q)
    assert torch.equal(state["a.k.weight"], k)
    assert torch.equal(state["a.v.weight"], v)
    assert torch.equal(state["a.out.weight"], before["a.out_proj.weight"])
    assert isinstance(net.a, nn.MultiheadAttention)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("forward", "text"),
    [
        (
            lambda net, x: net.a(x, x, x, attn_mask=torch.ones(6, 6))[0],
            "MultiheadAttention 'a' is called with attn_mask",
        ),
        (
            lambda net, x: net.a(x, x, x, key_padding_mask=x[..., 0])[0],
            "MultiheadAttention 'a' is called with key_padding_mask",
        ),
        (
            lambda net, x: net.a(x, x, x, is_causal=True)[0],
            "MultiheadAttention 'a' is called with is_causal = True",
        ),
    ],
)
def test_masks_are_refused(forward, text):
    rest = (
        ", which has no quantized form; call it without a mask, or write the attention with MatMul "
        "and add the mask to the scores."
    )
    _refused(Attends(forward), (6, 16), text + rest)


def test_masks_of_encoders_are_refused():
    class Masked(nn.Module):
        def __init__(self, whole):
            super().__init__()
            layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
            self.t = nn.TransformerEncoder(layer, 1) if whole else layer

        def forward(self, x):
            return self.t(x, torch.ones(6, 6))

    for whole, name in ((True, "TransformerEncoder 't'"), (False, "TransformerEncoderLayer 't'")):
        mask = "mask" if whole else "src_mask"
        _refused(
            Masked(whole),
            (6, 16),
            f"{name} is called with {mask}, which has no quantized form; call it without a mask, "
            "or write the attention with MatMul and add the mask to the scores.",
        )


@pytest.mark.parametrize("option", ["add_bias_kv", "add_zero_attn"])
def test_rows_added_to_the_keys_are_refused(option):
    text = (
        f"MultiheadAttention 'a' has {option} = True, which has no quantized form; make it without."
    )
    _refused(Attends(_self, **{option: True}), (6, 16), text)


def test_a_mixed_batch_is_refused():
    text = (
        "One sample of a batch changes the output of another; the first dimension must stay the "
        "batch (nn.MultiheadAttention and nn.TransformerEncoderLayer take it first with "
        "batch_first = True only)."
    )
    _refused(Attends(_self, batch_first=False), (6, 16), text)


def test_attention_with_a_forward_of_its_own_is_refused():
    class Shifted(nn.TransformerEncoderLayer):
        def _sa_block(self, x, *args, **kwargs):
            return 2 * super()._sa_block(x, *args, **kwargs)

    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.t = nn.TransformerDecoderLayer(16, 4, 32, batch_first=True)
            self.f = nn.Linear(16, 2)

        def forward(self, x):
            return self.f(self.t(x, x))

    with pytest.raises(ConfigError):
        network_spec(nn.Sequential(Shifted(16, 4, 32, batch_first=True)), (6, 16), "n")
    text = (
        "The network holds TransformerDecoderLayer 't', which has no quantized form; build the "
        "decoder of nn.MultiheadAttention and nn.Linear, without masks."
    )
    _refused(Holder(), (6, 16), text)


def _two_convolutions(first):
    return nn.Sequential(first, nn.ReLU(), nn.Conv2d(4, 3, 3), nn.ReLU(), nn.Flatten())


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("normalize", [parametrizations.weight_norm, weight_norm])
def test_weight_norm_becomes_a_plain_weight(normalize):
    net = _two_convolutions(normalize(nn.Conv2d(2, 4, 3)))
    x = torch.randn(3, 2, 8, 8)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    traced, notes = symbolic(net)
    torch.testing.assert_close(traced(x), net(x))
    assert notes == [
        "Conv2d '0' had weight normalization of its weight; it was removed, and the weight that it "
        "computed is trained as a plain one."
    ]
    twin = quantize(net, QuantConfig(), input_shape=(2, 8, 8), name="n")
    assert list(twin.notes) == notes
    twin(x).sum().backward()
    assert all(p.grad is not None for p in twin.parameters())
    assert {n for n, _ in twin.network.named_parameters()} >= {"0.weight", "0.bias"}
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(
        torch.equal(value, before[name]) for name, value in copy_network(net).state_dict().items()
    )


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (parametrizations.spectral_norm, "SpectralNorm"),
        (spectral_norm, "SpectralNorm"),
        (parametrizations.orthogonal, "Orthogonal"),
        (lambda layer: pruning.l1_unstructured(layer, "weight", 0.5), "L1Unstructured"),
    ],
)
def test_other_reparametrizations_are_refused(change, kind):
    net = _two_convolutions(change(nn.Conv2d(2, 4, 3)))
    name = type(net[0]).__name__
    text = (
        f"Module '0' ({name}) computes its weight by {kind}, which a quantizer of the plain weight "
        "would not keep; remove it from the network first (torch.nn.utils), or use weight_norm, "
        "which is removed by itself."
    )
    _refused(net, (2, 8, 8), text)


class DropPath(nn.Module):
    """Drop whole samples at random, as user code does it in three ways."""

    def __init__(self, way, p=0.1):
        super().__init__()
        self.way, self.p = way, p

    def forward(self, x):
        if not self.training or self.p == 0.0:
            return x
        if self.way == "rand":
            return x * (torch.rand(x.shape[0], 1, 1, 1) > self.p)
        if self.way == "bernoulli":
            shape = (x.shape[0],) + (1,) * (x.ndim - 1)
            return x * x.new_empty(shape).bernoulli_(1 - self.p)
        return x * (torch.rand_like(x[:, :1, :1, :1]) > self.p)


def _drops(way, p=0.1):
    net = nn.Sequential()
    net.add_module("stem", nn.Conv2d(2, 4, 3))
    net.add_module("drop", DropPath(way, p))
    net.add_module("head", nn.Conv2d(4, 3, 3))
    return net


def test_a_drop_of_samples_is_refused_for_what_it_is():
    text = (
        "Module 'drop' (DropPath) computes something else in training than in evaluation, which "
        "cannot be traced (line N of test_rewrite.py 'return x * (torch.rand(x.shape[0], 1, 1, 1) "
        "> self.p)': rand() received an invalid combination of arguments - got (Proxy, int, int, "
        f"int), but expected one of); {NO_DROP}"
    )
    _refused(_drops("rand"), (2, 8, 8), text)
    text = (
        "Module 'drop' (DropPath) computes something else in training ('getattr') than in "
        f"evaluation ('head'); {NO_DROP}"
    )
    _refused(_drops("bernoulli"), (2, 8, 8), text)
    text = (
        "Module 'drop' (DropPath) computes something else in training ('getitem') than in "
        f"evaluation ('head'); {NO_DROP}"
    )
    _refused(_drops("like"), (2, 8, 8), text)


@pytest.mark.parametrize("way", ["rand", "bernoulli", "like"])
def test_a_drop_of_probability_0_is_none(way):
    layers = network_spec(_drops(way, 0.0), (2, 8, 8), "n").layers
    assert [x.name for x in layers] == ["stem", "head"]

from __future__ import annotations

import pytest
import torch

from adaqat_hw import nets
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import NetworkConfig
from tests.error_texts import raises_text

SMALL = {"dim": 8, "depth": 1, "heads": 2}


def build(name, **options):
    return nets.build(NetworkConfig(name=name, options={**SMALL, **options})).eval()


def test_defaults_are_the_promised_ones():
    vit, text = nets.info("vit"), nets.info("text-encoder")
    assert (vit.input_shape, vit.num_classes) == ((3, 32, 32), 10)
    assert (text.input_shape, text.num_classes, text.options["vocabulary"]) == ((16,), 5, 64)


@pytest.mark.parametrize("pool", ["mean", "token"])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_vit_has_a_position_per_patch_and_one_for_the_class_token(pool, activation):
    net = build("vit", input_shape=(1, 8, 12), patch=2, pool=pool, activation=activation)
    assert net.positions.shape == (1, 4 * 6 + (pool == "token"), 8)
    out = net(torch.randn(3, 1, 8, 12))
    assert out.shape == (3, 10)
    assert out.isfinite().all()


def test_attention_is_that_of_torch():
    from adaqat_hw.nets._transformer import Attention

    torch.manual_seed(0)
    ours, theirs = Attention(8, 2), torch.nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        parts = (ours.q, ours.k, ours.v)
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    x = torch.randn(3, 5, 8)
    torch.testing.assert_close(ours(x), theirs(x, x, x)[0])


def test_the_class_token_alone_decides():
    net = build("vit", input_shape=(1, 8, 8), pool="token", depth=1)
    seen = {}
    net.norm.register_forward_hook(lambda m, args, out: seen.update(out=out))
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(net(x), net.head(seen["out"][:, 0]))


def test_padding_changes_nothing():
    torch.manual_seed(0)
    net = build("text-encoder", input_shape=(6,), vocabulary=9)
    short = torch.tensor([[3, 5, 1, 0, 0, 0]])
    with torch.no_grad():
        before = net(short)
        net.tokens.weight[0] = 7.0
        net.positions[:, 3:] = -5.0
        torch.testing.assert_close(net(short), before)
        assert net(torch.zeros(1, 6, dtype=torch.long)).isfinite().all()
    assert not torch.equal(net(torch.tensor([[3, 5, 1, 2, 0, 0]])), before)


def test_embeddings_survive_the_first_residual_add():
    net = build("text-encoder", dim=64, vocabulary=100)
    assert net.tokens.weight.std().item() == pytest.approx(1, rel=0.1)
    assert net.positions.std().item() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        (
            "vit",
            {"input_shape": (3, 30, 32)},
            "input_shape (3, 30, 32) must have a height and a width that are multiples of patch 4.",
        ),
        ("vit", {"heads": 3}, "dim 8 must be a multiple of heads 3."),
        ("vit", {"pool": "max"}, "option pool = 'max': Input should be 'mean' or 'token'."),
        (
            "vit",
            {"activation": "silu"},
            "option activation = 'silu': Input should be 'gelu' or 'relu'.",
        ),
        ("text-encoder", {"heads": 5}, "dim 8 must be a multiple of heads 5."),
        (
            "text-encoder",
            {"vocabulary": 1},
            "option vocabulary = 1: Input should be greater than 1.",
        ),
        (
            "text-encoder",
            {"input_shape": (4, 4)},
            "option input_shape = (4, 4): Tuple should have at most 1 item after validation, not "
            "2.",
        ),
    ],
)
def test_wrong_options_are_refused_with_what_is_allowed(name, options, text):
    with raises_text(ConfigError, f"Network '{name}': {text}"):
        build(name, **options)

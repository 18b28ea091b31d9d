from __future__ import annotations

import pytest

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant.groups import group
from adaqat_hw.schema import AdaqatConfig, LayerSpec, NetworkSpec


def layer(name, act, second=None):
    return LayerSpec(
        name=name,
        kind="linear" if second is None else "matmul",
        macs=16,
        weights=16 if second is None else 0,
        in_channels=4,
        out_channels=4,
        input_shape=(4,),
        output_shape=(4,),
        act=act,
        second_act=second,
    )


# An encoder block between fixed ends: q, k and v read one quantizer, two products follow.
BLOCK = NetworkSpec(
    name="block",
    input_shape=(4,),
    num_classes=4,
    layers=(
        layer("stem", "input_quant"),
        layer("block.q", "norm_quant"),
        layer("block.k", "norm_quant"),
        layer("block.v", "norm_quant"),
        layer("block.scores", "q_quant", "k_quant"),
        layer("block.mix", "soft_quant", "v_quant"),
        layer("mlp.up", "norm2_quant"),
        layer("mlp.down", "gelu_quant"),
        layer("head", "pool_quant"),
    ),
)
WEIGHTS = ["block.q", "block.k", "block.v", "mlp.up", "mlp.down"]
ACTS = [
    "input_quant",
    "join1",
    "norm_quant",
    "q_quant",
    "k_quant",
    "v_quant",
    "soft_quant",
    "join2",
    "norm2_quant",
    "gelu_quant",
    "join3",
    "pool_quant",
]


def grouped(**config):
    return group(BLOCK, WEIGHTS, ACTS, {"input_quant", "pool_quant"}, AdaqatConfig(**config))


def test_one_pair_for_the_whole_network():
    grouping = grouped()
    assert grouping.weights == {"weights": tuple(WEIGHTS)}
    assert set(grouping.acts) == {"acts"}
    assert set(grouping.acts["acts"]) == set(ACTS) - {"input_quant", "pool_quant"}
    assert (grouping.other_weights, grouping.other_acts) == ((), ())


def test_one_width_per_layer_and_products_have_two_activation_widths():
    grouping = grouped(granularity="layer")
    assert grouping.weights == {f"weights:{name}": (name,) for name in WEIGHTS}
    assert grouping.acts == {
        "acts:norm_quant": ("norm_quant", "join1"),
        "acts:q_quant": ("q_quant",),
        "acts:k_quant": ("k_quant",),
        "acts:soft_quant": ("soft_quant",),
        "acts:v_quant": ("v_quant",),
        "acts:norm2_quant": ("norm2_quant", "join2"),
        "acts:gelu_quant": ("gelu_quant", "join3"),  # the last that a layer reads and may move
    }
    assert grouping.width_of_act("join3") == "acts:gelu_quant"
    assert grouping.width_of_act("pool_quant") is None
    assert grouping.width_of_weights("mlp.up") == "weights:mlp.up"


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({}, "weights"),
        ({"granularity": "layer"}, "weights:stem"),
        ({"granularity": "group", "groups": {"all": ("*",)}}, "weights:all"),
    ],
)
def test_a_learned_input_has_one_width_of_its_own(config, name):
    weights = ["stem", *WEIGHTS, "head"]
    grouping = group(BLOCK, weights, ACTS, set(), AdaqatConfig(**config), ["input_quant"])
    assert grouping.acts["input"] == ("input_quant",)
    assert grouping.width_of_act("input_quant") == "input"
    assert sum("input_quant" in members for members in grouping.acts.values()) == 1
    assert "stem" in grouping.weights[name]
    assert grouping.width_of_act("join3") != "input"


def test_a_learned_input_keeps_its_width_where_its_layer_learns_nothing():
    config = AdaqatConfig(learn=("mlp.up",))
    grouping = group(BLOCK, ["stem", *WEIGHTS], ACTS, set(), config, ["input_quant"])
    assert "input" not in grouping.acts
    assert "input_quant" not in grouping.other_acts


def test_a_learned_input_makes_a_fixed_first_layer_one_that_can_learn():
    config = AdaqatConfig(granularity="layer", learn=("stem",))
    grouping = group(BLOCK, WEIGHTS, ACTS, {"pool_quant"}, config, ["input_quant"])
    assert (grouping.weights, grouping.acts) == ({}, {"input": ("input_quant",)})


def test_residual_adds_never_follow_the_input():
    spec = BLOCK.model_copy(update={"layers": (layer("stem", "input_quant"),)})
    acts = ["input_quant", "join1"]
    grouping = group(spec, [], acts, set(), AdaqatConfig(granularity="layer"), ["input_quant"])
    assert grouping.acts == {"input": ("input_quant",), "acts:join1": ("join1",)}


def test_groups_hold_their_members_weights_and_the_activations_they_read_first():
    grouping = grouped(
        granularity="group",
        groups={"attention": ("block.*",), "mlp": ("mlp.up", "mlp.d*")},
    )
    assert grouping.weights == {
        "weights:attention": ("block.q", "block.k", "block.v"),
        "weights:mlp": ("mlp.up", "mlp.down"),
    }
    assert set(grouping.acts["acts:attention"]) == {
        *("norm_quant", "q_quant", "k_quant", "v_quant", "soft_quant", "join1")
    }
    assert set(grouping.acts["acts:mlp"]) == {"norm2_quant", "gelu_quant", "join2", "join3"}


def test_a_shared_quantizer_belongs_with_its_first_reader():
    grouping = grouped(granularity="group", groups={"k": ("block.k",), "q": ("block.q",)})
    assert grouping.acts == {"acts:q": ("norm_quant", "join1")}
    assert grouping.weights == {"weights:k": ("block.k",), "weights:q": ("block.q",)}
    assert grouping.other_weights == ("block.v", "mlp.up", "mlp.down")
    assert "q_quant" in grouping.other_acts
    assert "join2" in grouping.other_acts


def test_a_group_of_products_only_has_an_activation_width_only():
    grouping = grouped(granularity="group", groups={"products": ("*.scores", "*.mix")})
    assert grouping.weights == {}
    assert set(grouping.acts["acts:products"]) == {"q_quant", "k_quant", "soft_quant", "v_quant"}


@pytest.mark.parametrize("granularity", ["network", "layer"])
def test_a_single_layer_can_learn(granularity):
    grouping = grouped(granularity=granularity, learn=("mlp.up",))
    suffix = granularity == "layer"
    assert grouping.weights == {"weights:mlp.up" if suffix else "weights": ("mlp.up",)}
    acts = {"acts:norm2_quant" if suffix else "acts": ("norm2_quant", "join2")}
    assert grouping.acts == acts
    assert grouping.other_weights == ("block.q", "block.k", "block.v", "mlp.down")
    assert set(grouping.other_acts) == {
        *("join1", "norm_quant", "q_quant", "k_quant", "v_quant", "soft_quant"),
        *("gelu_quant", "join3"),
    }


MATCHES_NONE = (
    "matches no layer of 'block' that can learn a width; these can: block.q, block.k, block.v, "
    "block.scores, block.mix, mlp.up, mlp.down."
)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"learn": ("conv*",)}, f"Pattern 'conv*' of adaqat.learn {MATCHES_NONE}"),
        ({"learn": ("mlp.*", "head")}, f"Pattern 'head' of adaqat.learn {MATCHES_NONE}"),
        (
            {"learn": ()},
            "adaqat.learn = [] names no layer; give patterns of layer names, such as '*'.",
        ),
        (
            {"granularity": "group", "groups": {"a": ("mlp.*", "fc")}},
            f"Pattern 'fc' of adaqat.groups.a {MATCHES_NONE}",
        ),
        (
            {"granularity": "group", "groups": {"a": ("mlp.*",), "b": ("*.up",)}},
            "Layer 'mlp.up' matches adaqat.groups 'a' and 'b'; a layer has one width, so let the "
            "patterns of one group only match it.",
        ),
        (
            {"granularity": "group", "groups": {"a": ("mlp.*",)}, "learn": ("block.*",)},
            "No layer of adaqat.groups ['a'] matches adaqat.learn ['block.*']; drop the group or "
            "widen learn.",
        ),
    ],
)
def test_patterns_that_cannot_be_meant_are_refused(config, text):
    with pytest.raises(ConfigError) as caught:
        grouped(**config)
    assert str(caught.value) == text

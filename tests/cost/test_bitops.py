import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaqat_hw.cost import bitops, uniform_plan_for, weight_compression
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import BitWidthPlan, LayerBits, LayerSpec, NetworkSpec


def conv(name, inputs, outputs, side, stride=1, kernel=3, act=""):
    out = side // stride
    weights = outputs * inputs * kernel * kernel
    return LayerSpec(
        name=name,
        kind="conv",
        macs=weights * out * out,
        weights=weights,
        in_channels=inputs,
        out_channels=outputs,
        kernel=(kernel, kernel),
        stride=(stride, stride),
        padding=(kernel // 2, kernel // 2),
        input_shape=(inputs, side, side),
        output_shape=(outputs, out, out),
        act=act,
    )


def linear(name, inputs, outputs, act=""):
    return LayerSpec(
        name=name,
        kind="linear",
        macs=inputs * outputs,
        weights=inputs * outputs,
        in_channels=inputs,
        out_channels=outputs,
        input_shape=(inputs,),
        output_shape=(outputs,),
        act=act,
    )


def spec_of(*layers):
    return NetworkSpec(name="net", input_shape=(3, 32, 32), num_classes=10, layers=layers)


@pytest.fixture
def resnet20():
    layers = [conv("conv1", 3, 16, 32)]
    inputs, side = 16, 32
    for stage, outputs in enumerate((16, 32, 64), start=1):
        for block in range(3):
            stride = 2 if stage > 1 and block == 0 else 1
            layers.append(conv(f"stage{stage}.{block}.conv1", inputs, outputs, side, stride))
            side //= stride
            layers.append(conv(f"stage{stage}.{block}.conv2", outputs, outputs, side))
            inputs = outputs
    layers.append(linear("fc", 64, 10))
    return spec_of(*layers)


def test_resnet20_macs_are_the_documented_ones(resnet20):
    macs = [layer.macs for layer in resnet20.layers]
    assert (macs[0], sum(macs[1:-1]), macs[-1]) == (442_368, 40_108_032, 640)


def test_resnet20_w3a4_has_the_bitops_of_the_paper(resnet20):
    counted = bitops(resnet20, uniform_plan_for(resnet20, 3, 4, 8, 8))
    assert counted.per_layer["conv1"] == 28_311_552
    assert counted.per_layer["fc"] == 40_960
    assert counted.total == 509_648_896
    assert f"{counted.total / 1e9:.2f}" == "0.51"


def test_resnet20_w3_compression_is_the_one_of_the_paper(resnet20):
    found = weight_compression(resnet20, uniform_plan_for(resnet20, 3, 4))
    assert found.inner == pytest.approx(32 / 3)
    ends, inner = 432 + 640, sum(layer.weights for layer in resnet20.layers[1:-1])
    assert found.total == pytest.approx(32 * (ends + inner) / (8 * ends + 3 * inner))


def test_compression_weighs_layers_by_their_weights():
    spec = spec_of(linear("a", 1, 1), linear("b", 1, 30), linear("c", 10, 1), linear("d", 1, 1))
    rows = [("a", 8), ("b", 2), ("c", 4), ("d", 8)]
    plan = BitWidthPlan(
        network="net",
        source="manual",
        layers=tuple(LayerBits(layer=n, weight_bits=b, act_bits=4) for n, b in rows),
    )
    assert weight_compression(spec, plan).inner == pytest.approx(32 * 40 / (2 * 30 + 4 * 10))


def test_network_without_inner_layers_has_no_inner_compression():
    for layers in ([linear("a", 4, 4)], [linear("a", 4, 4), linear("b", 4, 2)]):
        spec = spec_of(*layers)
        found = weight_compression(spec, uniform_plan_for(spec, 2, 2, 8, 8))
        assert found.inner is None
        assert found.total == 4.0


def test_plan_and_network_must_have_the_same_layers():
    spec = spec_of(linear("a", 4, 4), linear("b", 4, 2))
    other = spec_of(linear("a", 4, 4), linear("c", 4, 2))
    for count in (bitops, weight_compression):
        with pytest.raises(ConfigError, match=r"lacks \['b'\] and has \['c'\]"):
            count(spec, uniform_plan_for(other, 4, 4))


def test_network_without_layers_is_refused():
    empty = spec_of()
    plan = BitWidthPlan(network="net", source="manual", layers=())
    with pytest.raises(ConfigError, match="'net' has no multiply-accumulate layer"):
        bitops(empty, plan)
    with pytest.raises(ConfigError, match="'net' has no multiply-accumulate layer"):
        uniform_plan_for(empty, 4, 4)


def product(name, left, right, macs=100):
    return LayerSpec(
        name=name,
        kind="matmul",
        macs=macs,
        weights=0,
        in_channels=5,
        out_channels=4,
        input_shape=(5, 5),
        output_shape=(5, 4),
        act=left,
        second_act=right,
    )


@pytest.fixture
def attention():
    return spec_of(
        linear("a", 4, 4, act="in"),
        product("scores", "q", "k"),
        product("context", "softmax", "v", macs=10),
        linear("b", 4, 3, act="b_in"),
        linear("c", 4, 2, act="last"),
    )


def test_products_cost_macs_times_the_widths_of_both_operands(attention):
    plan = uniform_plan_for(attention, 3, 5)
    rows = list(plan.layers)
    rows[1] = rows[1].model_copy(update={"act_bits": 2, "second_act_bits": 7})
    counted = bitops(attention, plan.model_copy(update={"layers": tuple(rows)}))
    assert counted.per_layer["scores"] == 100 * 2 * 7
    assert counted.per_layer["context"] == 10 * 5 * 5
    assert counted.total == 16 * 64 + 1400 + 250 + 12 * 15 + 8 * 64


def test_products_have_no_weights_to_compress(attention):
    found = weight_compression(attention, uniform_plan_for(attention, 4, 2))
    assert found.inner == 8.0
    assert found.total == 32 * (16 + 12 + 8) / (16 * 8 + 12 * 4 + 8 * 8)
    only = spec_of(product("p", "x", "y"))
    with pytest.raises(ConfigError, match="'net' has no weights"):
        weight_compression(only, uniform_plan_for(only, 4, 4))


def test_uniform_plans_give_products_two_activation_widths(attention):
    row = uniform_plan_for(attention, 3, 5).layer("scores")
    assert (row.weight_bits, row.act_bits, row.second_act_bits) == (None, 5, 5)
    assert (row.act, row.second_act) == ("q", "k")
    last = spec_of(linear("a", 4, 4, act="in"), product("p", "x", "y"))
    row = uniform_plan_for(last, 3, 5, 8, 6).layer("p")
    assert (row.act_bits, row.second_act_bits) == (6, 6)


def test_a_plan_with_weights_for_a_product_is_refused(attention):
    plan = uniform_plan_for(attention, 3, 5)
    rows = [LayerBits(layer=row.layer, weight_bits=4, act_bits=4) for row in plan.layers]
    with pytest.raises(ConfigError, match=r"weight_bits 4 .* 'scores', which multiplies two act"):
        bitops(attention, plan.model_copy(update={"layers": tuple(rows)}))
    products = spec_of(*(product(x.name, "x", "y") for x in attention.layers))
    other = uniform_plan_for(products, 3, 5)
    with pytest.raises(ConfigError, match=r"weight_bits None .* 'a', which multiplies weights"):
        weight_compression(attention, other)


widths = st.integers(1, 8)
sizes = st.lists(st.tuples(st.integers(1, 64), st.integers(1, 64)), min_size=1, max_size=6)


@st.composite
def networks_with_plans(draw):
    shapes = draw(sizes)
    spec = spec_of(*(linear(f"l{i}", a, b) for i, (a, b) in enumerate(shapes)))
    rows = tuple(
        LayerBits(layer=layer.name, weight_bits=draw(widths), act_bits=draw(widths))
        for layer in spec.layers
    )
    return spec, BitWidthPlan(network="net", source="manual", layers=rows)


@given(networks_with_plans(), st.data())
def test_one_more_bit_anywhere_costs_exactly_that_layers_share(pair, data):
    spec, plan = pair
    index = data.draw(st.integers(0, len(plan.layers) - 1))
    row, layer = plan.layers[index], spec.layers[index]
    wider = list(plan.layers)
    wider[index] = row.model_copy(update={"weight_bits": row.weight_bits + 1})
    grown = plan.model_copy(update={"layers": tuple(wider)})
    added = bitops(spec, grown).total - bitops(spec, plan).total
    assert added == layer.macs * row.act_bits > 0
    assert weight_compression(spec, grown).total < weight_compression(spec, plan).total


@given(networks_with_plans(), st.integers(1, 4))
def test_scaling_every_width_scales_bitops_by_the_square(pair, factor):
    spec, plan = pair
    rows = tuple(
        r.model_copy(
            update={"weight_bits": r.weight_bits * factor, "act_bits": r.act_bits * factor}
        )
        for r in plan.layers
    )
    scaled = plan.model_copy(update={"layers": rows})
    assert bitops(spec, scaled).total == factor**2 * bitops(spec, plan).total
    assert weight_compression(spec, scaled).total == pytest.approx(
        weight_compression(spec, plan).total / factor
    )


@given(networks_with_plans())
def test_total_is_the_sum_of_the_layers(pair):
    counted = bitops(*pair)
    assert counted.total == math.fsum(counted.per_layer.values())
    assert list(counted.per_layer) == [layer.name for layer in pair[0].layers]


def test_uniform_plan_sets_ends_signs_and_source():
    spec = spec_of(
        linear("a", 4, 4, act="input_quant"),
        linear("b", 4, 4, act="relu1"),
        linear("c", 4, 4, act="relu2"),
    )
    plan = uniform_plan_for(spec, 3, 4, 7, 6)
    found = [(r.layer, r.weight_bits, r.act_bits, r.act_signed, r.act) for r in plan.layers]
    assert found == [
        ("a", 7, 6, True, "input_quant"),
        ("b", 3, 4, False, "relu1"),
        ("c", 7, 6, False, "relu2"),
    ]
    assert (plan.source, plan.network) == ("uniform", "net")
    assert not uniform_plan_for(spec, 3, 4, input_signed=False).layer("a").act_signed


def test_uniform_plan_gives_shared_quantizers_one_width():
    spec = spec_of(
        linear("a", 4, 4, act="in"),
        linear("b", 4, 4, act="in"),
        linear("c", 4, 4, act="last"),
        linear("d", 4, 4, act="last"),
    )
    plan = uniform_plan_for(spec, 3, 4, 8, 8)
    assert [r.act_bits for r in plan.layers] == [8, 8, 8, 8]
    assert [r.act_signed for r in plan.layers] == [True, True, False, False]
    assert [r.weight_bits for r in plan.layers] == [8, 3, 3, 8]


def test_uniform_plan_refuses_impossible_widths():
    spec = spec_of(linear("a", 4, 4), linear("b", 4, 4), linear("c", 4, 4))
    with pytest.raises(ConfigError, match="weight_bits = 0"):
        uniform_plan_for(spec, 0, 4)

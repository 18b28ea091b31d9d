import subprocess
import sys

import pytest

from adaqat_hw.cost import bitops_per_cycle, layer_features, threshold_bits
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import (
    BitWidthPlan,
    HardwareGraph,
    HardwareNode,
    HostInterface,
    IntType,
    LayerBits,
    Resources,
    Stream,
)


def stream(bits):
    return Stream(name="t", dtype=IntType(bits=bits, signed=False), folded_shape=(1, 16, 4))


def node(name, op, layer, attributes, in_bits=4, out_bits=4):
    return HardwareNode(
        name=name,
        op=op,
        backend="rtl",
        layer=layer,
        generator="finn",
        impl="lut" if op == "MVAU" else None,
        inputs=(stream(in_bits),),
        outputs=(stream(out_bits),),
        attributes=attributes,
        cycles=256,
        estimate=Resources(),
    )


def graph_of(*nodes):
    integer = IntType(bits=8, signed=True)
    return HardwareGraph(
        network="net",
        part="xc7z020clg400-1",
        clock_ns=10.0,
        nodes=nodes,
        input_stream=stream(8),
        output_stream=stream(8),
        host=HostInterface(
            input_scale=1.0,
            input_dtype=integer,
            input_nchw=False,
            input_shape=(1, 64),
            output_shape=(1, 10),
            output_dtype=integer,
            output_scale=(1.0,),
            output_bias=(0.0,),
        ),
        parameters_file="p.npz",
        parameters_sha256="0",
        golden_file="g.npz",
        golden_sha256="0",
        cycles_estimated=256,
        fps_estimated=1.0,
    )


def plan_of(*names):
    rows = tuple(LayerBits(layer=n, weight_bits=3, act_bits=4) for n in names)
    return BitWidthPlan(network="net", source="manual", layers=rows)


FOLDED = {"PE": 2, "SIMD": 8, "MW": 64, "MH": 16}


def test_bitops_per_cycle_is_the_product():
    assert bitops_per_cycle(4, 8, 3, 5) == 480
    assert bitops_per_cycle(1, 1, 1, 1) == 1


def test_threshold_bits_double_with_every_output_bit():
    assert threshold_bits(2, 12, 4) == 2 * 15 * 12
    assert threshold_bits(1, 20, 8) == 255 * 20


@pytest.mark.parametrize("wrong", [(0, 1, 1, 1), (1, -2, 1, 1), (1, 1, 0, 1), (1, 1, 1, 0)])
def test_bitops_per_cycle_refuses_less_than_one(wrong):
    with pytest.raises(ConfigError, match="must be 1 or more"):
        bitops_per_cycle(*wrong)


def test_threshold_bits_refuse_less_than_one():
    with pytest.raises(ConfigError, match="output of a threshold is 0"):
        threshold_bits(1, 12, 0)


def test_features_join_graph_and_plan_in_plan_order():
    graph = graph_of(
        node("pad", "FMPadding", "a", {}),
        node("mvau0", "MVAU", "a", FOLDED),
        node("thr0", "Thresholding", "a", {"PE": 2}, in_bits=12, out_bits=4),
        node("mvau1", "MVAU", "b", FOLDED | {"PE": 1}),
    )
    b, a = layer_features(graph, plan_of("b", "a"))
    assert (a.layer, b.layer) == ("a", "b")
    assert (a.macs_per_cycle, b.macs_per_cycle) == (16, 8)
    assert (a.bitops_per_cycle, b.bitops_per_cycle) == (16 * 12, 8 * 12)
    assert a.weight_bits_stored == 64 * 16 * 3
    assert a.threshold_bits == 2 * 15 * 12
    assert b.threshold_bits is None
    assert (a.impl, a.cycles) == ("lut", 256)


def test_depthwise_weights_count_kernel_times_channels():
    graph = graph_of(node("v", "VVAU", "a", {"PE": 2, "SIMD": 3, "Channels": 8, "Kernel": (3, 3)}))
    (found,) = layer_features(graph, plan_of("a"))
    assert found.weight_bits_stored == 72 * 3
    assert found.macs_per_cycle == 6


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([], ["no compute node for the layers ['a']"]),
        ([node("m", "MVAU", "z", FOLDED)], ["'m'", "'z'", "lacks"]),
        ([node("m", "MVAU", None, FOLDED)], ["'m'", "None"]),
        (
            [node("m", "MVAU", "a", FOLDED), node("n", "MVAU", "a", FOLDED)],
            ["two compute nodes", "'m'", "'n'"],
        ),
        ([node("m", "MVAU", "a", {"PE": 2})], ["'SIMD' of node 'm' is None"]),
        ([node("v", "VVAU", "a", {"PE": 2, "SIMD": 3})], ["'Channels' of node 'v' is None"]),
    ],
)
def test_graphs_that_do_not_fit_the_plan_are_refused(nodes, words):
    with pytest.raises(ConfigError) as caught:
        layer_features(graph_of(*nodes), plan_of("a"))
    for word in words:
        assert word in str(caught.value)


def test_cost_loads_no_torch():
    code = "import sys, adaqat_hw.cost, adaqat_hw.boards; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_products_of_activations_have_no_features():
    operands = {"act": "q", "second_act": "k", "second_act_bits": 4, "second_act_signed": True}
    rows = (LayerBits(layer="scores", act_bits=4, **operands),)
    plan = BitWidthPlan(network="net", source="manual", layers=rows)
    with pytest.raises(
        ConfigError, match=r"\['scores'\] .* multiply two activations, which no hard"
    ):
        layer_features(graph_of(), plan)

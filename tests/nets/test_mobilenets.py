from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from adaqat_hw import nets
from adaqat_hw.nets._mobile import scaled
from adaqat_hw.quant import network_spec
from adaqat_hw.schema import NetworkConfig


def build(name, device="meta", **options):
    with torch.device(device):
        return nets.build(NetworkConfig(name=name, options=options))


def macs(name, shape=(3, 224, 224), **options):
    """MACs per layer, after comparing their sum to torch's own counter."""
    net = build(name, input_shape=shape, **options)
    layers = network_spec(net, shape, name, 1000).layers
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, *shape, device="meta"))
    counted = {layer.name: layer.macs for layer in layers}
    assert sum(counted.values()) == counter.get_total_flops() // 2
    return counted


@pytest.mark.parametrize(
    ("name", "options", "total", "layers", "parameters"),
    [  # the papers: 569, 300, 149 (width 0.5) and 97 (width 0.5) million; 4.2 and 3.4 million
        ("mobilenet-v1", {}, 568_740_352, 28, 4_231_976),
        ("mobilenet-v2", {}, 300_774_272, 53, 3_504_872),
        ("mobilenet-v1", {"width": 0.5}, 149_000_000, 28, 1_331_592),
        ("mobilenet-v2", {"width": 0.5}, 97_000_000, 53, 1_968_680),
    ],
)
def test_macs_and_parameters_are_as_published(name, options, total, layers, parameters):
    counted = macs(name, **options)
    assert len(counted) == layers
    assert sum(counted.values()) == pytest.approx(total, rel=0 if not options else 0.01)
    assert sum(p.numel() for p in build(name, **options).parameters()) == parameters


def test_the_papers_table_of_v1_where_it_can_be_read_off():
    counted = macs("mobilenet-v1")
    assert counted["stem.conv"] == 112 * 112 * 32 * 27
    assert counted["stage4.3.depthwise.conv"] == 14 * 14 * 512 * 9
    assert counted["stage5.1.pointwise.conv"] == 7 * 7 * 1024 * 1024
    share = sum(n for name, n in counted.items() if "pointwise" in name) / sum(counted.values())
    assert share == pytest.approx(0.9486, abs=1e-3)  # its table 2


@pytest.mark.parametrize(("name", "side"), [("mobilenet-v1", 2), ("mobilenet-v2", 4)])
def test_cifar_strides_leave_something_to_pool(name, side):
    net = build(name, input_shape=(3, 32, 32), strides="cifar")
    assert net[: list(net._modules).index("pool")](torch.zeros(1, 3, 32, 32, device="meta")).shape[
        2:
    ] == (side, side)


@pytest.mark.parametrize(
    ("channels", "width", "wanted"),
    [(32, 1.0, 32), (32, 0.75, 24), (24, 0.35, 8), (16, 0.1, 8), (96, 1.4, 136), (24, 0.75, 24)],
)
def test_scaled_channels_are_multiples_of_eight_never_a_tenth_below(channels, width, wanted):
    # 24 * 0.75 = 18: 16 lies more than a tenth below, so 24.
    assert scaled(channels, width) == wanted


def test_depthwise_layers_filter_each_channel_on_its_own(small):
    for name in ("mobilenet-v1", "mobilenet-v2"):
        layers = small(name).spec.layers
        for layer in layers:
            assert (layer.kind == "depthwise") == ("depthwise" in layer.name)
            if layer.kind == "depthwise":
                assert layer.groups == layer.in_channels == layer.out_channels
                height, width = layer.output_shape[1:]
                assert layer.macs == height * width * layer.out_channels * 9


def test_v2_adds_ten_residuals_without_a_relu_behind():
    traced = torch.fx.symbolic_trace(build("mobilenet-v2", "cpu"))
    modules = dict(traced.named_modules())
    adds = [n for n in traced.graph.nodes if n.op == "call_function"]
    assert len(adds) == 10
    readers = [modules[str(u.target)] for n in adds for u in n.users if u.op == "call_module"]
    assert readers
    assert all(isinstance(m, nn.Conv2d) for m in readers)
    sources = [modules[str(n.args[1].target)] for n in adds]
    assert all(isinstance(m, nn.BatchNorm2d) for m in sources)


@pytest.mark.parametrize(("activation", "kind"), [("relu", nn.ReLU), ("relu6", nn.ReLU6)])
def test_v2_activation_is_a_choice(activation, kind):
    found = {type(m) for m in build("mobilenet-v2", activation=activation).modules()}
    assert found & {nn.ReLU, nn.ReLU6} == {kind}


def test_v2_bottlenecks_are_signed_and_named_after_their_reader(small):
    network = small("mobilenet-v2")
    acts = {layer.name: layer.act for layer in network.spec.layers}
    assert acts["stem.conv"] == "input_quant"
    assert acts["stage2.1.depthwise.conv"] == "stage2.1.expand.relu"
    assert acts["stage2.1.project.conv"] == "stage2.1.depthwise.relu"
    assert acts["fc"] == "head.relu"
    linear = {name: act for name, act in acts.items() if ".expand." in name or name == "head.conv"}
    assert linear == {name: f"{name.replace('.', '_')}_input_quant" for name in linear}
    signed = {name for name, width in network.act_widths.items() if width.signed}
    joins = {x.quantizer for x in network.plan("uniform").joins}
    assert signed == {"input_quant", *linear.values(), *joins}
    assert joins == {"stage2_1_add_join_quant"}


def test_v2_join_quantizes_both_addends_and_the_next_layer_reads_the_sum(small):
    network = small("mobilenet-v2")
    nodes = {n.name: n for n in network.network.graph.nodes}
    calls = [n for n in nodes.values() if n.target == "stage2_1_add_join_quant"]
    (add,) = {user for call in calls for user in call.users}
    assert add.target is torch.add
    assert list(add.args) == calls
    (reader,) = add.users
    assert reader.target == "stage3_0_expand_conv_input_quant"
    # The addend that skips the block is the same tensor that its first layer reads, quantized
    # there at its own scale.
    skipped = calls[0].args[0]
    assert {u.target for u in skipped.users} == {
        "stage2_1_add_join_quant",
        "stage2_1_expand_conv_input_quant",
    }

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from adaqat_hw import nets
from adaqat_hw.cost import bitops, uniform_plan_for
from adaqat_hw.quant import network_spec
from adaqat_hw.schema import NetworkConfig


def build(device="meta", **options):
    with torch.device(device):
        return nets.build(NetworkConfig(name="resnet18", options=options))


@pytest.fixture(scope="module")
def spec():
    return network_spec(build(), (3, 224, 224), "resnet18", 1000)


def test_macs_are_those_of_the_shapes_and_of_torchs_counter(spec):
    macs = {layer.name: layer.macs for layer in spec.layers}
    with FlopCounterMode(display=False) as counter:
        build()(torch.zeros(1, 3, 224, 224, device="meta"))
    assert sum(macs.values()) == counter.get_total_flops() // 2
    assert macs.pop("conv1") == 118_013_952
    assert macs.pop("fc") == 512_000
    assert len(macs) == 19
    assert sum(macs.values()) == 1_695_547_392


def test_parameters_are_as_many_as_published():
    assert sum(p.numel() for p in build().parameters()) == 11_689_512


@pytest.mark.parametrize(("bits", "total"), [(4, 34_714_419_200), (8, 116_100_694_016)])
def test_bitops_of_uniform_plans(spec, bits, total):
    plan = uniform_plan_for(spec, bits, bits, end_weight_bits=8, end_act_bits=8)
    assert bitops(spec, plan).total == total


def test_both_addends_of_a_block_share_one_quantizer(small):
    network = small("resnet18")
    joins = [x.quantizer for x in network.plan("uniform").joins]
    blocks = [f"stage{stage}_{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
    assert joins == [f"{block}_relu2_join_quant" for block in blocks]
    for join in joins:
        calls = [n for n in network.network.graph.nodes if n.target == join]
        assert len(calls) == 2
        assert {user for call in calls for user in call.users} == set(calls[0].users)


def test_shortcut_convolutions_read_what_the_block_reads(small):
    acts = {layer.name: layer.act for layer in small("resnet18").spec.layers}
    shortcuts = [name for name in acts if ".shortcut." in name]
    assert shortcuts == [f"stage{stage}.0.shortcut.conv" for stage in (1, 2, 3, 4)][1:]
    for name in shortcuts:
        assert acts[name] == acts[name.replace("shortcut.conv", "conv1")]


def test_the_small_stem_keeps_the_image():
    net = build("cpu", stem="cifar", channels=(4, 4, 4, 4), num_classes=10)
    assert (net.conv1.kernel_size, net.conv1.stride) == ((3, 3), (1, 1))
    assert not any(isinstance(m, nn.MaxPool2d) for m in net.modules())
    assert net.stage1(net.conv1(torch.zeros(1, 3, 32, 32))).shape == (1, 4, 32, 32)

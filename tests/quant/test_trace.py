from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant import network_spec
from adaqat_hw.quant.trace import trace


def acts(net, shape, classes):
    return {x.name: x.act for x in network_spec(net, shape, "n", classes).layers}


def sites(net, shape, classes):
    return [(s.name, s.kind) for s in trace(net, shape, "n", classes).sites]


def test_mlp_layers_macs_and_quantizers(mlp):
    spec = network_spec(mlp, (1, 8, 8), "tiny", 3)
    assert [(x.name, x.kind, x.macs, x.weights, x.act) for x in spec.layers] == [
        ("1", "linear", 1024, 1024, "input_quant"),
        ("4", "linear", 192, 192, "3"),
        ("7", "linear", 36, 36, "6"),
    ]
    assert spec.layers[0].input_shape == (64,)


def test_residual_network_has_one_join_quantizer_for_both_addends(residual):
    assert acts(residual, (1, 8, 8), 3) == {
        "conv0": "input_quant",
        "body.0": "relu0",
        "body.3": "body.2",
        "fc": "relu",
    }
    assert sites(residual, (1, 8, 8), 3) == [
        ("input_quant", "input"),
        ("relu0", "relu"),
        ("body.2", "relu"),
        ("relu_join_quant", "join"),
        ("relu", "relu"),
    ]


def test_convolution_shapes_groups_and_macs():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, (3, 1), padding="same", groups=8),
        nn.ReLU6(),
        nn.Conv2d(8, 4, 1, groups=2),
        nn.Flatten(),
        nn.Linear(64, 5),
    )
    first, depthwise, grouped, last = network_spec(net, (3, 8, 8), "n", 5).layers
    assert first.macs == 8 * 4 * 4 * 9 * 3
    assert (first.kernel, first.stride, first.padding) == ((3, 3), (2, 2), (1, 1))
    assert (first.input_shape, first.output_shape) == ((3, 8, 8), (8, 4, 4))
    assert (depthwise.kind, depthwise.groups, depthwise.macs) == ("depthwise", 8, 8 * 16 * 3)
    assert depthwise.padding == (1, 0)
    assert (grouped.kind, grouped.groups, grouped.macs) == ("conv", 2, 4 * 16 * 4)
    assert last.act == "6_input_quant"


def test_layer_without_quantized_producer_gets_its_own_quantizer():
    net = nn.Sequential()
    net.add_module("a", nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
    net.add_module("b", nn.Sequential(nn.Linear(4, 2)))
    assert acts(net, (4,), 2) == {"a.0": "input_quant", "b.0": "b_0_input_quant"}


def test_adds_without_a_relu_are_named_after_the_module_that_adds():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            x = x + self.left(x)
            return x + self.right(x)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stages = nn.Sequential(Twice())
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(self.stages(x) + x)

    joins = [name for name, kind in sites(Net(), (4,), 2) if kind == "join"]
    assert joins == ["stages_0_add_join_quant", "stages_0_add_1_join_quant", "add_2_join_quant"]


def test_layers_that_read_one_unquantized_value_share_its_quantizer():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.left, self.right = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x):
            x = self.stem(x)
            return self.left(x) + self.right(x)

    assert acts(Net(), (4,), 2) == {
        "stem": "input_quant",
        "left": "left_input_quant",
        "right": "left_input_quant",
    }
    # The sum of the two outputs feeds no layer and stays float.
    assert sorted(kind for _, kind in sites(Net(), (4,), 2)) == ["input", "inserted"]


def test_a_relu_used_twice_gets_two_quantizers():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
            self.act = nn.ReLU(inplace=True)

        def forward(self, x):
            return self.c(self.act(self.b(self.act(self.a(x)))))

    assert acts(Net(), (4,), 2) == {"a": "input_quant", "b": "act", "c": "act_1"}


def test_functional_forms_are_understood():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(4 * 3 * 3, 2)

        def forward(self, x):
            x = F.max_pool2d(F.relu(self.conv(x)), 2)
            x = F.dropout(x, 0.5, training=self.training)
            return self.fc(x.view(x.size(0), -1))

    assert acts(Net(), (1, 8, 8), 2) == {"conv": "input_quant", "fc": "relu"}


def test_what_follows_the_last_layer_is_left_alone():
    net = nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.LogSoftmax(dim=1))
    assert sites(net, (4,), 2) == [("input_quant", "input")]


NO_FORM = (
    " before a layer, which has no quantized form; use Conv1d/2d, Linear, products of two "
    "activations (MatMul), BatchNorm, LayerNorm, ReLU, GELU, SiLU, Tanh, Softmax, Embedding, max "
    "or average pooling, flattening, dropout, residual additions of two tensors and arithmetic "
    "with constants."
)


@pytest.mark.parametrize(
    ("layers", "part"),
    [
        ([nn.Sigmoid()], "Sigmoid '1'"),
        ([nn.Softplus(), nn.PReLU()], "Softplus '1', PReLU '2'"),
    ],
)
def test_unknown_modules_before_a_layer_are_named(layers, part):
    net = nn.Sequential(nn.Linear(4, 4), *layers, nn.Linear(4, 2))
    text = f"The network holds {part}{NO_FORM}"
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        network_spec(net, (4,), "n", 2)


def test_unknown_functions_before_a_layer_are_named():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(torch.exp(x).cos())

    text = f"The network holds function 'exp', function 'cos'{NO_FORM}"
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        network_spec(Net(), (4,), "n", 2)


def test_what_cannot_be_traced_or_run_is_refused_with_the_cause():
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(x) if x.sum() > 0 else x

    class Mode(Branch):
        def forward(self, x):
            return self.fc(x).relu() if self.training else self.fc(x)

    class Twice(Branch):
        def forward(self, x):
            return self.fc(self.fc(x))

    text = (
        "Network 'Branch' cannot be traced (symbolically traced variables cannot be used as "
        "inputs to control flow); its forward must not branch on values of tensors."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        network_spec(Branch(), (4,), "n", 2)
    text = (
        "Network 'Mode' computes different graphs in training and evaluation; use modules such "
        "as Dropout in place of branches on self.training."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        network_spec(Mode(), (4,), "n", 2)
    twice = Twice()
    twice.fc = nn.Linear(4, 4)
    text = "Layer 'fc' is used twice in the network; give each use its own module."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        network_spec(twice, (4,), "n", 4)
    text = (
        r"^The network does not run on input_shape \(5,\) \(ShapeProp error for: .*\); give the "
        r"shape of one sample without the batch dimension\.$"
    )
    with pytest.raises(ConfigError, match=text):
        network_spec(nn.Sequential(nn.Linear(4, 2)), (5,), "n", 2)
    text = "The network maps a batch of 2 to shape (2, 2); num_classes 3 asks for (2, 3)."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        network_spec(nn.Sequential(nn.Linear(4, 2)), (4,), "n", 3)
    text = "The network has no Conv1d, Conv2d or Linear layer to quantize."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        network_spec(nn.Sequential(nn.ReLU()), (4,), "n", 4)


def test_the_float_network_is_left_as_it_is(residual):
    before = {k: v.clone() for k, v in residual.state_dict().items()}
    residual.eval()
    network_spec(residual, (1, 8, 8), "n", 3)
    assert not residual.training
    assert all(torch.equal(v, before[k]) for k, v in residual.state_dict().items())

from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant import network_spec
from adaqat_hw.quant.trace import trace


def _any_line(text):
    return re.escape(text).replace("line\\ N", r"line\ \d+")


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


NO_DROP = (
    "a random drop of whole samples cannot be quantized: set its probability to 0 or replace its "
    "module by nn.Identity, and use modules such as Dropout in place of branches on self.training."
)
NO_FORM = (
    " before a layer, which has no quantized form; use Conv1d/2d, Linear, MultiheadAttention, "
    "products of two activations (MatMul), BatchNorm, LayerNorm, ReLU, GELU, SiLU, Mish, ELU, "
    "LeakyReLU, Hardswish, Sigmoid, Tanh, Softmax, Embedding, max or average pooling, nearest "
    "Upsample, flattening, dropout, residual additions of two tensors and arithmetic with "
    "constants."
)


@pytest.mark.parametrize(
    ("layers", "part"),
    [
        ([nn.SELU()], "SELU '1'"),
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
        "Network 'Branch' cannot be traced (line N of test_trace.py 'return self.fc(x) if x.sum() "
        "> 0 else x': symbolically traced variables cannot be used as inputs to control flow); its "
        "forward must not branch on values of tensors."
    )
    with pytest.raises(ConfigError, match=f"^{_any_line(text)}$"):
        network_spec(Branch(), (4,), "n", 2)
    text = (
        "Network 'Mode' computes something else in training ('relu') than in evaluation "
        f"('output'); {NO_DROP}"
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
    text = (
        "The network maps a batch of 2 to shape (2, 2); num_classes 3 asks for (2, 3); an output "
        "of another form is trained with a loss_fn (in quantize, num_classes = None)."
    )
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


@pytest.mark.parametrize(
    ("module", "shape", "text"),
    [
        (
            nn.ConvTranspose2d(4, 4, 2, stride=2),
            (4, 8, 8),
            "ConvTranspose2d 'part', which has no quantized form; use nn.Upsample with mode "
            "'nearest' and a Conv1d or Conv2d in its place.",
        ),
        (
            nn.GRU(8, 8, batch_first=True),
            (4, 8),
            "GRU 'part', which has no quantized form; use convolutions over time or attention in "
            "its place.",
        ),
        (
            nn.LSTM(8, 8, batch_first=True),
            (4, 8),
            "LSTM 'part', which has no quantized form; use convolutions over time or attention in "
            "its place.",
        ),
        (
            nn.Conv3d(4, 4, 1),
            (4, 8, 8, 8),
            "Conv3d 'part', which has no quantized form; use Conv1d, Conv2d or Linear in its "
            "place.",
        ),
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_other_layers_with_weights_are_refused_wherever_they_stand(module, shape, text, last):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.part, self.fc = module, nn.Linear(8, 8)

        def forward(self, x):
            y = self.part(self.fc(x) if last else x)
            y = y[0] if isinstance(module, nn.RNNBase) else y
            return y if last else self.fc(y[..., :8])

    # Whatever num_classes asks for: the shape of the output is not what is wrong.
    with pytest.raises(ConfigError, match=f"^{re.escape(f'The network holds {text}')}$"):
        network_spec(Net(), shape, "n", 3)


def test_functions_with_weights_are_refused():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return F.linear(self.fc(x), self.fc.weight)

    text = (
        "The network calls function 'linear', whose weights have no name to quantize them by; use "
        "the module (such as nn.Conv2d) in its place."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        network_spec(Net(), (4,), "n")


class Upsamples(nn.Module):
    def __init__(self, upsample):
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 2, 3, padding=1)
        self.up = upsample

    def forward(self, x):
        return self.b(self.up(F.relu(self.a(x))))


class Interpolates(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.options = options

    def forward(self, x):
        return F.interpolate(x, **self.options)


@pytest.mark.parametrize(
    "upsample",
    [
        nn.Upsample(scale_factor=2),
        nn.Upsample(size=(24, 16), mode="nearest"),
        nn.UpsamplingNearest2d(scale_factor=3),
        Interpolates(scale_factor=2),
        Interpolates(size=(16, 16), mode="nearest"),
    ],
)
def test_nearest_upsampling_keeps_the_quantizer_in_front(upsample):
    assert acts(Upsamples(upsample), (2, 8, 8), None) == {"a": "input_quant", "b": "relu"}


@pytest.mark.parametrize(
    ("upsample", "name"),
    [
        (nn.Upsample(scale_factor=2, mode="bilinear"), "Upsample 'up'"),
        (nn.UpsamplingBilinear2d(scale_factor=2), "UpsamplingBilinear2d 'up'"),
        (nn.Upsample(scale_factor=1.5), "Upsample 'up'"),
        (Interpolates(scale_factor=2, mode="bicubic"), "function 'interpolate'"),
        (Interpolates(size=(12, 12)), "function 'interpolate'"),
    ],
)
def test_other_upsampling_is_refused(upsample, name):
    text = (
        f"The network holds {name} before a layer, which has no quantized form unless its mode is "
        "'nearest' and its factors are whole; set mode = 'nearest' and such a scale_factor."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        network_spec(Upsamples(upsample), (2, 8, 8), "n")


@pytest.mark.parametrize(
    "activation",
    [nn.LeakyReLU(), nn.ELU(), nn.Hardswish(), nn.Mish(), nn.SiLU(), nn.GELU(), nn.Tanh()],
)
def test_activation_functions_stay_float_with_a_note(activation):
    traced = trace(nn.Sequential(nn.Linear(4, 4), activation, nn.Linear(4, 2)), (4,), "n", 2)
    assert [(s.kind, s.signed) for s in traced.sites] == [("input", True), ("inserted", True)]
    assert traced.notes == (
        "Computed in floating point, and quantized where a layer reads it: "
        f"{type(activation).__name__} '1'. The network trains and exports; no accelerator of it "
        "can be built, as one with ReLU can.",
    )


@pytest.mark.parametrize("gate", [nn.Sigmoid(), nn.Hardsigmoid(), nn.Softmax(-1)])
def test_what_lies_between_0_and_1_is_quantized_unsigned(gate):
    traced = trace(nn.Sequential(nn.Linear(4, 4), gate, nn.Linear(4, 2)), (4,), "n", 2)
    assert [(s.signed, s.clip) for s in traced.sites if s.kind == "inserted"] == [(False, 1.0)]


def test_a_network_without_classes_has_an_output_of_any_shape():
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 1))
    assert network_spec(net, (2, 8, 8), "n").num_classes is None
    flat = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
    assert network_spec(flat, (4,), "n").layers[0].output_shape == (1,)
    text = (
        "The network maps a batch of 2 to shape (8, 2); the first dimension of its output must be "
        "the batch."
    )
    merged = nn.Sequential(nn.Linear(2, 2), nn.Flatten(0, 1))
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        network_spec(merged, (4, 2), "n")
    text = "The network returns 'tuple'; it must return one tensor."

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            return self.a(x), self.b(x)

    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        network_spec(Pair(), (2,), "n")

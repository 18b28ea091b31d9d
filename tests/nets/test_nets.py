import pytest
import torch
from torch import nn

from adaqat_hw import nets
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import NetworkConfig
from tests.error_texts import raises_text

# Transformers have biases, other initialisations and other layers; they have tests of their own.
CONVOLUTIONAL = tuple(n for n in nets.names() if n not in ("vit", "text-encoder"))
CLASSES = {"mobilenet-v1": 1000, "mobilenet-v2": 1000, "resnet18": 1000, "speech-cnn": 9}


def build(name, **options):
    return nets.build(NetworkConfig(name=name, options=options))


def macs_of(net, input_shape):
    """Multiply-accumulates per layer, seen by running one sample."""
    found = {}

    def watch(name):
        def hook(module, args, out):
            found[name] = module.weight[0].numel() * out[0].numel()

        return hook

    for name, module in net.named_modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            module.register_forward_hook(watch(name))
    net.eval()(torch.zeros(1, *input_shape))
    return found


def test_names_are_the_promised_ones():
    assert nets.names() == (
        *("cnv", "demo-cnn", "mlp", "mobilenet-v1", "mobilenet-v2"),
        *("resnet18", "resnet20", "speech-cnn", "text-encoder", "vit"),
    )


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_forward_has_a_logit_per_class_and_info_tells_the_shape(name):
    info = nets.info(name)
    assert info.name == name
    assert info.num_classes == CLASSES.get(name, 10)
    assert info.description
    out = build(name)(torch.randn(2, *info.input_shape))
    assert out.shape == (2, info.num_classes)
    assert out.isfinite().all()


@pytest.mark.parametrize(
    ("name", "options"),
    [(n, {"input_shape": (3, 32, 32)} if CLASSES.get(n) == 1000 else {}) for n in CONVOLUTIONAL]
    + [("resnet20", {"shortcut": "B"}), ("mlp", {"input_shape": (64,)})],
)
def test_symbolic_trace_computes_the_same(name, options):
    torch.manual_seed(0)
    config = NetworkConfig(name=name, options=options)
    net = nets.build(config).eval()
    traced = torch.fx.symbolic_trace(net)
    x = torch.randn(3, *nets.info(config).input_shape)
    assert torch.equal(traced(x), net(x))
    relus = [n for n in traced.graph.nodes if n.op == "call_function" and "relu" in str(n.target)]
    assert relus == []


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_no_bias_before_batch_norm_and_one_at_the_head(name):
    kinds = nn.Conv1d | nn.Conv2d | nn.Linear
    layers = [m for m in build(name).modules() if isinstance(m, kinds)]
    assert all(m.bias is None for m in layers[:-1])
    assert layers[-1].bias is not None
    bare = [m for m in build(name, head_bias=False).modules() if isinstance(m, nn.Linear)]
    assert bare[-1].bias is None


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_weights_follow_kaiming(name):
    torch.manual_seed(1)
    layers = [m for m in build(name).modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Linear)]
    large = [layer.weight for layer in layers if layer.weight.numel() > 600]
    assert len(large) >= 2
    for weight in large:
        expected = (2 / weight[0].numel()) ** 0.5
        assert weight.std().item() == pytest.approx(expected, rel=0.1)


def test_same_seed_gives_the_same_weights():
    torch.manual_seed(3)
    first = build("demo-cnn").state_dict()
    torch.manual_seed(3)
    second = build("demo-cnn").state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_resnet20_has_the_macs_of_the_paper():
    macs = macs_of(build("resnet20"), (3, 32, 32))
    assert macs.pop("conv1") == 442_368
    assert macs.pop("fc") == 640
    assert len(macs) == 18
    assert sum(macs.values()) == 40_108_032


def test_resnet20_shortcut_a_has_no_parameters_and_b_two_convolutions():
    count = {s: sum(p.numel() for p in build("resnet20", shortcut=s).parameters()) for s in "AB"}
    extra_weights = 16 * 32 + 32 * 64
    extra_norm = 2 * (32 + 64)
    assert count["B"] - count["A"] == extra_weights + extra_norm


def test_resnet20_shortcut_a_subsamples_and_pads_channels():
    from adaqat_hw.nets.resnet20 import PadShortcut

    x = torch.arange(1.0, 17.0).reshape(1, 1, 4, 4)
    out = PadShortcut(2, 3)(x)
    assert out.shape == (1, 4, 2, 2)
    assert out[0, 1].tolist() == [[1.0, 3.0], [9.0, 11.0]]
    assert out[0, [0, 2, 3]].abs().sum() == 0


def test_mlp_takes_flat_vectors_and_digits():
    net = build("mlp").eval()
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(net(x), net(x.flatten(1)))
    assert list(macs_of(build("mlp"), (64,)).values()) == [4096, 4096, 640]
    assert not any(isinstance(m, nn.Flatten) for m in build("mlp", input_shape=(64,)).modules())


def test_cnv_has_nine_layers_without_padding():
    net = build("cnv")
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convs] == [64, 64, 128, 128, 256, 256]
    assert all(m.padding == (0, 0) for m in convs)
    assert [m.out_features for m in net.modules() if isinstance(m, nn.Linear)] == [512, 512, 10]
    assert net.fc1.in_features == 256


def test_options_change_the_network_and_info():
    config = NetworkConfig(
        name="demo-cnn", options={"channels": (4, 6), "input_shape": (1, 28, 28)}
    )
    net = nets.build(config)
    assert (net.conv1.out_channels, net.conv2.out_channels) == (4, 6)
    assert net.fc.in_features == 6 * 7 * 7
    assert nets.info(config).input_shape == (1, 28, 28)
    assert nets.info(config).options["channels"] == (4, 6)


def test_a_fractional_option_survives_the_record_and_integers_stay_integers():
    config = NetworkConfig(name="mobilenet-v1", options={"width": 0.5, "num_classes": 10})
    again = NetworkConfig.model_validate_json(config.model_dump_json())
    assert again == config
    assert [type(v) for v in again.options.values()] == [float, int]
    assert nets.build(again).fc.weight.shape == (10, 512)


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        (
            "mlp",
            {"widht": 3},
            " has no option 'widht'; it takes head_bias, hidden, input_shape, num_classes.",
        ),
        ("mlp", {"hidden": (64, 0)}, ": option hidden.1 = 0: Input should be greater than 0."),
        ("mlp", {"head_bias": 1}, ": option head_bias = 1: Input should be a valid boolean."),
        (
            "mlp",
            {"num_classes": True},
            ": option num_classes = True: Input should be a valid integer.",
        ),
        (
            "demo-cnn",
            {"channels": (8, 16, 32)},
            ": option channels = (8, 16, 32): Tuple should have at most 2 items after validation, "
            "not 3.",
        ),
        (
            "demo-cnn",
            {"input_shape": (1, 9, 8)},
            ": input_shape (1, 9, 8) must have a height and a width that are multiples of 4, for "
            "two 2x2 poolings.",
        ),
        (
            "cnv",
            {"input_shape": (3, 28, 28)},
            ": input_shape (3, 28, 28) must be at least 32 pixels high and wide, or nothing is "
            "left "
            "after the convolutions.",
        ),
        ("resnet20", {"shortcut": "C"}, ": option shortcut = 'C': Input should be 'A' or 'B'."),
        (
            "resnet20",
            {"channels": (32, 16, 16)},
            ": channels (32, 16, 16) must not shrink with shortcut 'A', which only adds channels; "
            "use shortcut 'B'.",
        ),
        (
            "resnet18",
            {"stem": "small"},
            ": option stem = 'small': Input should be 'imagenet' or 'cifar'.",
        ),
        ("mobilenet-v1", {"width": 0.0}, ": option width = 0.0: Input should be greater than 0."),
        ("mobilenet-v1", {"repeats": (1, 2, 2, 6)}, ": option repeats.4 is missing."),
        (
            "mobilenet-v2",
            {"strides": "tiny"},
            ": option strides = 'tiny': Input should be 'imagenet' or 'cifar'.",
        ),
        (
            "mobilenet-v2",
            {"activation": "gelu"},
            ": option activation = 'gelu': Input should be 'relu' or 'relu6'.",
        ),
        ("speech-cnn", {"kernel": 4}, ": kernel 4 must be odd, so that it is padded evenly."),
        (
            "speech-cnn",
            {"input_shape": (1, 12, 29)},
            ": option input_shape = (1, 12, 29): Tuple should have at most 2 items after "
            "validation, not 3.",
        ),
    ],
)
def test_wrong_options_are_refused_with_what_is_allowed(name, options, text):
    with raises_text(ConfigError, f"Network '{name}'{text}"):
        build(name, **options)


def test_an_unknown_network_is_refused_with_the_known_ones():
    with raises_text(
        ConfigError,
        "Unknown network 'resnet19'; choose one of cnv, demo-cnn, mlp, mobilenet-v1, mobilenet-v2, "
        "resnet18, resnet20, speech-cnn, text-encoder, vit.",
    ):
        build("resnet19")


def test_a_name_is_registered_once():
    from adaqat_hw.nets.mlp import MlpOptions

    with raises_text(
        ConfigError, "A network named 'mlp' is registered already; choose another name."
    ):
        nets.register("mlp", options=MlpOptions, description="again")(lambda options: nn.Identity())

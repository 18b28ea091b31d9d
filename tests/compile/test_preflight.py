"""Pre-flight: what a QONNX file can be refused for, all at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from adaqat_hw.compile.backend import BACKENDS, require_buildable
from adaqat_hw.compile.preflight import Problem, find_problems
from adaqat_hw.errors import ConfigError, UnsupportedNetwork


def network(
    *,
    act_bits: float = 4,
    weight_bits: float = 4,
    zero: float = 0.0,
    scale: float = 0.5,
    signed: int = 1,
    rounding: str = "ROUND",
    name: str = "fc1",
    shape: tuple[Any, ...] = (1, 4),
    change: Callable[[list[onnx.NodeProto], dict[str, np.ndarray]], None] | None = None,
) -> onnx.ModelProto:
    """Quant, MatMul fc1, Relu, Quant, MatMul fc2; ``change`` edits nodes and constants."""
    values = {
        "s": np.float32(scale), "z": np.float32(zero), "b": np.float32(act_bits),
        "zw": np.float32(0), "bw": np.float32(weight_bits), "sw": np.float32(0.1),
        "w1": np.ones((4, 4), np.float32), "w2": np.ones((4, 2), np.float32),
    }  # fmt: skip

    def quant(tensor: str, out: str, constants: tuple[str, ...], sign: int, label: str):
        return helper.make_node(
            "Quant", [tensor, *constants], [out], name=label, domain="qonnx.custom_op.general",
            signed=sign, narrow=0, rounding_mode=rounding,
        )  # fmt: skip

    nodes = [
        quant("x", "xq", ("s", "z", "b"), signed, "input_quant"),
        quant("w1", "w1q", ("sw", "zw", "bw"), 1, "w1_quant"),
        helper.make_node("MatMul", ["xq", "w1q"], ["h"], name=name),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        quant("r", "rq", ("s", "z", "b"), 0, "relu_quant"),
        quant("w2", "w2q", ("sw", "zw", "bw"), 1, "w2_quant"),
        helper.make_node("MatMul", ["rq", "w2q"], ["y"], name="fc2"),
    ]
    if change is not None:
        change(nodes, values)
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 2))],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def texts(model: onnx.ModelProto) -> list[str]:
    return [str(p) for p in find_problems(model)]


def test_a_good_network_has_no_problems(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(network(), path)
    assert find_problems(network()) == []
    require_buildable(BACKENDS["finn-streams"], path)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"act_bits": 9}, "Quant 'input_quant': its activations have 9 bits; at most 8"),
        ({"act_bits": 4.5}, "its width is 4.5 bits; it must be a whole number"),
        ({"act_bits": 0}, "its width is 0 bits"),
        ({"act_bits": 1}, "Quant 'input_quant': its activations have 1 bit with a sign"),
        ({"weight_bits": 1}, "Quant 'w1_quant': its weights have 1 bit with a sign"),
        ({"weight_bits": 32}, "its weights have 32 bits; at most 16"),
        ({"zero": 3.0}, "its zero point is 3; only 0"),
        ({"scale": 0.0}, "its scale is 0; it must be positive"),
        ({"scale": float("nan")}, "its scale is nan"),
        ({"rounding": "FLOOR"}, "it rounds by 'FLOOR'; only 'ROUND'"),
        ({"shape": ("batch", 4)}, "input 'x': its shape ['batch', 4] is dynamic"),
        ({"shape": (8, 4)}, "input 'x': its shape [8, 4] has a batch"),
        ({"name": "a\nb"}, "its name may hold letters"),
        ({"name": "../../etc"}, "its name may hold letters"),
        ({"name": "fc2"}, "layer 'fc2': several layers have this name"),
    ],
)
def test_problems_of_quantizers_shapes_and_names(options, wanted):
    found = texts(network(**options))
    assert any(wanted in text for text in found), found


def test_one_unsigned_bit_is_fine():
    assert find_problems(network(act_bits=1, signed=0)) == []


def skip(nodes, values):
    nodes.insert(5, helper.make_node("Add", ["rq", "xq"], ["sum"], name="skip"))
    nodes[-1].input[0] = "sum"


def clash(nodes, values):
    """A sum of two tensors with different scales."""
    values["s2"] = np.float32(0.3)
    nodes.insert(5, helper.make_node("Add", ["rq", "xq"], ["sum"], name="clash"))
    nodes[4].input[1] = "s2"
    nodes[-1].input[0] = "sum"


def float_sum(nodes, values):
    nodes.insert(5, helper.make_node("Add", ["rq", "h"], ["sum"], name="float_sum"))
    nodes[-1].input[0] = "sum"


def product(nodes, values):
    nodes.insert(5, helper.make_node("Mul", ["rq", "xq"], ["sum"], name="gate"))
    nodes[-1].input[0] = "sum"


def dynamic_weights(nodes, values):
    nodes[-1].input[1] = "rq"


def float_weights(nodes, values):
    nodes[-1].input[1] = "w2"


def no_input_quantizer(nodes, values):
    nodes[2].input[0] = "x"


def no_relu_quantizer(nodes, values):
    nodes[-1].input[0] = "r"


def runtime_scale(nodes, values):
    nodes[4].input[1] = "xq"


def softmax(nodes, values):
    """In the middle; at the end the host takes it."""
    nodes.insert(5, helper.make_node("Softmax", ["rq"], ["soft"], name="soft"))
    nodes[-1].input[0] = "soft"


def unknown(nodes, values):
    nodes[-1].output[0] = "logits"
    nodes.append(helper.make_node("Frobnicate", ["logits"], ["y"], name="f"))


def bias(nodes, values):
    values["bias"] = np.ones(2, np.float32)
    nodes[-1].output[0] = "nobias"
    nodes.append(helper.make_node("Add", ["nobias", "bias"], ["y"], name="bias"))


def gemm(nodes, values):
    nodes[-1].CopyFrom(
        helper.make_node("Gemm", ["rq", "w2q"], ["y"], name="fc2", alpha=2.0, transA=1)
    )


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (clash, "Add 'clash': its two sides have different scales (0.3 and 0.5); put one shared"),
        (float_sum, "Add 'float_sum': an addition needs a quantizer on both sides"),
        (product, "Mul 'gate': Mul of two tensors has no RTL"),
        (dynamic_weights, "MatMul 'fc2': its weights are not constant"),
        (float_weights, "MatMul 'fc2': its weights are not quantized"),
        (no_input_quantizer, "instead of one quantizer; quantize the network's input"),
        (no_relu_quantizer, "Relu 'relu': no quantizer follows this ReLU directly"),
        (runtime_scale, "Quant 'relu_quant': its scale, zero point or width is computed at run"),
        (softmax, "Softmax 'soft': it belongs into software"),
        (unknown, "Frobnicate 'f': the operator 'Frobnicate' has no RTL"),
        (gemm, "MatMul"),
    ],
)
def test_problems_of_layers(change, wanted):
    if change is gemm:
        wanted = "Gemm 'fc2': Gemm must have alpha = beta = 1 and transA = 0"
    found = texts(network(change=change))
    assert any(wanted in text for text in found), found


@pytest.mark.parametrize("change", [clash, float_sum, product])
def test_what_follows_a_faulty_join_is_not_named_too(change):
    assert len(texts(network(change=change))) == 1


def sum_of_sums(nodes, values):
    skip(nodes, values)
    nodes.insert(6, helper.make_node("Add", ["sum", "xq"], ["sum2"], name="skip2"))
    nodes[-1].input[0] = "sum2"


@pytest.mark.parametrize("change", [bias, skip, sum_of_sums])
def test_biases_and_sums_of_one_scale_are_fine(change):
    assert find_problems(network(change=change)) == []


def with_weights(shape: tuple[int, ...], **attributes: Any) -> onnx.ModelProto:
    def conv(nodes, values):
        values["w2"] = np.ones(shape, np.float32)
        node = helper.make_node("Conv", ["rq", "w2q"], ["y"], name="conv", **attributes)
        nodes[-1].CopyFrom(node)

    return network(change=conv)


def test_depthwise_convolutions_are_fine():
    assert find_problems(with_weights((4, 1, 3, 3), group=4, kernel_shape=[3, 3])) == []


@pytest.mark.parametrize("shape", [(4, 2, 3, 3), (8, 1, 3, 3)])
def test_grouped_convolutions_that_are_not_depthwise_are_named(shape):
    (text,) = texts(with_weights(shape, group=4 // shape[1], kernel_shape=[3, 3]))
    assert f"Conv 'conv': a grouped convolution (groups={4 // shape[1]}, weights {shape!r})" in text


def pool_network(op: str, attributes: dict[str, Any], *, quantized: bool = True):
    """Put a pool behind the first layer."""

    def pool(nodes, values):
        source = "rq" if quantized else "h"
        nodes.insert(5, helper.make_node(op, [source], ["p"], name="pool", **attributes))
        nodes[-1].input[0] = "p"

    model = network(change=pool)
    info = helper.make_tensor_value_info("rq", TensorProto.FLOAT, (1, 4, 6, 6))
    model.graph.value_info.append(info)
    return model


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("GlobalAveragePool", {}),
        ("ReduceMean", {"axes": [2, 3], "keepdims": 1}),
        ("AveragePool", {"kernel_shape": [6, 6]}),
    ],
)
def test_means_over_all_pixels_are_fine(op, attributes):
    assert find_problems(pool_network(op, attributes)) == []


@pytest.mark.parametrize(
    ("op", "attributes", "quantized", "wanted"),
    [
        ("ReduceMean", {"axes": [1]}, True, "a mean over anything but all pixels"),
        ("ReduceMean", {"axes": [2, 3], "keepdims": 0}, True, "keepdims=1"),
        ("AveragePool", {"kernel_shape": [2, 2]}, True, "or with a truncation (Trunc) right"),
        ("GlobalAveragePool", {}, False, "what it averages is not quantized"),
    ],
)
def test_other_averages_are_named(op, attributes, quantized, wanted):
    found = texts(pool_network(op, attributes, quantized=quantized))
    assert any(wanted in text and "'pool'" in text for text in found), found


def truncated(rounding: str = "FLOOR", kernel: tuple[int, int] = (2, 2)) -> onnx.ModelProto:
    def pool(nodes, values):
        values.update(four=np.float32(4), b6=np.float32(6))
        constants = ["s", "z", "b6", "b"]
        nodes[5:5] = [
            helper.make_node("AveragePool", ["rq"], ["p"], name="pool", kernel_shape=kernel),
            helper.make_node("Mul", ["p", "four"], ["m"]),
            helper.make_node("Trunc", ["m", *constants], ["t"], name="t", rounding_mode=rounding),
        ]
        nodes[-1].input[0] = "t"

    return network(change=pool)


def test_average_pooling_with_a_truncation_is_fine():
    assert find_problems(truncated()) == []
    assert "Trunc 't': it rounds by 'ROUND'; only 'FLOOR'" in texts(truncated("ROUND"))[0]
    assert "the kernel [2, 3] or padding has no RTL" in texts(truncated(kernel=(2, 3)))[0]


@pytest.mark.parametrize(
    ("start", "pads", "fault"),
    [
        (0, [0, 1, 0, 0, 0, 1, 0, 0], None),
        (1, [0, 1, 0, 0, 0, 1, 0, 0], "Slice 'first': a slice has RTL only as every s-th pixel"),
        (0, [0, 1, 1, 0, 0, 1, 1, 0], "Pad 'channels': channels can be padded with zeros only"),
    ],
)
def test_a_shortcut_without_parameters_takes_every_s_th_pixel(start, pads, fault):
    def shortcut(nodes, values):
        values.update(zero=np.full(1, start, np.int64), big=np.full(1, 2**62, np.int64))
        values.update(two=np.full(1, 2, np.int64), pads=np.int64(pads))
        for k, axis in enumerate((2, 3)):
            values[f"axis{k}"] = np.full(1, axis, np.int64)
        nodes[5:5] = [
            helper.make_node("Slice", ["rq", "zero", "big", "axis0", "two"], ["a"], name="first"),
            helper.make_node("Slice", ["a", "zero", "big", "axis1", "two"], ["b2"], name="second"),
            helper.make_node("Pad", ["b2", "pads"], ["c"], name="channels"),
        ]
        nodes[-1].input[0] = "c"

    found = texts(network(change=shortcut))
    if fault is None:
        assert not any("Slice" in text or "Pad" in text for text in found), found
    else:
        assert found[0].startswith(fault)


@pytest.mark.parametrize(
    ("pads", "fault"), [([0, 0, 1, 1, 0, 0, 1, 1], False), ([0, 2, 0, 0, 0, 2, 0, 0], True)]
)
def test_pixels_may_be_padded_and_channels_not(pads, fault):
    def pad(nodes, values):
        values["pads"] = np.int64(pads)
        nodes.insert(5, helper.make_node("Pad", ["rq", "pads"], ["p"], name="pad"))
        nodes[-1].input[0] = "p"

    found = texts(network(change=pad))
    assert bool(found) == fault
    assert all("zeros only behind such a slice" in text for text in found)


@pytest.mark.parametrize(("count", "fault"), [(1, False), (5, True)])
def test_the_largest_label_may_be_the_output(count, fault):
    def top(nodes, values):
        values["k"] = np.int64([count])
        nodes[-1].output[0] = "logits"
        nodes.append(helper.make_node("TopK", ["logits", "k"], ["value", "y"], name="top"))

    found = texts(network(change=top))
    assert bool(found) == fault
    assert all("TopK 'top'" in text and "k = 1" in text for text in found)


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        ({"group": 1, "kernel_shape": [3]}, "a convolution with the kernel [3] has no RTL"),
    ],
)
def test_convolutions(attributes, wanted):
    def conv(nodes, values):
        node = helper.make_node("Conv", ["rq", "w2q"], ["y"], name="conv", **attributes)
        nodes[-1].CopyFrom(node)

    assert any(wanted in text for text in texts(network(change=conv)))


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        ({"kernel_shape": [2, 2], "ceil_mode": 1}, "ceil_mode"),
        ({"kernel_shape": [2, 2], "dilations": [2, 2]}, "dilation"),
        ({"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, "padding"),
        ({"kernel_shape": [2]}, "only 2-D"),
    ],
)
def test_max_pooling(attributes, wanted):
    def pool(nodes, values):
        nodes.insert(5, helper.make_node("MaxPool", ["rq"], ["p"], name="pool", **attributes))
        nodes[-1].input[0] = "p"

    found = find_problems(network(change=pool))
    assert [p.layer for p in found] == ["MaxPool 'pool'"]
    assert wanted in found[0].reason


def test_constants_may_be_computed(tmp_path):
    """Weights through Identity and Transpose, shapes through Shape and Gather."""

    def compute(nodes, values):
        values["index"] = np.int64(0)
        nodes[1].input[0] = "w1i"
        nodes.insert(1, helper.make_node("Identity", ["w1"], ["w1i"]))
        nodes.insert(3, helper.make_node("Transpose", ["w1q"], ["w1t"], perm=[1, 0]))
        nodes[4].input[1] = "w1t"
        nodes.append(helper.make_node("Shape", ["xq"], ["shape"]))
        nodes.append(helper.make_node("Gather", ["shape", "index"], ["batch"]))

    assert find_problems(network(change=compute)) == []


def test_several_inputs_and_outputs_are_named():
    model = network()
    model.graph.input.append(helper.make_tensor_value_info("x2", TensorProto.FLOAT, (1, 4)))
    model.graph.output.append(helper.make_tensor_value_info("rq", TensorProto.FLOAT, (1, 4)))
    found = find_problems(model)
    assert Problem("inputs", "there are 2 ['x', 'x2']; one is possible") in found
    assert Problem("outputs", "there are 2 ['y', 'rq']; one is possible") in found


def test_parameters_that_are_listed_as_inputs_do_not_count():
    model = network()
    model.graph.input.append(helper.make_tensor_value_info("w1", TensorProto.FLOAT, (4, 4)))
    assert find_problems(model) == []


def test_all_problems_come_in_one_error(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(network(act_bits=9, change=clash), path)
    with pytest.raises(UnsupportedNetwork) as caught:
        require_buildable(BACKENDS["finn-streams"], path)
    text = str(caught.value)
    assert text.startswith(f"{str(path)!r} cannot be built as hardware, 3 problems:\n")
    assert "Quant 'input_quant'" in text
    assert "Quant 'relu_quant'" in text
    assert "Add 'clash'" in text


def test_a_file_that_is_no_model_is_bad_input(tmp_path):
    path = tmp_path / "net.onnx"
    with pytest.raises(ConfigError, match="does not exist"):
        require_buildable(BACKENDS["finn-streams"], path)
    path.write_bytes(b"\x00\xff garbage")
    with pytest.raises(ConfigError, match="no ONNX model"):
        require_buildable(BACKENDS["finn-streams"], path)

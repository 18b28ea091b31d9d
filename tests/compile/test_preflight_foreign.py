"""Pre-flight of what files from elsewhere hold: host work at the ends, -1 and +1, shapes."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import StringStringEntryProto, TensorAnnotation, TensorProto, helper, numpy_helper

from adaqat_hw.compile.preflight import find_problems
from adaqat_hw.qonnx_graph import QonnxGraph

GENERAL = "qonnx.custom_op.general"


def node(op, inputs, output, **attributes):
    domain = GENERAL if op.endswith("Quant") else ""
    return helper.make_node(op, inputs, [output], name=output, domain=domain, **attributes)


def model(nodes, values, shape, *, declared=None):
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, (1, 2))],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in values.items()],
    )
    if declared is not None:
        entry = StringStringEntryProto(key="finn_datatype", value=declared)
        graph.quantization_annotation.append(
            TensorAnnotation(tensor_name="x", quant_parameter_tensor_names=[entry])
        )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=8)


CONSTANTS = {
    "two": np.float32(2), "one": np.array([1], np.float32), "s": np.float32(0.5),
    "w": np.ones((8, 2), np.float32), "none": np.float32(0), "z": np.float32(0),
    "bits": np.float32(4), "many": np.arange(1, 9, dtype=np.float32),
}  # fmt: skip
LAYER = [node("BipolarQuant", ["w", "s"], "wq"), node("MatMul", ["a", "wq"], "y")]


def texts(nodes, *, shape=(1, 8), declared=None, **changes):
    return [str(p) for p in find_problems(model(nodes, CONSTANTS | changes, shape,
                                                declared=declared))]  # fmt: skip


def test_a_binary_network_from_the_model_zoo_is_fine():
    """2x - 1 after a reshape whose shape is computed, signs, and scalars at the end."""
    nodes = [
        node("Shape", ["x"], "s0"), node("Gather", ["s0", "index"], "s1", axis=0),
        node("Unsqueeze", ["s1"], "s2", axes=[0]), node("Concat", ["s2", "rest"], "s3", axis=0),
        node("Reshape", ["x", "s3"], "flat"), node("Mul", ["flat", "two"], "m"),
        node("Sub", ["m", "one"], "n"), node("BipolarQuant", ["n", "s"], "a"), LAYER[0],
        node("MatMul", ["a", "wq"], "h"), node("Pow", ["two", "s"], "root"),
        node("Div", ["h", "root"], "y"),
    ]  # fmt: skip
    extra = {"index": np.int64(0), "rest": np.array([-1])}
    given = model(nodes, CONSTANTS | extra, (1, 2, 2, 2))
    before = given.SerializeToString()
    assert find_problems(given) == []
    assert given.SerializeToString() == before
    left = [node.op for node in QonnxGraph(given).folded().nodes]
    assert "Shape" not in left
    assert "Pow" not in left


@pytest.mark.parametrize(
    ("before", "fault"),
    [
        ([node("Mul", ["x", "two"], "m")], None),
        ([node("Sub", ["one", "x"], "m")], None),
        ([node("Mul", ["x", "many"], "m")], None),
        ([node("Div", ["two", "x"], "m")], "it goes into Div instead of one quantizer"),
        ([node("Mul", ["x", "none"], "m")], "it goes into Mul instead of one quantizer"),
        ([node("Mul", ["x", "x"], "m")], "it goes into Mul instead of one quantizer"),
    ],
)
def test_the_host_scales_and_shifts_before_the_input_quantizer(before, fault):
    found = texts([*before, node("BipolarQuant", ["m", "s"], "a"), *LAYER])
    assert any(fault in text for text in found) if fault else found == []


def test_a_float_input_is_refused_with_advice():
    found = texts([LAYER[0], node("MatMul", ["x", "wq"], "y")])
    assert any("quantize the network's input" in text for text in found)


@pytest.mark.parametrize(
    ("declared", "fault"), [("BIPOLAR", False), ("UINT8", False), ("INT16", True), (None, True)]
)
def test_an_input_that_the_file_declares_to_be_small_integers_needs_no_quantizer(declared, fault):
    nodes = [node("Add", ["x", "one"], "a1"), node("Div", ["a1", "two"], "a"), *LAYER]
    assert bool(texts(nodes, declared=declared)) == fault


@pytest.mark.parametrize(
    ("scale", "fault"),
    [
        (np.float32(0.3), None),
        (np.float32(-1), "BipolarQuant 'a': its scale is -1; it must be positive"),
        (np.ones(8, np.float32), "BipolarQuant 'a': its activations have 8 scales; one"),
    ],
)
def test_scales_of_signs(scale, fault):
    found = texts([node("BipolarQuant", ["x", "sa"], "a"), *LAYER], sa=scale)
    assert any(fault in text for text in found) if fault else found == []


def test_weights_of_signs_may_have_a_scale_per_channel():
    nodes = [node("BipolarQuant", ["x", "s"], "a"), node("BipolarQuant", ["w", "sw"], "wq"),
             LAYER[1]]  # fmt: skip
    assert texts(nodes, sw=np.array([[0.5, 2.0]], np.float32)) == []


def test_a_scale_computed_at_run_time_is_named():
    nodes = [node("BipolarQuant", ["x", "s"], "a"), LAYER[0],
             node("MatMul", ["a", "wq"], "h"), node("BipolarQuant", ["h", "a"], "y")]  # fmt: skip
    assert "BipolarQuant 'y': its scale is computed at run time; freeze it for export" in texts(
        nodes
    )


@pytest.mark.parametrize(
    ("last", "fault"),
    [
        (node("Softmax", ["y"], "p", axis=1), None),
        (node("Softmax", ["y"], "p", axis=0), "Softmax 'p': it belongs into software"),
        (node("LogSoftmax", ["y"], "p", axis=1), "LogSoftmax 'p': it belongs into software"),
        (node("BipolarQuant", ["y", "s"], "p"), None),
    ],
)
def test_what_ends_a_network(last, fault):
    found = texts([node("BipolarQuant", ["x", "s"], "a"), *LAYER, last])
    assert any(fault in text for text in found) if fault else found == []


def conv(before, *, pads, weights=(2, 2, 3, 3), **attributes):
    nodes = [
        node("BipolarQuant", ["x", "s"], "q"), *before, node("BipolarQuant", ["w", "s"], "wq"),
        node("Conv", ["a", "wq"], "y", kernel_shape=[3, 3], pads=[pads] * 4, **attributes),
    ]  # fmt: skip
    return texts(nodes, shape=(1, 2, 8, 8), w=np.ones(weights, np.float32))


@pytest.mark.parametrize(("pads", "fault"), [(0, False), (1, True)])
def test_an_addition_cannot_pass_a_padding(pads, fault):
    found = conv([node("Add", ["q", "one"], "a")], pads=pads)
    assert bool(found) == fault
    assert all("the constant that 'a' adds to its input cannot pass its padding" in x
               for x in found)  # fmt: skip


def test_signs_and_scales_may_be_padded():
    assert conv([node("Mul", ["q", "two"], "a")], pads=1) == []


def test_a_factor_per_channel_between_quantizer_and_layer_is_named():
    nodes = [node("BipolarQuant", ["x", "s"], "q"), node("Mul", ["q", "many"], "a"), *LAYER]
    assert texts(nodes) == ["MatMul 'y': its input is not quantized; put a quantizer before it"]


def test_constants_that_would_be_huge_are_not_computed():
    size = 2**11
    values = {"row": np.ones((1, size), np.float32), "column": np.ones((size, 1), np.float32)}
    nodes = [node("Add", ["row", "column"], "huge"), node("BipolarQuant", ["x", "s"], "a"), *LAYER]
    kept = QonnxGraph(model(nodes, CONSTANTS | values, (1, 8))).folded(2**20)
    assert kept.nodes[0].op == "Add"

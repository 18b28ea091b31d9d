"""The view of a QONNX graph: what is constant, what is folded, what is refused when it is made."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from adaqat_hw.errors import ConfigError
from adaqat_hw.qonnx_graph import QonnxGraph, attributes_of


def model(nodes, values, *, shape=(1, 3, 4), opset=13):
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_empty_tensor_value_info(nodes[-1].output[0])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], name=f"the {op}", **attributes)


RNG = np.random.default_rng(0)
A, B = (RNG.uniform(0.1, 3, (3, 4)).astype(np.float32) for _ in range(2))
FOLDS = [
    ("Add", (A, B), {}), ("Sub", (A, B), {}), ("Mul", (A, B), {}), ("Div", (A, B), {}),
    ("Sqrt", (A,), {}), ("Neg", (A,), {}), ("Floor", (A,), {}), ("Identity", (A,), {}),
    ("Pow", (np.float32(2), np.arange(-8, 9, dtype=np.float32)), {}),
    ("Cast", (A,), {"to": TensorProto.INT64}), ("Transpose", (A,), {"perm": [1, 0]}),
    ("Transpose", (A,), {}), ("Concat", (A, B), {"axis": 1}),
    ("Reshape", (A, np.array([2, -1])), {}), ("Gather", (A, np.array(2)), {"axis": 1}),
    ("Squeeze", (A[None], np.array([0])), {}), ("Unsqueeze", (A, np.array([0])), {}),
    ("Slice", (A, np.array([1]), np.array([9]), np.array([1]), np.array([2])), {}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "arrays", "attributes"), FOLDS)
def test_what_is_folded_equals_onnxruntime_to_the_bit(op, arrays, attributes):
    values = {f"c{k}": array for k, array in enumerate(arrays)}
    given = model([node(op, list(values), "y", **attributes)], values)
    computed = QonnxGraph(given).computed()["y"]
    session = onnxruntime.InferenceSession(
        given.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (wanted,) = session.run(None, {"x": np.zeros((1, 3, 4), np.float32)})
    assert computed.dtype == wanted.dtype
    assert np.array_equal(computed, wanted)


@pytest.mark.parametrize(
    ("ends", "wanted"), [({}, [1, 3, 4]), ({"start": 1}, [3, 4]), ({"start": -2, "end": 2}, [3])]
)
def test_a_shape_is_folded_where_it_is_fixed(ends, wanted):
    nodes = [node("Shape", ["x"], "s", **ends), node("Neg", ["s"], "y")]
    graph = QonnxGraph(model(nodes, {}, opset=15))
    assert list(graph.computed()["s"]) == wanted
    assert graph.folded().nodes == ()
    dynamic = QonnxGraph(model(nodes, {}, shape=(1, "n", 4), opset=15))
    assert dynamic.computed() == {}
    assert "y" in dynamic.constant


def test_the_shape_of_a_constant_is_folded():
    graph = QonnxGraph(model([node("Shape", ["c"], "s"), node("Neg", ["s"], "y")], {"c": A}))
    assert [list(value) for value in graph.computed().values()] == [[3, 4], [-3, -4]]


def test_the_model_stays_as_it_is():
    given = model([node("Neg", ["c"], "n"), node("Add", ["x", "n"], "y")], {"c": A})
    before = given.SerializeToString()
    folded = QonnxGraph(given).folded()
    assert given.SerializeToString() == before
    assert [n.op for n in folded.nodes] == ["Add"]
    assert np.array_equal(folded.values["n"], -A)


def test_quantizers_and_what_cannot_be_computed_are_left():
    nodes = [
        node("BipolarQuant", ["c", "c"], "q", domain="qonnx.custom_op.general"),
        node("Concat", ["c", "one"], "broken", axis=0),
        node("Add", ["q", "broken"], "y"),
    ]
    assert QonnxGraph(model(nodes, {"c": A, "one": np.float32(1)})).computed() == {}


def test_constants_readers_and_affines():
    nodes = [
        helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.float32(2))),
        helper.make_node("Constant", [], ["number"], value_float=0.5),
        node("Shape", ["x"], "s"),
        node("Mul", ["x", "k"], "m"),
        node("Mul", ["m", "m"], "square"),
        node("Div", ["k", "m"], "y"),
    ]
    graph = QonnxGraph(model(nodes, {"c": A}))
    assert graph.values.keys() == {"c", "k"}
    assert graph.initializers.keys() == {"c"}
    assert graph.numbers == {"number": 0.5}
    assert graph.constant >= {"", "c", "k", "number", "s"}
    assert [n.op for n in graph.readers["x"]] == ["Shape", "Mul"]
    assert [n.op for n in graph.consumers("x")] == ["Mul"]
    assert len(graph.consumers("m")) == 3
    assert [x.name for x in graph.inputs] == ["x"]
    assert graph.outputs == ("y",)
    affines = {n.outputs[0]: graph.affine(n) for n in graph.nodes}
    assert affines["m"] == ("x", np.float32(2))
    assert affines["square"] is None
    assert affines["y"] is None
    assert graph.shape("x") == (1, 3, 4)
    assert graph.shape("m") is None


def quant(**attributes):
    names = ["x", "scale", "zero", "bits"]
    quantizer = node("Quant", names, "q", domain="qonnx.custom_op.general", **attributes)
    values = {"scale": A[0], "zero": np.float32(0)}
    constant = helper.make_node("Constant", [], ["bits"], value_float=4.0)
    graph = QonnxGraph(model([constant, quantizer], values))
    return graph, graph.nodes[1]


def test_the_parameters_of_a_quantizer():
    graph, quantizer = quant(signed=0, narrow=1, rounding_mode="FLOOR")
    found = graph.quantizer(quantizer)
    assert np.array_equal(found.scale, A[0])
    assert found.zero_point == 0
    assert found.bits is None
    assert (found.signed, found.narrow, found.rounding) == (False, True, "FLOOR")
    assert graph.quantizer(quantizer, graph.numbers | graph.values).bits == 4
    graph, quantizer = quant()
    found = graph.quantizer(quantizer)
    assert (found.signed, found.narrow, found.rounding) == (True, False, "ROUND")


def test_attributes_are_python_values():
    made = node("Conv", ["x", "w"], "y", kernel_shape=[3, 3], group=2, auto_pad="SAME_UPPER")
    found = attributes_of(made)
    assert found == {"kernel_shape": [3, 3], "group": 2, "auto_pad": "SAME_UPPER"}


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (
            node("MatMul", ["x"], "y"),
            "Node 'the MatMul' of 'net.onnx' has 1 inputs and 1 outputs, which its operator "
            "'MatMul' does not take; export the network again.",
        ),
        (
            helper.make_node("Add", ["x", "x", "x"], ["y"]),
            "Node 'Add' of 'net.onnx' has 3 inputs and 1 outputs, which its operator 'Add' does "
            "not take; export the network again.",
        ),
    ],
)
def test_a_node_that_cannot_be_is_refused_once(broken, text):
    with pytest.raises(ConfigError) as caught:
        QonnxGraph(model([broken], {}), "net.onnx")
    assert str(caught.value) == text


def test_an_attribute_without_a_value_is_refused():
    broken = node("Relu", ["x"], "y", alpha=1)
    broken.attribute[0].ref_attr_name = "of a function"
    with pytest.raises(ConfigError) as caught:
        QonnxGraph(model([broken], {}), "net.onnx")
    start = "Node 'the Relu' of 'net.onnx' has an attribute that cannot be read ("
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith("); export the network again.")


def test_a_tensor_of_no_known_type_is_refused():
    given = model([node("Relu", ["x"], "y")], {"c": A})
    given.graph.initializer[0].data_type = onnx.TensorProto.UNDEFINED
    with pytest.raises(ConfigError) as caught:
        QonnxGraph(given, "net.onnx")
    assert str(caught.value).startswith("Tensor 'c' of 'net.onnx' cannot be read (")
    assert str(caught.value).endswith("); export the network again.")

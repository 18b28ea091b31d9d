"""Files from elsewhere: host work cut off, quantizers to -1 and +1 turned into integers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.error_texts import raises_text

GENERAL = "qonnx.custom_op.general"


def make(nodes, values, shape, *, declared=None, outputs=(1, 2)):
    from qonnx.core.datatype import DataType
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.infer_shapes import InferShapes

    graph = helper.make_graph(
        [helper.make_node(op, list(i), list(o), name=o[0], domain=d, **a)
         for op, i, o, d, a in nodes],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(nodes[-1][2][0], TensorProto.FLOAT, outputs)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in values.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid(GENERAL, 1)]
    model = ModelWrapper(helper.make_model(graph, opset_imports=opsets, ir_version=8))
    if declared is not None:
        model.set_tensor_datatype("x", DataType[declared])
    return model.transform(InferShapes())


def op(kind, inputs, output, **attributes):
    quantizers = ("Quant", "IntQuant", "BipolarQuant")
    return (kind, inputs, (output,), GENERAL if kind in quantizers else "", attributes)


def f32(*values):
    return np.array(values, dtype=np.float32)


def state_of(flow_module, model):
    notes = []
    return SimpleNamespace(
        model=model, input_name="x", input_shape=tuple(model.get_tensor_shape("x")), steps=(),
        softmax=False, inclusive=0, remark=notes.append, notes=notes,
    )  # fmt: skip


def execute(model, x):
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    model = model.transform(InferShapes())
    return execute_onnx(model, {"x": x})[model.graph.output[0].name]


AFFINES = {
    "2x-1": ([op("Mul", ("x", "a"), "h"), op("Sub", ("h", "b"), "q")],
             {"a": np.float32(2), "b": f32(1)}),
    "c-x": ([op("Sub", ("b", "x"), "h"), op("Div", ("h", "a"), "q")],
            {"a": np.float32(3), "b": f32(1)}),
    "mean of each channel": (
        [op("Add", ("x", "b"), "h"), op("Mul", ("h", "a"), "q")],
        {"b": f32(-0.3, 0.1, 0.7).reshape(1, 3, 1, 1), "a": f32(2, 4, 0.5).reshape(3, 1, 1)},
    ),
    "after a reshape": (
        [op("Reshape", ("x", "shape"), "h"), op("Mul", ("h", "a"), "q")],
        {"shape": np.array([1, 12]), "a": np.arange(1, 13, dtype=np.float32)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("quantizer", ["Quant", "IntQuant"])
@pytest.mark.parametrize("name", list(AFFINES))
def test_the_affine_before_the_quantizer_is_cut_and_recorded(flow_module, name, quantizer):
    nodes, values = AFFINES[name]
    values = values | {"s": np.float32(0.25), "z": np.float32(0), "bits": np.float32(6)}
    last = op(quantizer, ("q", "s", "z", "bits"), "y", signed=1, narrow=0, rounding_mode="ROUND")
    shape = (1, 12) if "reshape" in name else (1, 3, 2, 2)
    whole = make([*nodes, last], values, (1, 3, 2, 2), outputs=shape)
    adopt = flow_module("normalize_qonnx")
    state = state_of(flow_module, make([*nodes, last], values, (1, 3, 2, 2), outputs=shape))
    adopt.cut_affine(state)
    left = [n.op_type for n in state.model.graph.node]
    assert left == (["Reshape", quantizer] if "reshape" in name else [quantizer])
    x = np.random.default_rng(0).uniform(-2, 2, size=(3, 3, 2, 2)).astype(np.float32)
    outside = adopt.apply_steps(state.steps, x)
    for k in range(3):
        expected = execute(whole, x[k : k + 1])
        assert np.array_equal(execute(state.model, outside[k : k + 1]), expected)
    back = adopt.undo_steps(state.steps, outside)
    assert np.allclose(back, x, atol=1e-6)


@pytest.mark.parametrize(("kind", "value"), [("Mul", 0.0), ("Add", float("nan")), ("Div", 0.0)])
def test_an_affine_that_is_none_stays_and_the_input_is_refused(flow_module, kind, value):
    values = {"a": np.float32(value), "s": np.float32(1)}
    nodes = [op(kind, ("x", "a"), "h"), op("BipolarQuant", ("h", "s"), "y")]
    state = state_of(flow_module, make(nodes, values, (1, 2)))
    flow_module("normalize_qonnx").cut_affine(state)
    assert state.steps == ()
    with raises_text(
        flow_module("flow_state").Refused,
        f"The network's input goes into {kind}, not into one quantizer; put a quantizer of at most "
        "8 bits at the input and export again.",
    ):
        flow_module("network").input_quantizer(state.model, "x")


def test_shapes_are_folded_and_quantizers_of_weights_are_not(flow_module):
    nodes = [
        op("Shape", ("x",), "s0"), op("Gather", ("s0", "zero"), "s1", axis=0),
        op("Unsqueeze", ("s1", "axes"), "s2"), op("Concat", ("s2", "rest"), "s3", axis=0),
        op("Reshape", ("x", "s3"), "flat"), op("BipolarQuant", ("flat", "s"), "xq"),
        op("BipolarQuant", ("w", "s"), "wq"), op("MatMul", ("xq", "wq"), "y"),
    ]  # fmt: skip
    values = {
        "zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1]), "s": np.float32(1),
        "w": np.ones((8, 2), np.float32),
    }  # fmt: skip
    state = state_of(flow_module, make(nodes, values, (1, 2, 2, 2)))
    flow_module("normalize_qonnx").fold_constants(state)
    left = sorted(n.op_type for n in state.model.graph.node)
    assert left == ["BipolarQuant", "BipolarQuant", "MatMul", "Reshape"]


@pytest.mark.parametrize(
    ("declared", "quantizer"),
    [("BIPOLAR", (1.0, 1, False, False, True)), ("UINT8", (1.0, 8, False, False, False)),
     ("TERNARY", (1.0, 2, True, True, False)), ("INT4", (1.0, 4, True, False, False))],
)  # fmt: skip
def test_an_input_declared_to_be_integers_gets_its_quantizer(flow_module, declared, quantizer):
    nodes = [op("Add", ("x", "one"), "h"), op("BipolarQuant", ("w", "s"), "wq"),
             op("MatMul", ("h", "wq"), "y")]  # fmt: skip
    values = {"one": f32(1), "s": np.float32(1), "w": np.ones((4, 2), np.float32)}
    state = state_of(flow_module, make(nodes, values, (1, 4), declared=declared))
    flow_module("normalize_qonnx").quantize_declared_input(state)
    found = flow_module("network").input_quantizer(state.model, "x")
    assert (found.scale, found.bits, found.signed, found.narrow, found.bipolar) == quantizer
    x = f32(1, 1, -1, 1).reshape(1, 4) if found.signed or found.bipolar else f32([[3, 0, 200, 1]])
    x = x.reshape(1, 4)
    assert np.array_equal(execute(state.model, x), execute(make(nodes, values, (1, 4)), x))
    assert declared in state.notes[0]


def test_a_softmax_over_the_classes_is_left_to_the_host(flow_module):
    nodes = [op("MatMul", ("x", "w"), "h"), op("Softmax", ("h",), "y", axis=1)]
    state = state_of(flow_module, make(nodes, {"w": np.eye(2, dtype=np.float32)}, (1, 2)))
    flow_module("normalize_qonnx").cut_softmax(state)
    assert [n.op_type for n in state.model.graph.node] == ["MatMul"]
    assert state.model.graph.output[0].name == "y"
    assert state.softmax
    assert "softmax" in state.notes[0]


def test_a_softmax_over_something_else_is_refused(flow_module):
    nodes = [op("Mul", ("x", "a"), "h"), op("Softmax", ("h",), "y", axis=1)]
    model = make(nodes, {"a": np.float32(2)}, (1, 3, 2, 2), outputs=(1, 3, 2, 2))
    with raises_text(
        flow_module("flow_state").Refused,
        "Softmax 'y' at the end is no softmax over the classes; take it in software and "
        "end the network with its logits.",
    ):
        flow_module("normalize_qonnx").cut_softmax(state_of(flow_module, model))


# --- quantizers to -1 and +1


def bipolar_conv(*, pads, scale=0.7):
    nodes = [
        op("BipolarQuant", ("x", "s"), "xq"),
        op("MaxPool", ("xq",), "pooled", kernel_shape=[2, 2], strides=[2, 2]),
        op("BipolarQuant", ("w", "sw"), "wq"),
        op("Conv", ("pooled", "wq"), "y", kernel_shape=[3, 3], pads=[pads] * 4),
    ]
    rng = np.random.default_rng(1)
    weights = rng.choice([-0.4, 0.0, 0.3], size=(2, 3, 3, 3)).astype(np.float32)
    values = {"s": np.float32(scale), "sw": f32(0.5, 2).reshape(2, 1, 1, 1), "w": weights}
    size = 2 + 2 * pads
    return make(nodes, values, (1, 3, 8, 8), outputs=(1, 2, size, size))


@pytest.mark.parametrize(("pads", "kind"), [(0, b"BINARY"), (1, b"INT2")])
def test_bipolar_activations_are_bits_unless_a_padding_needs_their_zero(flow_module, pads, kind):
    whole = bipolar_conv(pads=pads)
    state = state_of(flow_module, bipolar_conv(pads=pads))
    found = flow_module("network").input_quantizer(state.model, "x")
    assert found.bipolar
    assert (found.bits, found.signed) == ((1, False) if kind == b"BINARY" else (2, True))
    bipolar = flow_module("bipolar")
    bipolar.write_as_integers(state)
    ops = {n.op_type: n for n in state.model.graph.node}
    assert "BipolarQuant" not in ops
    assert {a.name: a.s for a in ops["MultiThreshold"].attribute}["out_dtype"] == kind
    assert state.inclusive == 1
    assert bipolar.is_inclusive(ops["MultiThreshold"])
    x = np.random.default_rng(2).choice([-1.0, -1e-30, 0.0, 1.0], size=(1, 3, 8, 8))
    x = x.astype(np.float32)
    assert np.allclose(execute(state.model, x), execute(whole, x), atol=1e-5)


def test_bipolar_weights_are_integers_of_two_bits(flow_module):
    state = state_of(flow_module, bipolar_conv(pads=0))
    flow_module("bipolar").write_as_integers(state)
    (layer,) = flow_module("network").mac_layers(state.model, ())
    (theirs,) = flow_module("network").mac_layers(bipolar_conv(pads=0), ())
    assert np.array_equal(layer.signature, np.ones((2, 27)))
    assert np.array_equal(theirs.signature, layer.signature)


def test_a_lost_mark_is_an_error(flow_module):
    state = state_of(flow_module, bipolar_conv(pads=0))
    bipolar = flow_module("bipolar")
    bipolar.write_as_integers(state)
    bipolar.require_marks(state)
    node = next(n for n in state.model.graph.node if n.op_type == "MultiThreshold")
    kept = [a for a in node.attribute if a.name != "inclusive"]
    del node.attribute[:]
    node.attribute.extend(kept)
    with raises_text(
        flow_module("flow_state").FlowError, "of 1 thresholds made of bipolar quantizers 0 are left"
    ):
        bipolar.require_marks(state)


def test_a_bipolar_threshold_is_met_by_equality(flow_module):
    """Quantizers round a tie to even, x >= 0 gives +1."""
    thresholds = flow_module("rounding_ties").integer_thresholds
    values = np.array([[4.0 + 1e-7, -2.0, 0.0, 3.5]])
    assert thresholds(values.T, None, 2e-6)[:, 0].tolist() == [4, -2, 0, 4]
    assert thresholds(values.T, 0, 2e-6)[:, 0].tolist() == [5, -1, 1, 4]


def test_an_addition_moves_past_a_max_pool(flow_module):
    nodes = [op("Add", ("x", "a"), "h"),
             op("MaxPool", ("h",), "y", kernel_shape=[2, 2], strides=[2, 2])]  # fmt: skip
    values = {"a": f32(-0.7)}
    model = make(nodes, values, (1, 2, 4, 4), outputs=(1, 2, 2, 2))
    x = np.random.default_rng(0).uniform(-1, 1, size=(1, 2, 4, 4)).astype(np.float32)
    expected = execute(model, x)
    moved = model.transform(flow_module("streamline_transforms").MoveScalarAddPastMaxPool())
    assert [n.op_type for n in moved.graph.node] == ["MaxPool", "Add"]
    assert np.array_equal(execute(moved, x), expected)


@pytest.mark.parametrize(("narrow", "signed", "levels"), [(False, False, [0, 1, 1]),
                                                          (True, True, [-1, 1, 1])])  # fmt: skip
def test_the_host_takes_signs(flow_module, narrow, signed, levels):
    from adaqat_hw.schema import HostInterface, InputStep, IntType

    host = HostInterface(
        input_scale=0.5, input_dtype=IntType(bits=1 + int(signed), signed=signed),
        input_narrow=narrow, input_nchw=False, input_shape=(3,), output_shape=(1,),
        output_dtype=IntType(bits=1, signed=False), output_scale=(1.0,), output_bias=(0.0,),
        input_steps=(InputStep(op="mul", values=(2.0,)), InputStep(op="sub", values=(1.0,))),
        input_bipolar=True,
    )  # fmt: skip
    x = np.array([[0.49, 0.5, 0.9]])
    module = flow_module("host_interface")
    assert module.quantize_inputs(host, x).tolist() == [levels]
    quantizer = flow_module("flow_state").InputQuantizer(
        0.5, 1 + int(signed), signed, narrow, bipolar=True
    )
    raw = module.raw_values(quantizer, host.input_steps, np.array([levels]))
    assert module.quantize_inputs(host, raw).tolist() == [levels]

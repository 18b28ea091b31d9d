"""Verification after every step, rounding ties and pools: the parts that need no FINN."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.error_texts import raises_text


def wrapped(model):
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.infer_shapes import InferShapes

    return ModelWrapper(model).transform(InferShapes())


@pytest.fixture
def make_state(flow_module, networks):
    """A flow state after loading, as far as verification looks at it."""

    def make(name="mlp"):
        model = wrapped(networks[name]())
        quantizer = flow_module("network").input_quantizer(model, "x")
        request = SimpleNamespace(model_sha256="0" * 64, golden=None)
        state = SimpleNamespace(
            model=model, file_model=model, quantizer=quantizer, request=request, host=None,
            input_shape=tuple(model.get_tensor_shape("x")), probe=None, input_name="x", steps=(),
        )  # fmt: skip
        flow_module("verify").choose_frames(state)
        return state

    return make


def changed(model, factor):
    """The model with the first layer's weights scaled."""
    other = onnx.ModelProto()
    other.CopyFrom(model.model)
    tensor = max(other.graph.initializer, key=lambda x: len(x.raw_data))
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * factor, tensor.name))
    return wrapped(other)


def test_a_graph_that_still_computes_the_same_passes(flow_module, make_state):
    state = make_state()
    flow_module("verify").verify(state, "logits")
    assert state.probe.inputs.shape == (3, 16)


def test_the_step_that_changes_the_graph_is_the_one_that_fails(flow_module, make_state):
    steps, state, ran = flow_module("steps"), make_state(), []

    def harmless(state):
        ran.append("harmless")

    def harmful(state):
        ran.append("harmful")
        state.model = changed(state.model, -1.0)

    steps.perform(steps.Step("harmless", harmless, "logits"), state)
    with raises_text(
        flow_module("flow_state").FlowError,
        "this step changed what the graph computes: 3 of 3 frames deviate from the "
        "file's logits, by up to 3.7 of the largest",
    ):
        steps.perform(steps.Step("harmful", harmful, "logits"), state)
    assert ran == ["harmless", "harmful"]


def test_steps_without_a_graph_are_not_verified(flow_module, make_state):
    state = make_state()
    state.model = changed(state.model, -1.0)
    flow_module("verify").verify(state, "no")


def test_integers_must_stay_exactly_as_they_were(flow_module, make_state):
    """After the host interface is cut off: nothing but equality counts."""
    from adaqat_hw.schema import HostInterface, IntType

    state, verify = make_state(), flow_module("verify")
    state.host = HostInterface(
        input_scale=1.0, input_dtype=IntType(bits=4, signed=True), input_nchw=False,
        input_shape=(16,), output_shape=(4,), output_dtype=IntType(bits=8, signed=True),
        output_scale=(1.0,), output_bias=(0.0,),
    )  # fmt: skip
    state.probe.inputs = np.arange(-8, 8, dtype=np.float32).reshape(1, 16)
    state.model = integer_model(offset=0)
    state.probe.logits = np.array([[-8.0, -7.0, -6.0, -5.0]])
    verify.verify(state, "integers")
    verify.verify(state, "integers")
    state.model = integer_model(offset=1)
    with raises_text(
        flow_module("flow_state").FlowError,
        "this step changed what the graph computes: 1 of 1 frames differ from those of "
        "the step before",
    ):
        verify.verify(state, "integers")


def integer_model(offset):
    """The first four inputs plus an offset."""
    pick = np.eye(16, 4, dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"], name="m"),
         helper.make_node("Add", ["h", "b"], ["y"], name="a")],
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (1, 16))],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (1, 4))],
        [numpy_helper.from_array(pick, "w"),
         numpy_helper.from_array(np.full(4, offset, dtype=np.float32), "b")],
    )  # fmt: skip
    return wrapped(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]))


def test_streams_and_backends_are_left_out_for_execution(flow_module):
    hardware = "finn.custom_op.fpgadataflow"
    nodes = [
        helper.make_node("StreamingFIFO_rtl", ["x"], ["a"], domain=f"{hardware}.rtl"),
        helper.make_node("DuplicateStreams_hls", ["a"], ["b", "c"], domain=f"{hardware}.hls"),
        helper.make_node("StreamingFIFO_rtl", ["b"], ["d"], domain=f"{hardware}.rtl"),
        helper.make_node("ElementwiseAdd_hls", ["d", "c"], ["e"], domain=f"{hardware}.hls"),
        helper.make_node("StreamingFIFO_rtl", ["e"], ["y"], domain=f"{hardware}.rtl"),
    ]
    values = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, (1, 4)) for n in "xyabcde"]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:2], [], value_info=values[2:])
    from qonnx.core.modelwrapper import ModelWrapper

    plain = flow_module("verify").executable(ModelWrapper(helper.make_model(graph)))
    found = [(n.op_type, n.domain, list(n.input), list(n.output)) for n in plain.graph.node]
    assert found == [
        ("DuplicateStreams", hardware, ["x"], ["b", "c"]),
        ("ElementwiseAdd", hardware, ["b", "c"], ["y"]),
    ]


# --- rounding ties


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 5])
@pytest.mark.parametrize("ratio", [0.125, 0.25, 0.5, 0.75, 1.0, 1.25, 3.0])
def test_integer_thresholds_are_the_quantizer_on_every_integer(flow_module, ratio, bits, signed):
    """``ratio`` is input scale over output scale: a binary fraction, so that ties are exact."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    middles = np.float32(low + 0.5) + np.arange(high - low, dtype=np.float32)
    noisy = (middles / np.float32(ratio))[np.newaxis] * np.float32(1 + 1e-7)
    thresholds = flow_module("rounding_ties").integer_thresholds(noisy, low, 2e-6)
    x = np.arange(-200, 200)
    found = low + (x[:, np.newaxis] >= thresholds).sum(axis=1)
    assert np.array_equal(found, np.clip(np.round(x * ratio), low, high))


def test_thresholds_between_integers_are_rounded_up(flow_module):
    found = flow_module("rounding_ties").integer_thresholds(np.array([[-1.5, 0.2, 7.9]]), 0, 2e-6)
    assert found.tolist() == [[-1.0, 1.0, 8.0]]


# --- pools


@pytest.mark.parametrize(
    ("op", "attributes", "becomes"),
    [
        ("ReduceMean", {"axes": [2, 3], "keepdims": 1}, "GlobalAveragePool"),
        ("ReduceMean", {"axes": [-1, -2]}, "GlobalAveragePool"),
        ("ReduceMean", {"axes": [1]}, "ReduceMean"),
        ("ReduceMean", {"axes": [2, 3], "keepdims": 0}, "ReduceMean"),
        ("AveragePool", {"kernel_shape": [4, 4]}, "GlobalAveragePool"),
        ("AveragePool", {"kernel_shape": [2, 2]}, "AveragePool"),
    ],
)
def test_means_over_all_pixels_become_global_pools(flow_module, op, attributes, becomes):
    node = helper.make_node(op, ["x"], ["y"], **attributes)
    graph = helper.make_graph(
        [node], "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (1, 3, 4, 4))],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
    )  # fmt: skip
    state = SimpleNamespace(
        model=wrapped(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]))
    )
    flow_module("pools").normalise(state)
    assert [n.op_type for n in state.model.graph.node] == [becomes]

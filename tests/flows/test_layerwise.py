"""The look at every layer: ties are let through, a wrong layer is not."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from adaqat_hw.schema import HostInterface

SCALE_IN, SCALE_ACT, BITS = 0.125, 0.0917, 4


@pytest.fixture
def make_state(flow_module, writer):
    """A network of two layers, and the integer graph that the flow would make of it."""

    def make(*, shift=0.0):
        w = writer((1, 16))
        w.input_quant(bits=4, signed=1, scale=SCALE_IN)
        w.linear(16, 8, "fc1")
        first, scales = w.last_integers, w.values["c4"]
        w.relu(BITS, SCALE_ACT)
        w.linear(8, 10, "fc2")
        second = w.last_integers
        levels = np.arange(1, 2**BITS) - 0.5
        thresholds = levels * SCALE_ACT / (SCALE_IN * scales.reshape(-1, 1))
        thresholds[2] += shift
        arrays = {"w1": first, "t": thresholds, "w2": second}
        nodes = [
            helper.make_node("MatMul", ["x", "w1"], ["a"]),
            helper.make_node(
                "MultiThreshold", ["a", "t"], ["b"], domain="qonnx.custom_op.general",
                out_dtype="UINT4",
            ),
            helper.make_node("MatMul", ["b", "w2"], ["y"]),
        ]  # fmt: skip
        graph = helper.make_graph(
            nodes, "integers",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 16))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 10))],
            [numpy_helper.from_array(v.astype(np.float32), k) for k, v in arrays.items()],
        )  # fmt: skip
        opsets = [helper.make_opsetid("", 13), helper.make_opsetid("qonnx.custom_op.general", 1)]
        integers = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        host = HostInterface(
            input_scale=SCALE_IN, input_dtype={"bits": 4, "signed": True}, input_nchw=False,
            input_shape=(16,), output_shape=(10,), output_dtype={"bits": 16, "signed": True},
            output_scale=(1.0,), output_bias=(0.0,),
        )  # fmt: skip
        return SimpleNamespace(
            file_model=wrapped(w.model()), integer_model=wrapped(integers), host=host,
            input_name="x", steps=(),
        )  # fmt: skip

    return make


def wrapped(model: onnx.ModelProto):
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.infer_shapes import InferShapes

    return ModelWrapper(model).transform(InferShapes())


def look(flow_module, state, frames):
    inputs = flow_module("host_interface").quantize_inputs(state.host, frames)
    return flow_module("layerwise").explained(state, frames, state.integer_model, inputs)


@pytest.fixture
def frames():
    return np.random.default_rng(5).uniform(-1, 0.9, size=(6, 16)).astype(np.float32)


def test_a_graph_that_computes_the_same_is_explained(flow_module, make_state, frames):
    state = make_state()
    fine, logits = look(flow_module, state, frames)
    assert fine.all()
    given = flow_module("rounding_ties").nudged_logits(state.file_model, frames, 0)
    assert np.allclose(logits, given, atol=1e-5)


def test_a_layer_with_one_wrong_threshold_is_not(flow_module, make_state, frames):
    fine, _ = look(flow_module, make_state(shift=40.0), frames)
    assert not fine.all()


@pytest.mark.parametrize(
    ("level", "integer", "agrees"),
    [
        (3.2, 3, True),
        (3.5004, 3, True),
        (3.5004, 4, True),
        (3.502, 3, False),
        (2.4, 3, False),
        (99.0, 7, True),
        (99.0, 6, False),
        (-50.0, -8, True),
        (-50.0, -7, False),
    ],
)
def test_what_may_round_to_what(flow_module, level, integer, agrees):
    layerwise = flow_module("layerwise")
    pair = layerwise._Pair("given", "made", "integers", 0, np.float32(0.5), -8, 7)
    given = np.array([0.0, 0.5 * level])
    assert layerwise._agrees(given, np.array([0.0, 0.5 * integer]), pair) is agrees

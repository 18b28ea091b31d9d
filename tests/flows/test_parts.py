"""The parts of the flow that need no FINN."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from adaqat_hw.schema import HostInterface, IntType
from tests.error_texts import raises_text


def wrapped(model):
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.infer_shapes import InferShapes

    return ModelWrapper(model).transform(InferShapes())


def host_of(shape, *, bits=4, signed=True, narrow=False, nchw=False, scale=0.5):
    return HostInterface(
        input_scale=scale, input_dtype=IntType(bits=bits, signed=signed), input_narrow=narrow,
        input_nchw=nchw, input_shape=shape, output_shape=(2,),
        output_dtype=IntType(bits=8, signed=True), output_scale=(2.0, 3.0), output_bias=(1.0,),
    )  # fmt: skip


# --- choice of implementation


@pytest.mark.parametrize(
    ("asked", "bits", "refusal", "impl", "reason"),
    [
        ("auto", (4, 4), None, "lut", "auto: 4 x 4 bits = 16, at most 16"),
        ("auto", (2, 8), None, "lut", "auto: 2 x 8 bits = 16, at most 16"),
        ("auto", (3, 6), None, "dsp", "auto: 3 x 6 bits = 18, above 16"),
        ("auto", (8, 8), "not signed", "lut", "auto: not signed"),
        ("lut", (8, 8), None, "lut", "asked for"),
        ("dsp", (2, 2), None, "dsp", "asked for"),
    ],
)
def test_an_implementation_is_chosen_with_its_reason(
    flow_module, asked, bits, refusal, impl, reason
):
    choice = flow_module("select_implementation").choose_impl(asked, *bits, refusal)
    assert (choice.impl, choice.reason, choice.dsp_refusal) == (impl, reason, None)


def test_a_dsp_that_is_impossible_is_not_replaced_silently(flow_module):
    assert (
        flow_module("select_implementation").choose_impl("dsp", 1, 4, "too narrow") == "too narrow"
    )


# --- layers by weights


def layers_of(flow_module, *matrices):
    state, network = flow_module("flow_state"), flow_module("network")
    return [
        state.MacLayer(f"layer{k}", "MatMul", None if m is None else network.signature(m))
        for k, m in enumerate(matrices)
    ]


@given(seed=st.integers(0, 2**16))
def test_layers_are_found_by_weights_whatever_streamlining_did(seed):
    """Signs per output channel, the order of inputs and of layers change; the match stays."""
    from flows import layers
    from flows.flow_state import MacLayer
    from flows.network import signature

    rng = np.random.default_rng(seed)
    ours = [rng.integers(-7, 8, size=(5, 12)) for _ in range(3)]
    known = [MacLayer(f"layer{k}", "MatMul", signature(m)) for k, m in enumerate(ours)]
    order = rng.permutation(3)
    theirs = [ours[k][:, rng.permutation(12)] * rng.choice([-1, 1], size=(5, 1)) for k in order]
    found, guessed = layers.match_layers(theirs, known)
    assert found == [f"layer{k}" for k in order]
    assert guessed == [False] * 3


def test_a_layer_found_by_position_is_marked(flow_module):
    ours = [np.full((2, 3), 1), np.full((2, 3), 2)]
    match = flow_module("layers").match_layers
    assert match([np.full((2, 3), 5), ours[0]], layers_of(flow_module, *ours)) == (
        ["layer1", "layer0"],
        [True, False],
    )


def test_a_grouped_convolution_is_found_in_its_zero_padded_matrix(flow_module):
    ours = np.array([[1, -2], [3, 4]])
    lowered = np.array([[1, -2, 0, 0], [0, 0, 3, 4]])
    match = flow_module("layers").match_layers
    assert match([lowered], layers_of(flow_module, ours)) == (["layer0"], [False])


def test_more_nodes_than_layers_leave_nodes_without_one(flow_module):
    one = np.ones((2, 3))
    found, guessed = flow_module("layers").match_layers([one, one], layers_of(flow_module, one))
    assert found == ["layer0", None]
    assert guessed == [False, False]


def test_signatures_of_a_file_are_its_integer_weights(flow_module, writer):
    w = writer((1, 2, 4, 4))
    w.input_quant()
    w.conv(2, 4, "conv1")
    integers = w.last_integers
    network = flow_module("network")
    (layer,) = network.mac_layers(wrapped(w.model()), ())
    assert layer.name == "conv1"
    assert np.array_equal(layer.signature, network.signature(integers.reshape(4, -1)))


def test_wrong_number_of_layer_names_is_refused(flow_module, networks):
    refused = flow_module("flow_state").Refused
    with raises_text(
        refused,
        "The request names 1 layers ['a'] but the file has 2 multiply-accumulate nodes; "
        "export the network again.",
    ):
        flow_module("network").mac_layers(wrapped(networks["mlp"]()), ("a",))


def test_input_quantizer_is_read(flow_module, networks):
    found = flow_module("network").input_quantizer(wrapped(networks["mlp"]()), "x")
    assert (found.scale, found.bits, found.signed, found.narrow) == (0.125, 4, True, False)


def test_input_without_quantizer_is_refused(flow_module, writer):
    w = writer((1, 16))
    w.linear(16, 10, "fc")
    with raises_text(
        flow_module("flow_state").Refused,
        "The network's input goes into MatMul, not into one quantizer; put a quantizer "
        "of at most 8 bits at the input and export again.",
    ):
        flow_module("network").input_quantizer(wrapped(w.model()), "x")


# --- host interface


def test_inputs_are_quantized_by_rounding_to_even_and_clipping(flow_module):
    host = host_of((5,))
    x = np.array([[0.25, 0.75, -0.25, 100.0, -100.0]])
    assert flow_module("host_interface").quantize_inputs(host, x).tolist() == [[0, 2, 0, 7, -8]]


def test_narrow_and_unsigned_ranges(flow_module):
    quantize = flow_module("host_interface").quantize_inputs
    x = np.array([[-100.0, 100.0]])
    assert quantize(host_of((2,), narrow=True), x).tolist() == [[-7, 7]]
    assert quantize(host_of((2,), signed=False), x).tolist() == [[0, 15]]


def test_images_become_nhwc(flow_module):
    x = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    host = host_of((2, 2, 2), nchw=True, bits=8, scale=1.0)
    found = flow_module("host_interface").quantize_inputs(host, x)
    assert found[0, 0, 1].tolist() == [1, 5]


def test_flattened_images_keep_the_networks_order(flow_module):
    x = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    host = host_of((8,), nchw=True, bits=8, scale=1.0)
    assert flow_module("host_interface").quantize_inputs(host, x)[0].tolist() == list(range(8))


def test_logits_scale_per_class(flow_module):
    found = flow_module("host_interface").logits(host_of((4,)), np.array([[1, 10]]))
    assert found.tolist() == [[3.0, 31.0]]


# --- golden frames


def test_extreme_frames_reach_both_ends_and_alternate(flow_module):
    low, high, even, odd = flow_module("golden").extreme_frames(host_of((2, 2, 1)))
    assert np.unique(low).tolist() == [-8]
    assert np.unique(high).tolist() == [7]
    assert even[..., 0].tolist() == [[-8, 7], [7, -8]]
    assert odd[..., 0].tolist() == [[7, -8], [-8, 7]]


def test_random_frames_are_reproducible_and_span_the_range(flow_module):
    draw = flow_module("golden").random_frames
    frames = draw(host_of((64,)), 3)
    assert np.array_equal(frames, draw(host_of((64,)), 3))
    assert not np.array_equal(frames, draw(host_of((64,)), 4))
    assert (frames.min(), frames.max(), len(frames)) == (-8, 7, 16)


def integer_graph(*nodes, shape=(1, 4), **values):
    """A graph from x of ``shape`` to y of (1, 3); ``values`` are its constants."""
    graph = helper.make_graph(
        [helper.make_node(op, list(inputs), [output]) for op, inputs, output in nodes], "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3))],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in values.items()],
    )  # fmt: skip
    return wrapped(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]))


@pytest.mark.parametrize("count", [1, 16, 37])
def test_batched_execution_equals_frame_by_frame(flow_module, monkeypatch, count):
    rng, golden = np.random.default_rng(0), flow_module("golden")
    weights = rng.integers(-3, 4, size=(4, 3)).astype(np.float32)
    model = integer_graph(("MatMul", ("x", "w"), "y"), w=weights)
    frames = rng.integers(-8, 8, size=(count, 4))
    sizes, run = [], golden.run
    monkeypatch.setattr(golden, "run", lambda m, f: sizes.append(len(f)) or run(m, f))
    assert np.array_equal(golden.execute(model, frames), frames @ weights.astype(np.int64))
    # Three runs prove that the batched graph computes the same.
    assert sizes == ([1] if count == 1 else [16, 1, 1] + [16] * -(-count // 16))


def test_a_graph_that_cannot_be_batched_is_executed_frame_by_frame(flow_module):
    """The batch is added up with the pixels: a batched run would mix the frames."""
    golden = flow_module("golden")
    model = integer_graph(
        ("ReduceSum", ("x", "axes"), "h"), ("Mul", ("h", "w"), "y"), shape=(1, 1),
        axes=np.int64([0]), w=np.float32([[1, 2, 3]]),
    )  # fmt: skip
    frames = np.arange(1, 6).reshape(5, 1)
    assert golden._batched(model, frames) is None
    assert golden.execute(model, frames).tolist() == [[k, 2 * k, 3 * k] for k in range(1, 6)]


def test_an_integer_graph_that_puts_out_fractions_is_an_error(flow_module):
    model = integer_graph(("MatMul", ("x", "w"), "y"), w=np.full((4, 3), 0.3, dtype=np.float32))
    with raises_text(
        flow_module("flow_state").FlowError,
        "the integer graph put out values that are not integers",
    ):
        flow_module("golden").execute(model, np.ones((2, 4), dtype=np.int64))


def test_nudging_moves_ties_and_nothing_else(flow_module, writer):
    w = writer((1, 4))
    w.input_quant(bits=8, scale=0.5)
    eye = w.quant(w.constant(np.eye(4)), 1.0, 2, signed=1)
    w.tensor = w.node("MatMul", w.tensor, eye, name="fc")
    w.tensor = w.quant(w.tensor, 1.0, 4, signed=1)
    model = wrapped(w.model(outputs=4))
    x = np.array([[0.5, 1.5, 1.0, -2.0]], dtype=np.float32)  # 0.5 and 1.5 are ties
    nudged = flow_module("rounding_ties").nudged_logits
    assert nudged(model, x, 0).tolist() == [[0, 2, 1, -2]]
    assert nudged(model, x, 1).tolist() == [[1, 2, 1, -2]]
    assert nudged(model, x, -1).tolist() == [[0, 1, 1, -2]]


# --- the true cause


def raised(function):
    try:
        function()
    except Exception as exc:
        return exc
    raise AssertionError("nothing was raised")


def test_the_deepest_cause_is_told(flow_module):
    def fail():
        try:
            {}["weights"]
        except KeyError as exc:
            raise RuntimeError("step failed") from exc

    told = flow_module("finn_flow").true_cause(raised(fail))
    assert told == "RuntimeError: step failed (cause: KeyError: 'weights')"


def test_a_suppressed_context_is_not_the_cause(flow_module):
    def fail():
        try:
            {}["weights"]
        except KeyError:
            raise RuntimeError("step\nfailed") from None

    assert flow_module("finn_flow").true_cause(raised(fail)) == "RuntimeError: step failed"

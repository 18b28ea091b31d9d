from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl.integer_model import IntegerModel
from adaqat_hw.schema import HardwareGraph, HardwareNode, HostInterface, IntType, Resources, Stream

U4, S12, U2 = (
    IntType(bits=4, signed=False),
    IntType(bits=12, signed=True),
    IntType(bits=2, signed=False),
)


def _node(name: str, op: str, source: Stream, target: Stream, **attributes: Any) -> HardwareNode:
    return HardwareNode(
        name=name,
        op=op,
        backend="rtl",
        layer=None,
        generator="finn",
        inputs=(source,),
        outputs=(target,),
        attributes=attributes,
        cycles=1,
        estimate=Resources(),
    )


def _graph(nodes: list[HardwareNode], shape_in: tuple[int, ...], shape_out: tuple[int, ...]) -> Any:
    return HardwareGraph(
        network="n",
        part="p",
        clock_ns=5,
        nodes=tuple(nodes),
        input_stream=nodes[0].inputs[0],
        output_stream=nodes[-1].outputs[0],
        host=HostInterface(
            input_scale=1,
            input_dtype=nodes[0].inputs[0].dtype,
            input_nchw=False,
            input_shape=shape_in,
            output_shape=shape_out,
            output_dtype=nodes[-1].outputs[0].dtype,
            output_scale=(1,),
            output_bias=(0,),
        ),
        parameters_file="params.npz",
        parameters_sha256="",
        golden_file="golden.npz",
        golden_sha256="",
        cycles_estimated=1,
        fps_estimated=1,
    )


def _window(source: Stream, target: Stream, depthwise: int, **more: Any) -> HardwareNode:
    attributes = {
        "ConvKernelDim": (2, 2),
        "IFMDim": (6, 6),
        "OFMDim": (5, 5),
        "Stride": (1, 1),
        "Dilation": (1, 1),
        "IFMChannels": 2,
        "depthwise": depthwise,
        **more,
    }
    return _node("swg" + target.name, "ConvolutionInputGenerator", source, target, **attributes)


def _cnn() -> tuple[HardwareGraph, dict[str, np.ndarray]]:
    """Padding, 2x2 convolution, threshold, 2x2 max pool of stride 2, classifier."""
    a = Stream(name="a", dtype=U4, folded_shape=(1, 4, 4, 1, 2))
    b = Stream(name="b", dtype=U4, folded_shape=(1, 6, 6, 1, 2))
    c = Stream(name="c", dtype=U4, folded_shape=(1, 5, 5, 4, 2))
    d = Stream(name="d", dtype=S12, folded_shape=(1, 5, 5, 4, 1))
    e = Stream(name="e", dtype=U2, folded_shape=(1, 5, 5, 2, 2))
    f = Stream(name="f", dtype=U2, folded_shape=(1, 2, 2, 8, 2))
    g = Stream(name="g", dtype=U2, folded_shape=(1, 2, 2, 2, 2))
    h = Stream(name="h", dtype=U2, folded_shape=(1, 16, 1))
    i = Stream(name="i", dtype=S12, folded_shape=(1, 3, 1))
    nodes = [
        _node("pad", "FMPadding", a, b, Padding=(1, 1, 1, 1)),
        _window(b, c, 0),
        _node("conv", "MVAU", c, d, weight_bits=4, weight_signed=1),
        _node("act", "Thresholding", d, e, out_bias=0),
        _window(e, f, 1, IFMDim=(5, 5), OFMDim=(2, 2), Stride=(2, 2), IFMChannels=4),
        _node("pool", "Pool", f, g, KernelSize=(2, 2), Function="MaxPool"),
        _node("dwc", "StreamingDataWidthConverter", g, h),
        _node("fc", "MVAU", h, i, weight_bits=2, weight_signed=1),
    ]
    rng = np.random.default_rng(0)
    parameters = {
        "conv__weights": rng.integers(-8, 8, (8, 4)),
        "act__thresholds": np.sort(rng.integers(-50, 50, (4, 3)), axis=1),
        "fc__weights": rng.integers(-2, 2, (16, 3)),
    }
    return _graph(nodes, (4, 4, 2), (3,)), parameters


def _naive(x: np.ndarray, p: dict[str, np.ndarray]) -> list[int]:
    padded = np.zeros((6, 6, 2), dtype=int)
    padded[1:5, 1:5] = x
    act = np.zeros((5, 5, 4), dtype=int)
    for r, c in np.ndindex(5, 5):
        conv = padded[r : r + 2, c : c + 2].reshape(-1) @ p["conv__weights"]
        act[r, c] = [(conv[k] >= p["act__thresholds"][k]).sum() for k in range(4)]
    pool = act[:4, :4].reshape(2, 2, 2, 2, 4).max(axis=(1, 3))
    return list((pool.reshape(-1) @ p["fc__weights"]).tolist())


def test_a_small_cnn_equals_a_naive_computation() -> None:
    graph, parameters = _cnn()
    frames = np.random.default_rng(1).integers(0, 16, (5, 4, 4, 2))
    frames[0], frames[1] = 0, 15
    outputs = IntegerModel(graph, parameters).run(frames)
    assert outputs.shape == (5, 3)
    assert outputs.dtype == np.int64
    for frame, got in zip(frames, outputs, strict=True):
        assert got.tolist() == _naive(frame, parameters)


def test_tensors_fill_their_streams() -> None:
    graph, parameters = _cnn()
    tensors = IntegerModel(graph, parameters).trace(np.zeros((1, 4, 4, 2), dtype=np.int64))
    for node in graph.nodes:
        for stream in (*node.inputs, *node.outputs):
            assert tensors[stream.name].size == stream.beats * stream.elements


def test_an_unknown_operator_is_named() -> None:
    graph, parameters = _cnn()
    strange = graph.nodes[2].model_copy(update={"op": "LayerNorm"})
    nodes = (*graph.nodes[:2], strange, *graph.nodes[3:])
    with pytest.raises(ConfigError, match=r"'conv' has the operator 'LayerNorm'.*MVAU"):
        IntegerModel(graph.model_copy(update={"nodes": nodes}), parameters)


def test_a_pool_of_other_parallelism_than_its_window_is_refused() -> None:
    graph, parameters = _cnn()
    stream = graph.nodes[5].outputs[0].model_copy(update={"folded_shape": (1, 2, 2, 4, 1)})
    pool = graph.nodes[5].model_copy(update={"outputs": (stream,)})
    nodes = (*graph.nodes[:5], pool, *graph.nodes[6:])
    with pytest.raises(ConfigError, match=r"takes 1 channels at a time, but .* sends 2"):
        IntegerModel(graph.model_copy(update={"nodes": nodes}), parameters)


def _residual() -> list[HardwareNode]:
    """x (4x4, 2 channels) forks; both copies are added; window, average, global sum, label."""
    shape = (1, 4, 4, 1, 2)
    x = Stream(name="x", dtype=U4, folded_shape=shape)
    p, q = (Stream(name=name, dtype=U4, folded_shape=shape) for name in "pq")
    y = Stream(name="y", dtype=S12, folded_shape=shape)
    w = Stream(name="w", dtype=S12, folded_shape=(1, 3, 3, 4, 2))
    v = Stream(name="v", dtype=S12, folded_shape=(1, 3, 3, 1, 2))
    g = Stream(name="g", dtype=S12, folded_shape=(1, 1, 1, 1, 2))
    label = Stream(name="label", dtype=U2, folded_shape=(1, 1, 1))
    fork = _node("fork", "DuplicateStreams", x, p, NumOutputStreams=2)
    add = _node("add", "ElementwiseAdd", p, y)
    return [
        fork.model_copy(update={"outputs": (p, q)}),
        add.model_copy(update={"inputs": (p, q)}),
        _window(y, w, 1, IFMDim=(4, 4), OFMDim=(3, 3)),
        _node("average", "Pool", w, v, KernelSize=(2, 2), Function="QuantAvgPool", Size=1),
        _node("global", "GlobalAccPool", v, g, NumChannels=2),
        _node("label", "LabelSelect", g, label, Labels=2, K=1),
    ]


def test_forks_joins_and_the_small_layers_in_any_order() -> None:
    nodes = _residual()
    ordered = _graph(nodes, (4, 4, 2), (1,))
    frames = np.random.default_rng(2).integers(0, 16, (6, 4, 4, 2))
    frames[0], frames[1] = 0, 15
    tensors = IntegerModel(ordered, {}).trace(frames)
    doubled = 2 * frames
    windows = sum(doubled[:, r : r + 3, c : c + 3] for r in (0, 1) for c in (0, 1))
    np.testing.assert_array_equal(tensors["q"], frames)
    np.testing.assert_array_equal(tensors["y"], doubled)
    np.testing.assert_array_equal(tensors["v"], windows // 2)
    np.testing.assert_array_equal(tensors["g"], (windows // 2).sum(axis=(1, 2)))
    np.testing.assert_array_equal(tensors["label"][:, 0], tensors["g"].argmax(axis=1))
    assert IntegerModel(ordered, {}).run(frames).shape == (6, 1)
    for stream in (s for node in nodes for s in (*node.inputs, *node.outputs)):
        assert tensors[stream.name][0].size == stream.beats * stream.elements
    turned = ordered.model_copy(update={"nodes": tuple(reversed(nodes))})
    again = IntegerModel(turned, {}).trace(frames)
    assert all(np.array_equal(again[name], tensors[name]) for name in tensors)


def _refused(index: int, message: str, **changes: Any) -> None:
    nodes = _residual()
    graph = _graph(nodes, (4, 4, 2), (1,))
    nodes[index] = nodes[index].model_copy(update=changes)
    with pytest.raises(ConfigError, match=message):
        IntegerModel(graph.model_copy(update={"nodes": tuple(nodes)}), {}).run(
            np.zeros((1, 4, 4, 2), dtype=np.int64)
        )


def test_broken_forks_and_joins_are_refused() -> None:
    nodes = _residual()
    x, (p, q) = nodes[0].inputs[0], nodes[0].outputs
    y, w, label = (nodes[k].outputs[0] for k in (1, 2, 5))
    x3 = x.model_copy(update={"name": "x3"})
    _refused(0, "'fork' .DuplicateStreams. has 1 inputs and 3 outputs", outputs=(p, q, x3))
    _refused(1, "'add' .* has 1 inputs and 1 outputs; its operator has 2", inputs=(p,))
    _refused(2, "'swgw' makes 'x', made already", outputs=(w, x))
    _refused(1, "'add' reads 'label', which no node before it makes", inputs=(p, label))
    _refused(5, "wants the 3 largest", attributes={"Labels": 2, "K": 3})
    _refused(3, "pools with 'AvgPool'", attributes={"KernelSize": (2, 2), "Function": "AvgPool"})
    graph = _graph(nodes, (4, 4, 2), (1,))
    with pytest.raises(ConfigError, match="No node makes the graph's output 'label'"):
        IntegerModel(graph.model_copy(update={"nodes": tuple(nodes[:5])}), {})
    # A depthwise window on one way of a join only.
    late = nodes[2].model_copy(update={"inputs": (p,)})
    join = nodes[1].model_copy(update={"inputs": (w, q)})
    with pytest.raises(ConfigError, match="'add' joins streams of different order"):
        IntegerModel(
            graph.model_copy(update={"nodes": (nodes[0], late, join), "output_stream": y}), {}
        )


def test_a_sum_that_can_leave_its_type_names_the_addition() -> None:
    nodes = _residual()
    narrow = nodes[1].outputs[0].model_copy(update={"dtype": U4})
    nodes[1] = nodes[1].model_copy(update={"outputs": (narrow,)})
    graph = _graph(nodes, (4, 4, 2), (1,))
    said = (
        "Node 'add' (ElementwiseAdd) can put out 0..30, but its stream 'y' carries unsigned values "
        "of 4 bits; build it with a wider output."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}$"):
        IntegerModel(graph, {})


def test_ranges_follow_from_the_input_and_the_parameters() -> None:
    ranges = IntegerModel(_graph(_residual(), (4, 4, 2), (1,)), {}).ranges()
    found = {name: (values.low, values.high) for name, values in ranges.items()}
    assert found == {
        **dict.fromkeys("xpq", (0, 15)), **dict.fromkeys("yw", (0, 30)),
        "v": (0, 4 * 30 // 2), "g": (0, 9 * 60), "label": (0, 1),
    }  # fmt: skip


def test_missing_parts_are_named() -> None:
    graph, parameters = _cnn()
    frames = np.zeros((1, 4, 4, 2), dtype=np.int64)
    fewer = {key: value for key, value in parameters.items() if key != "fc__weights"}
    with pytest.raises(ConfigError, match="Parameter 'fc__weights' of node 'fc' is missing"):
        IntegerModel(graph, fewer).run(frames)
    with pytest.raises(ConfigError, match="'conv' reads 'c', which no node before it makes"):
        IntegerModel(
            graph.model_copy(update={"nodes": (graph.nodes[0], *graph.nodes[2:])}), parameters
        )
    bare = graph.nodes[0].model_copy(update={"attributes": {}})
    with pytest.raises(ConfigError, match=r"Attribute 'Padding' of node 'pad' is None; it must"):
        IntegerModel(graph.model_copy(update={"nodes": (bare, *graph.nodes[1:])}), parameters).run(
            frames
        )


def test_values_outside_their_type_name_the_node() -> None:
    graph, parameters = _cnn()
    model = IntegerModel(graph, parameters)
    large = {**parameters, "fc__weights": np.full((16, 3), 500)}
    with pytest.raises(ConfigError, match=r"^Node 'fc' .MVAU. can put out 0\.\.24000"):
        IntegerModel(graph, large)
    wide = graph.nodes[7].outputs[0].model_copy(update={"dtype": IntType(bits=32, signed=True)})
    declared = graph.nodes[7].model_copy(update={"outputs": (wide,)})
    narrow = graph.model_copy(update={"nodes": (*graph.nodes[:7], declared)})
    with pytest.raises(ValueError, match=r"^fc: MVAU weights holds 500"):
        IntegerModel(narrow, large).run(np.full((1, 4, 4, 2), 15))
    with pytest.raises(ValueError, match="Input frames holds 16"):
        model.run(np.full((1, 4, 4, 2), 16))
    with pytest.raises(ValueError, match="Frames must be"):
        model.run(np.zeros((1, 4, 4), dtype=np.int64))

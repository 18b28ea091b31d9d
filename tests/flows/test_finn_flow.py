"""The real flow on the smallest networks, in the FINN environment."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from adaqat_hw import tools
from adaqat_hw.compile.finn_flow import run_flow
from adaqat_hw.errors import StageFailed, UnsupportedNetwork
from adaqat_hw.resources import flows_dir, package_root
from adaqat_hw.rtl.integer_model import IntegerModel
from adaqat_hw.schema import BuildResult, HardwareGraph, sha256_file
from tests.error_texts import raises_text

pytestmark = pytest.mark.finn


class Built:
    def __init__(self, folder: Path, request_of, name: str, **changes) -> None:
        self.folder = folder
        self.events: list[dict] = []
        self.request = request_of(folder, name, **changes)
        self.result, graph = run_flow(self.request, folder / "build", self.events.append)
        assert graph is not None
        self.graph: HardwareGraph = graph
        self.golden = dict(np.load(folder / "build" / graph.golden_file))
        self.parameters = dict(np.load(folder / "build" / graph.parameters_file))


@pytest.fixture(scope="module")
def cnn(finn, make_request, tmp_path_factory) -> Built:
    folder = tmp_path_factory.mktemp("cnn")
    return Built(folder, make_request, "cnn", impl_per_layer={"fc": "dsp"}, target_fps=1_000_000)


def test_steps_are_reported_in_order(cnn):
    steps = [e for e in cnn.events if "seconds" in e]
    assert [e["index"] for e in steps] == list(range(steps[0]["total"]))
    assert [e["step"] for e in steps] == [s.name for s in cnn.result.steps]
    assert cnn.result.tool_versions["finn-plus"] == tools.FINN_PLUS_VERSION


def test_every_listed_output_is_there_and_nothing_of_finn_is_left(cnn):
    build = cnn.folder / "build"
    listed = {x.path: x.sha256 for x in cnn.result.outputs}
    generated = [f for n in cnn.graph.nodes for f in n.files]
    assert {"hardware.json", "params.npz", "golden.npz", *generated} <= set(listed)
    assert {path: sha256_file(build / path) for path in listed} == listed
    assert not (build / "finn").exists()


def test_golden_frames_have_all_kinds_and_real_ones_first(cnn):
    kinds = cnn.golden["kinds"].tolist()
    assert kinds == ["real"] * 12 + ["random"] * 16 + ["extreme"] * 4
    assert (cnn.golden["labels"][:12] >= 0).all()
    assert (cnn.golden["labels"][12:] == -1).all()
    assert cnn.golden["inputs"].shape == (32, *cnn.graph.host.input_shape) == (32, 4, 4, 2)


def test_an_input_of_three_bits_is_quantized_by_the_host(cnn):
    stream = cnn.graph.input_stream.dtype
    assert (stream.bits, stream.signed) == (3, True)
    integers = cnn.golden["inputs"]
    assert set(np.unique(integers)) <= set(range(-4, 4))
    frames = np.load(cnn.request.golden)["inputs"].transpose(0, 2, 3, 1)
    expected = (frames / 0.125).round().clip(-4, 3)
    assert np.array_equal(integers[: len(frames)], expected)


def test_golden_outputs_scale_to_the_networks_logits(cnn):
    host, wanted = cnn.graph.host, np.load(cnn.request.golden)["logits"]
    found = cnn.golden["outputs"][:12] * np.array(host.output_scale) + np.array(host.output_bias)
    assert np.max(np.abs(found - wanted)) <= 1e-3 * np.max(np.abs(wanted))
    assert len(host.output_scale) == 10


def test_the_hardware_graph_computes_the_golden_outputs(cnn):
    model = IntegerModel(cnn.graph, cnn.parameters)
    found = model.run(cnn.golden["inputs"])
    assert np.array_equal(found.reshape(cnn.golden["outputs"].shape), cnn.golden["outputs"])


def test_implementations_are_as_asked_and_as_the_rule_says(cnn):
    mvaus = {n.layer: n for n in cnn.graph.nodes if n.op == "MVAU"}
    assert list(mvaus) == ["conv1", "fc"]
    conv, fc = mvaus["conv1"], mvaus["fc"]
    assert (conv.impl, conv.generator, conv.backend) == ("lut", "adaqat", "hls")
    assert (fc.impl, fc.generator, fc.backend, fc.impl_reason) == (
        "dsp",
        "finn",
        "rtl",
        "asked for",
    )
    assert conv.impl_reason == "auto: 4 x 3 bits = 12, at most 16"  # the input has 3 bits


def test_every_node_is_counted_into_a_layer(cnn):
    layers = {n.op: n.layer for n in cnn.graph.nodes if n.op not in ("StreamingFIFO", "MVAU")}
    assert layers["FMPadding"] == "conv1"
    assert layers["Thresholding"] == "conv1"
    assert layers["Pool"] == "maxpool0"
    windows = [n.layer for n in cnn.graph.nodes if n.op == "ConvolutionInputGenerator"]
    assert windows == ["conv1", "maxpool0"]
    assert {n.layer for n in cnn.graph.nodes} == {"conv1", "maxpool0", "fc"}


def test_streams_connect_and_the_ends_match(cnn):
    produced = {cnn.graph.input_stream.name: cnn.graph.input_stream}
    for node in cnn.graph.nodes:
        for stream in node.inputs:
            assert produced[stream.name].width == stream.width
        produced |= {s.name: s for s in node.outputs}
    assert produced[cnn.graph.output_stream.name] == cnn.graph.output_stream
    assert cnn.graph.host.output_dtype == cnn.graph.output_stream.dtype


def test_rtl_of_finn_is_there_and_weight_memories_are_not(cnn):
    build = cnn.folder / "build"
    by_finn = [n for n in cnn.graph.nodes if n.generator == "finn"]
    assert {n.op for n in by_finn} == {
        *("MVAU", "Thresholding", "FMPadding", "ConvolutionInputGenerator", "StreamingFIFO"),
        "StreamingDataWidthConverter",
    }
    for node in by_finn:
        texts = [(build / f).read_text() for f in node.files if f.endswith((".v", ".sv"))]
        assert any(f"module {node.top_module}" in text for text in texts)
        assert not any("memblock" in f for f in node.files)
    others = [n for n in cnn.graph.nodes if n.generator == "adaqat"]
    assert {(n.op, n.top_module, n.files) for n in others} == {
        ("MVAU", None, ()), ("Pool", None, ()),
    }  # fmt: skip
    assert cnn.graph.rtllib_files
    assert all((build / f).is_file() for f in cnn.graph.rtllib_files)


def test_finn_estimates_no_flip_flops(cnn):
    assert all(n.estimate.ff is None and n.estimate.dsp is not None for n in cnn.graph.nodes)
    assert cnn.graph.cycles_estimated == max(n.cycles for n in cnn.graph.nodes)


def test_without_a_target_every_pe_and_simd_is_1(finn, make_request, tmp_path):
    built = Built(tmp_path, make_request, "mlp", goal="estimate")
    assert {n.attributes["PE"] for n in built.graph.nodes} == {1}
    assert not (tmp_path / "build" / "hdl").exists()


def test_what_cannot_be_built_is_refused_with_all_reasons(finn, make_request, tmp_path):
    request = make_request(tmp_path, "clash")
    fault = (
        "an addition whose two sides have different scales has no RTL; put the same quantizer (one "
        "scale) on both sides."
    )
    reasons = tuple(f"ElementwiseAdd after layer '{name}': {fault}" for name in ("wide1", "wide2"))
    with raises_text(
        UnsupportedNetwork,
        f"'clash' cannot be built. {' '.join(reasons)} (log: {tmp_path}/build/flow.log)",
    ):
        run_flow(request, tmp_path / "build", lambda event: None)
    result = BuildResult.read(tmp_path / "build" / "result.json")
    assert (result.status, result.failed_step) == ("refused", "convert_to_hw")
    assert result.unsupported == reasons


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"impl_per_layer": {"nope": "lut"}},
            "The request sets impl_per_layer of 'nope', which is no layer; there are ['fc1', "
            "'fc2'].",
        ),
        (
            {"folding": {"MVAU_hls_0": {"PE": 3}}},
            "The folding of 'MVAU_hls_0' sets PE = 3, which must divide 8.",
        ),
        (
            {"folding": {"nope": {"PE": 1}}},
            "The folding names 'nope', which is no node; there are ['MVAU_hls_0', "
            "'Thresholding_rtl_0', 'MVAU_hls_1'].",
        ),
        (
            {"model_sha256": "0" * 64},
            "QONNX file '{tmp_path}/mlp.onnx' was changed after the export; export again.",
        ),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(finn, make_request, tmp_path, changes, text):
    request = make_request(tmp_path, "mlp", **changes)
    reason = text.replace("{tmp_path}", str(tmp_path))
    with raises_text(
        UnsupportedNetwork, f"'mlp' cannot be built. {reason} (log: {tmp_path}/build/flow.log)"
    ):
        run_flow(request, tmp_path / "build", lambda event: None)


def test_logits_that_are_not_the_networks_fail(finn, make_request, tmp_path):
    request = make_request(tmp_path, "mlp", golden_sha256=None)
    arrays = dict(np.load(request.golden))
    arrays["logits"][3] += 0.1 * np.abs(arrays["logits"]).max()
    np.savez(request.golden, **arrays)
    with raises_text(
        StageFailed,
        "build/golden_frames failed: the integer graph does not compute the network: 1 of 12 "
        "golden frames deviate by more than 0.001 of the largest logit (most: 0.1) "
        f"(log: {tmp_path}/build/flow.log)",
    ) as caught:
        run_flow(request, tmp_path / "build", lambda event: None)
    assert caught.value.stage == "build/golden_frames"


# Layers that FINN knows in HLS only.


def nodes_of(built: Built, op: str):
    return [n for n in built.graph.nodes if n.op == op]


@pytest.fixture(scope="module")
def residual(finn, make_request, tmp_path_factory) -> Built:
    return Built(tmp_path_factory.mktemp("res"), make_request, "residual", target_fps=2_000_000)


@pytest.fixture(scope="module")
def depthwise(finn, make_request, tmp_path_factory) -> Built:
    return Built(tmp_path_factory.mktemp("dw"), make_request, "depthwise", target_fps=2_000_000)


def test_forks_and_joins_become_nodes_with_several_streams(residual):
    forks, adds = nodes_of(residual, "DuplicateStreams"), nodes_of(residual, "ElementwiseAdd")
    assert [n.attributes["NumOutputStreams"] for n in forks] == [2, 2]
    assert all(len(n.outputs) == 2 and n.generator == "adaqat" for n in forks)
    assert [n.layer for n in adds] == ["add0", "add1"]
    for node in adds:
        left, right = node.inputs
        assert left.folded_shape == right.folded_shape == node.outputs[0].folded_shape
        assert node.outputs[0].dtype.bits == max(left.dtype.bits, right.dtype.bits) + 1
    (pool,) = nodes_of(residual, "GlobalAccPool")
    assert pool.layer == "globalpool0"


def test_every_stream_of_a_residual_network_has_one_source_and_one_reader(residual):
    graph = residual.graph
    made = [graph.input_stream.name, *(s.name for n in graph.nodes for s in n.outputs)]
    read = [graph.output_stream.name, *(s.name for n in graph.nodes for s in n.inputs)]
    assert sorted(made) == sorted(read)
    assert len(set(made)) == len(made)


def test_ties_of_sums_round_to_even_as_quantizers_do(residual):
    check = json.loads((residual.folder / "build" / "reports" / "golden_check.json").read_text())
    assert (check["frames_outside"], check["explained_by_rounding_ties"]) == (0, 0)
    assert len(np.unique(residual.golden["outputs"][:12])) > 20


def test_a_shortcut_without_parameters_is_a_layer_of_zeros_and_ones(finn, make_request, tmp_path):
    asked = {"shortcut0": "lut"}
    built = Built(tmp_path, make_request, "parameterless", goal="estimate", impl_per_layer=asked)
    assert [n.layer for n in nodes_of(built, "MVAU")] == ["stem", "shortcut0", "conv", "fc"]
    shortcut = nodes_of(built, "MVAU")[1]
    weights = built.parameters[shortcut.parameters["weights"]]
    assert np.array_equal(weights, np.pad(np.eye(4, dtype=int), ((0, 0), (1, 1))))
    assert (shortcut.impl, shortcut.impl_reason) == ("lut", "asked for")
    model = IntegerModel(built.graph, built.parameters)
    assert np.array_equal(model.run(built.golden["inputs"]), built.golden["outputs"])


def test_a_depthwise_layer_keeps_its_weights_and_its_windows_lanes(depthwise):
    (node,) = nodes_of(depthwise, "VVAU")
    weights = depthwise.parameters[node.parameters["weights"]]
    assert (node.layer, node.generator, node.impl) == ("depth", "adaqat", "lut")
    assert node.impl_reason == "auto: 3 x 4 bits = 12, at most 16"
    assert weights.shape == (4, 9)
    assert np.abs(weights).max() <= 3
    assert (node.attributes["Channels"], node.attributes["Kernel"]) == (4, (3, 3))
    assert (node.attributes["weight_bits"], node.attributes["weight_signed"]) == (3, 1)
    window = next(
        n for n in nodes_of(depthwise, "ConvolutionInputGenerator") if n.attributes["depthwise"]
    )
    assert window.layer == "depth"
    assert window.attributes["SIMD"] == node.attributes["PE"] > 1
    assert len(node.inputs) == 1


def test_target_fps_folds_the_nodes_of_this_project_too(residual, depthwise):
    for built in (residual, depthwise):
        limit = 1e9 / (built.request.target_fps * built.request.clock_ns)
        slow = [n.name for n in built.graph.nodes if n.generator == "adaqat" and n.cycles > limit]
        assert slow == [], built.graph.cycles_estimated


def test_average_pooling_with_a_truncation(finn, make_request, tmp_path):
    built = Built(tmp_path, make_request, "average", goal="estimate")
    (pool,) = nodes_of(built, "Pool")
    assert (pool.attributes["Function"], pool.layer) == ("QuantAvgPool", "avgpool0")
    assert (pool.inputs[0].dtype.bits, pool.outputs[0].dtype.bits) == (4, 4)


def test_a_layer_may_read_a_sum_that_nobody_quantizes(finn, make_request, tmp_path):
    built = Built(tmp_path, make_request, "skip", goal="estimate")
    (add,) = nodes_of(built, "ElementwiseAdd")
    assert (add.outputs[0].dtype.bits, add.outputs[0].dtype.signed) == (5, False)


def test_the_label_of_the_largest_logit(finn, make_request, tmp_path):
    built = Built(tmp_path, make_request, "label", goal="estimate")
    (node,) = nodes_of(built, "LabelSelect")
    assert (node.attributes["Labels"], node.attributes["K"]) == (10, 1)
    assert np.array_equal(
        built.golden["outputs"][:12].ravel(), np.load(built.request.golden)["logits"].ravel()
    )


def test_a_depthwise_layer_and_its_window_fold_alike(finn, make_request, tmp_path):
    request = make_request(tmp_path, "depthwise", folding={"VVAU_hls_0": {"PE": 2}})
    with raises_text(
        UnsupportedNetwork,
        "'depthwise' cannot be built. PE of 'VVAU_hls_0' is 2 and SIMD of "
        "'ConvolutionInputGenerator_rtl_1' is 1; a pool or depthwise convolution and its window "
        f"must have the same. (log: {tmp_path}/build/flow.log)",
    ):
        run_flow(request, tmp_path / "build", lambda event: None)


def test_a_request_that_is_none_is_refused_with_a_result(finn, tmp_path):
    (tmp_path / "request.json").write_text("{")
    argv = [str(finn), str(flows_dir() / "finn_flow.py"), str(tmp_path / "request.json"),
            str(tmp_path / "build")]  # fmt: skip
    done = subprocess.run(argv, env={"PYTHONPATH": str(package_root())}, check=False)
    assert done.returncode == 2
    body = json.loads((tmp_path / "build" / "result.json").read_text())
    assert body["status"] == "refused"
    assert body["message"] == (
        f"BuildRequest '{tmp_path}/request.json' is not valid JSON (Expecting property name "
        "enclosed in double quotes: line 1 column 2 (char 1)); it is damaged or was edited "
        "wrongly: "
        "delete it and run the stage again."
    )

"""The real flow on the smallest networks, in the FINN environment."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from adaqat_hw.build.flow import run_flow
from adaqat_hw.errors import StageFailed, UnsupportedNetwork
from adaqat_hw.resources import flows_dir, package_root
from adaqat_hw.rtl.integer_model import IntegerModel
from adaqat_hw.schema import BuildResult, HardwareGraph

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
    assert cnn.result.tool_versions["finn-plus"] == "1.6.1"


def test_every_listed_output_is_there_and_nothing_of_finn_is_left(cnn):
    build = cnn.folder / "build"
    assert all((build / x.path).is_file() for x in cnn.result.outputs)
    assert not (build / "finn").exists()


def test_golden_frames_have_all_kinds_and_real_ones_first(cnn):
    kinds = cnn.golden["kinds"].tolist()
    assert kinds == ["real"] * 12 + ["random"] * 16 + ["extreme"] * 4
    assert (cnn.golden["labels"][:12] >= 0).all()
    assert (cnn.golden["labels"][12:] == -1).all()
    assert cnn.golden["inputs"].shape == (32, *cnn.graph.ends.input_shape) == (32, 4, 4, 2)


def test_golden_outputs_scale_to_the_networks_logits(cnn):
    ends, wanted = cnn.graph.ends, np.load(cnn.request.golden)["logits"]
    found = cnn.golden["outputs"][:12] * np.array(ends.output_scale) + np.array(ends.output_bias)
    assert np.max(np.abs(found - wanted)) <= 1e-3 * np.max(np.abs(wanted))
    assert len(ends.output_scale) == 10


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
    assert "16" in conv.impl_reason


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
    assert cnn.graph.ends.output_dtype == cnn.graph.output_stream.dtype


def test_rtl_of_finn_is_there_and_weight_memories_are_not(cnn):
    build = cnn.folder / "build"
    for node in cnn.graph.nodes:
        assert bool(node.files) == (node.generator == "finn")
        texts = [(build / f).read_text() for f in node.files if f.endswith(("v", "sv"))]
        assert node.top_module is None or any(f"module {node.top_module}" in t for t in texts)
        assert not any("memblock" in f for f in node.files)
    assert all((build / f).is_file() for f in cnn.graph.rtllib_files)


def test_finn_estimates_no_flip_flops(cnn):
    assert all(n.estimate.ff is None and n.estimate.dsp is not None for n in cnn.graph.nodes)
    assert cnn.graph.cycles_estimated == max(n.cycles for n in cnn.graph.nodes)


def test_without_a_target_the_flow_says_that_it_is_slowest(finn, make_request, tmp_path):
    built = Built(tmp_path, make_request, "mlp", goal="estimate")
    assert any("PE = SIMD = 1" in e.get("note", "") for e in built.events)
    assert {n.attributes["PE"] for n in built.graph.nodes} == {1}
    assert not (tmp_path / "build" / "hdl").exists()


def test_what_cannot_be_built_is_refused_with_all_reasons(finn, make_request, tmp_path):
    request = make_request(tmp_path, "residual")
    with pytest.raises(UnsupportedNetwork, match="skip connections") as caught:
        run_flow(request, tmp_path / "build", lambda event: None)
    result = BuildResult.read(tmp_path / "build" / "result.json")
    assert (result.status, result.failed_step) == ("refused", "check_supported")
    assert len(result.unsupported) == 2
    assert all(reason in str(caught.value) for reason in result.unsupported)
    assert all("after layer 'fc" in reason for reason in result.unsupported)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"impl_per_layer": {"nope": "lut"}}, "impl_per_layer of 'nope', which is no layer"),
        ({"folding": {"MVAU_hls_0": {"PE": 3}}}, "sets PE = 3, which must divide 8"),
        ({"folding": {"nope": {"PE": 1}}}, "folding names 'nope', which is no node"),
        ({"model_sha256": "0" * 64}, "was changed after the export"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(finn, make_request, tmp_path, changes, text):
    request = make_request(tmp_path, "mlp", **changes)
    with pytest.raises(UnsupportedNetwork, match=text):
        run_flow(request, tmp_path / "build", lambda event: None)


def test_logits_that_are_not_the_networks_fail(finn, make_request, tmp_path):
    request = make_request(tmp_path, "mlp", golden_sha256=None)
    arrays = dict(np.load(request.golden))
    arrays["logits"][3] += 0.1 * np.abs(arrays["logits"]).max()
    np.savez(request.golden, **arrays)
    with pytest.raises(StageFailed, match="1 of 12 golden frames deviate") as caught:
        run_flow(request, tmp_path / "build", lambda event: None)
    assert caught.value.stage == "build/golden_frames"


def test_a_request_that_is_none_is_refused_with_a_result(finn, tmp_path):
    (tmp_path / "request.json").write_text("{")
    argv = [str(finn), str(flows_dir() / "finn_flow.py"), str(tmp_path / "request.json"),
            str(tmp_path / "build")]  # fmt: skip
    done = subprocess.run(argv, env={"PYTHONPATH": str(package_root())}, check=False)
    assert done.returncode == 2
    body = json.loads((tmp_path / "build" / "result.json").read_text())
    assert body["status"] == "refused"
    assert "not valid JSON" in body["message"]

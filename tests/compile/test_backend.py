"""A backend is one class and one line of BACKENDS; what it makes is built like any design."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from adaqat_hw import boards
from adaqat_hw.compile import build_tasks, request_from_file
from adaqat_hw.compile.backend import BACKENDS, backend_named, require_buildable
from adaqat_hw.compile.design import Design
from adaqat_hw.errors import ConfigError, UnsupportedNetwork
from adaqat_hw.report import build_summary
from adaqat_hw.rtl.integer_model import IntegerModel
from adaqat_hw.run import BuildFolder, RunDirectory
from adaqat_hw.schema import (
    BuildConfig,
    BuildRequest,
    BuildResult,
    HardwareGraph,
    HardwareNode,
    HostInterface,
    IntType,
    Resources,
    SimulationResult,
    Stream,
)

S4, S9, S14 = (IntType(bits=bits, signed=True) for bits in (4, 9, 14))


def mvau(name: str, source: Stream, sink: Stream) -> HardwareNode:
    return HardwareNode(
        name=name, op="MVAU", backend="rtl", layer=name, generator="adaqat", impl="lut",
        inputs=(source,), outputs=(sink,), cycles=8, estimate=Resources(lut=10),
        attributes={"PE": sink.elements, "SIMD": source.elements, "MW": 4, "MH": 4,
                    "weight_bits": 3, "weight_signed": 1},
        parameters={"weights": f"{name}__weights"},
    )  # fmt: skip


class TwoLayers:
    """A backend that makes two 4x4 MVAUs of ``hw/rtl`` of whatever it is given."""

    name, tool, estimate = "two-layers", "pencil", "finn_estimate"
    problems: tuple[str, ...] = ()

    def digest(self):
        return "0"

    def check(self, model):
        return list(self.problems)

    def compile(self, request, folder, environment, progress):
        progress("1/1 draw")
        source = Stream(name="in", dtype=S4, folded_shape=(1, 2, 2))
        inner = Stream(name="h", dtype=S9, folded_shape=(1, 4, 1))
        sink = Stream(name="out", dtype=S14, folded_shape=(1, 4, 1))
        graph = HardwareGraph(
            network=request.network, part=request.part, clock_ns=request.clock_ns,
            nodes=(mvau("fc1", source, inner), mvau("fc2", inner, sink)),
            input_stream=source, output_stream=sink, cycles_estimated=16, fps_estimated=1.0,
            parameters_file=folder.parameters.name, parameters_sha256="",
            golden_file=folder.golden.name, golden_sha256="",
            host=HostInterface(
                input_scale=1.0, input_dtype=S4, input_nchw=False, input_shape=(1, 4),
                output_shape=(1, 4), output_dtype=S14, output_scale=(1.0,), output_bias=(0.0,),
            ),
        )  # fmt: skip
        rng = np.random.default_rng(0)
        weights = {f"{fc}__weights": rng.integers(-4, 4, (4, 4)) for fc in ("fc1", "fc2")}
        frames = rng.integers(-8, 8, (3, 1, 4))
        outputs = IntegerModel(graph, weights).run(frames)
        np.savez(folder.parameters, **weights)
        np.savez(
            folder.golden, inputs=frames, outputs=outputs, labels=np.full(3, -1),
            kinds=np.full(3, "random"),
        )  # fmt: skip
        graph.write(folder.hardware)
        BuildResult(
            request_digest=request.digest(), status="ok", log=folder.flow_log.name,
            graph=folder.hardware.name, tool_versions={"pencil": "HB"},
        ).write(folder.result)  # fmt: skip
        return Design(folder, graph)


@pytest.fixture
def model(tmp_path) -> Path:
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    path = tmp_path / "net.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


@pytest.fixture
def backend(monkeypatch) -> TwoLayers:
    made = TwoLayers()
    monkeypatch.setitem(BACKENDS, made.name, made)
    return made


def test_a_request_names_a_backend_that_is_there(model):
    board = boards.load("pynq-z1")
    config = BuildConfig(board=board.name)
    assert request_from_file(model, board, config).backend == "finn-streams"
    other = config.model_copy(update={"backend": "two-layers"})
    request = request_from_file(model, board, other)
    assert request.backend == "two-layers"
    assert request.digest() != request_from_file(model, board, config).digest()
    assert backend_named("finn-streams").name == "finn-streams"


def test_an_unknown_backend_is_refused(model, tmp_path):
    board = boards.load("pynq-z1")
    config = BuildConfig(board=board.name, backend="vhls")
    request = request_from_file(model, board, config)
    tasks = build_tasks(request, board, config, BuildFolder(tmp_path))
    sentence = "Backend 'vhls' is not known; choose one of finn-streams."
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        next(tasks)


def test_what_a_backend_cannot_build_is_said_at_once(backend, model):
    backend.problems = ("a: too large", "b: too odd")
    with pytest.raises(UnsupportedNetwork) as caught:
        require_buildable(backend, model)
    assert str(caught.value) == (
        f"{str(model)!r} cannot be built as hardware, 2 problems:\n  - a: too large\n  - b: too odd"
    )


@pytest.mark.rtl
@pytest.mark.synth
def test_a_design_of_another_backend_is_sized_simulated_synthesized_and_reported(
    backend, model, tmp_path, monkeypatch
):
    monkeypatch.setenv("ADAQAT_CACHE", str(tmp_path / "cache"))
    board = boards.load("pynq-z1")
    config = BuildConfig(board=board.name, backend=backend.name, frames=2, stall_frames=2)
    request = request_from_file(model, board, config)
    folder = RunDirectory(tmp_path).build(request)
    names = []
    for task in build_tasks(request, board, config, folder):
        task.run(lambda text: None)
        assert task.is_done()
        names.append(task.name)
    assert names == ["compile", "fifos", "simulate", "synthesize"]
    assert BuildRequest.read(folder.request) == request
    assert SimulationResult.read(folder.simulation).mismatches == 0
    summary = build_summary(folder.path)
    estimate, synthesis = summary["resources"]
    assert (estimate["tool"], estimate["lut"]) == ("pencil HB", 20)
    assert synthesis["lut"] > 0
    assert summary["missing"] == []

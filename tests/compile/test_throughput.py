"""A build's throughput from the command line to its records; one real build."""

from __future__ import annotations

import json
import stat
import sys
import textwrap
from pathlib import Path

import pytest

from adaqat_hw import boards, families
from adaqat_hw.cli import command_build, main
from adaqat_hw.compile import throughput
from adaqat_hw.errors import NotMeasured
from adaqat_hw.report import build_summary
from adaqat_hw.resources import hw_dir
from adaqat_hw.run import RunDirectory
from adaqat_hw.schema import (
    Board,
    BuildConfig,
    BuildRequest,
    DataConfig,
    HardwareGraph,
    NetworkConfig,
    QonnxArtifact,
    RunConfig,
    ThroughputRequest,
    sha256_file,
)
from adaqat_hw.schema.folding import FoldingRecord

UNFOLDED = Path(__file__).parent / "folding" / "cnn-unfolded.json"
ESTIMATE = ("--goal", "estimate", "--json")


@pytest.fixture
def cli(capfd, monkeypatch, tmp_path):
    """Run the command line in an empty folder; return (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*argv):
        with pytest.raises(SystemExit) as stopped:
            main([str(x) for x in argv])
        captured = capfd.readouterr()
        return int(stopped.value.code or 0), captured.out, " ".join(captured.err.split())

    return call


@pytest.fixture
def fake_finn(tmp_path, monkeypatch):
    """Make a FINN that answers every estimate with the unfolded CNN, folded as asked."""
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    root = Path(main.__code__.co_filename).resolve().parents[2]
    code = f"""\
        #!{sys.executable}
        import json, sys
        from pathlib import Path
        sys.path.insert(0, {str(root)!r})
        import numpy as np
        from adaqat_hw.schema import BuildRequest, BuildResult, HardwareGraph
        request, folder = BuildRequest.read(Path(sys.argv[2])), Path(sys.argv[3])
        graph = HardwareGraph.read(Path({str(UNFOLDED)!r}))
        (folder / "asked.json").write_text(json.dumps(request.folding))
        arrays = {{k: np.array([[-1, 1]]) for n in graph.nodes for k in n.parameters.values()}}
        np.savez(folder / graph.parameters_file, **arrays)
        graph.write(folder / "hardware.json")
        BuildResult(request_digest=request.digest(), status="ok", log="flow.log",
                    graph="hardware.json").write(folder / "result.json")
        """
    python.write_text(textwrap.dedent(code))
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("ADAQAT_FINN_ENV", str(tmp_path / "env"))


def request_in(root: Path, goal: str = "rtl") -> BuildRequest:
    """Return the request of the one build folder that is no start of a search."""
    found = [BuildRequest.read(path) for path in root.rglob("request.json")]
    (request,) = (r for r in found if r.throughput.kind != "unfolded" and r.goal == goal)
    return request


def test_a_build_is_folded_before_it_is_built(cli, fake_finn, tiny_qonnx):
    options = ("--fit", "pynq-z2", "--fill", "0.06", *ESTIMATE)
    status, out, err = cli("build", tiny_qonnx, *options)
    assert status == 0, err
    body = json.loads(out)["folding"]
    assert body["target"] == {"fps": None, "fill": 0.06}
    asked = {path: json.loads(path.read_text()) for path in Path("runs").rglob("asked.json")}
    assert sorted(asked.values(), key=str) == sorted([None, body["folding"]], key=str)
    folder = next(path.parent for path, folding in asked.items() if folding is not None)
    assert FoldingRecord.read(folder / "folding.json").folding == body["folding"]
    assert build_summary(folder)["folding"] == body
    request = request_in(Path("runs"), "estimate")
    assert request.throughput == ThroughputRequest(kind="fit", fill=0.06)
    assert (request.folding, request.folded_by) == (body["folding"], "cost_model")
    assert request.folded_impl == body["impl_per_layer"]
    assert request.impl_per_layer == {}


def test_a_folding_that_stands_is_not_searched_again(cli, fake_finn, tiny_qonnx, monkeypatch):
    argv = ("build", tiny_qonnx, "--board", "pynq-z2", "--fps", "9000", *ESTIMATE)
    _, first, err = cli(*argv)
    assert "fold tiny by measured costs: 9,216 cycles per frame, 10,851 frames/s; predicted" in err
    monkeypatch.setattr(throughput, "fold_build", None)
    status, second, err = cli(*argv)
    assert (status, second) == (0, first)
    assert err == "✓ compile tiny up to date ✓ fold tiny up to date ✓ compile tiny up to date"


def test_other_totals_of_a_board_are_recorded(cli, fake_finn, tiny_qonnx, tmp_path):
    shipped = (hw_dir() / "boards" / "pynq-z2.toml").read_text()
    own = tmp_path / "pynq-z2.toml"
    for text in (shipped, shipped.replace("lut = 53200", "lut = 60000")):
        own.write_text(text)
        status, _, err = cli("build", tiny_qonnx, "--board", own, "--unfolded", *ESTIMATE)
        assert status == 0, err
        (recorded,) = Path("runs").rglob("board.json")
        assert Board.read(recorded) == boards.load(own)


def test_other_facts_of_a_family_search_the_folding_again(
    cli, fake_finn, tiny_qonnx, tmp_path, monkeypatch
):
    argv = ("build", tiny_qonnx, "--board", "pynq-z2", "--fps", "9000", *ESTIMATE)
    assert cli(*argv)[0] == 0
    family = families.load("xc7")
    memory = family.memory.model_copy(update={"rom_bit_cost": 1.0})
    monkeypatch.setattr(families, "load", lambda name: family.model_copy(update={"memory": memory}))
    assert "fold tiny by measured costs" in cli(*argv)[2]


def test_a_build_prints_its_folding(cli, fake_finn, tiny_qonnx):
    status, out, err = cli(
        "build", tiny_qonnx, "--board", "pynq-z2", "--fps", "9000", "--goal", "estimate"
    )  # fmt: skip
    assert status == 0, err
    text = " ".join(out.split())
    assert "Folding, cheapest of 9,000 frames/s within 100 % of pynq-z2" in text
    assert "Bottleneck:" in text
    assert "±" in text


def test_a_target_out_of_reach_ends_with_one_sentence(cli, fake_finn, tiny_qonnx):
    status, out, err = cli(
        "build", tiny_qonnx, "--board", "pynq-z2", "--fps", "9000000", "--quiet", "--json"
    )  # fmt: skip
    sentence = (
        "'cnn' cannot reach 9,000,000 frames per second at 10 ns: node_Conv_76 "
        "(ConvolutionInputGenerator) takes 2,343 cycles at its most parallel folding, so 42,680 is "
        "the fastest."
    )
    assert (status, err) == (2, f"error: {sentence}")
    assert json.loads(out)["failure"]["message"] == sentence


UNKNOWN = "There is no measured cost model of the family 'x'."


@pytest.fixture
def unmeasured(monkeypatch):
    """No family was measured."""

    def refuse(family):
        raise NotMeasured(UNKNOWN)

    monkeypatch.setattr(throughput, "load_cost_model", refuse)


def test_a_family_that_was_not_measured_leaves_a_frame_rate_to_finn(
    cli, fake_finn, tiny_qonnx, unmeasured
):
    status, out, err = cli("build", tiny_qonnx, "--board", "pynq-z2", "--fps", "9000", *ESTIMATE)
    assert status == 0, err
    assert f"✓ fold tiny left to FINN's own folding: {UNKNOWN}" in err
    note = (
        "FINN's own folding was driven to 9,000 frames/s, for measured costs cannot decide: "
        f"{UNKNOWN}"
    )
    assert note in err
    body = json.loads(out)
    assert (body["folding"], body["throughput"]["folded_by"]) == (None, "finn")
    assert body["throughput"]["note"] == note
    request = request_in(Path("runs"), "estimate")
    assert (request.target_fps, request.folding_note) == (9000, UNKNOWN)


def test_a_family_that_was_not_measured_cannot_be_filled(cli, fake_finn, tiny_qonnx, unmeasured):
    status, _, err = cli("build", tiny_qonnx, "--fit", "pynq-z2", *ESTIMATE)
    assert (status, err) == (2, f"error: {UNKNOWN}")


SLOWEST = (
    "No throughput was asked for, so every PE and SIMD is 1, the slowest there is: 73,728 cycles "
    "per frame, 1,356 frames/s at 10 ns; --fps N folds to a frame rate, --fit pynq-z2 to the "
    "fastest that fits, --unfolded asks for this one."
)


def test_without_a_throughput_the_build_says_how_slow_it_is(cli, fake_finn, tiny_qonnx):
    status, out, err = cli("build", tiny_qonnx, "--board", "pynq-z2", *ESTIMATE)
    assert status == 0
    assert SLOWEST in err
    assert json.loads(out)["throughput"]["note"] == SLOWEST
    _, out, _ = cli("build", tiny_qonnx, "--board", "pynq-z2", "--goal", "estimate")
    assert SLOWEST in " ".join(out.split())


def test_what_was_asked_for_is_not_warned_of(cli, fake_finn, tiny_qonnx):
    status, out, err = cli("build", tiny_qonnx, "--board", "pynq-z2", "--unfolded", *ESTIMATE)
    assert status == 0
    assert "No throughput" not in err
    said = json.loads(out)["throughput"]
    assert (said["note"], said["folded_by"]) == (None, "nobody")
    assert said["asked"] == {"kind": "unfolded", "fps": None, "fill": None}


def test_a_folding_by_hand_reaches_the_flow(cli, fake_finn, tiny_qonnx, tmp_path):
    folding = {"MVAU_hls_0": {"PE": 2, "SIMD": 4}}
    (tmp_path / "mine.json").write_text(json.dumps(folding))
    argv = ("build", tiny_qonnx, "--board", "pynq-z2", "--folding", "mine.json", *ESTIMATE)
    status, out, err = cli(*argv)
    assert status == 0, err
    assert json.loads(out)["throughput"]["folded_by"] == "hand"
    (asked,) = Path("runs").rglob("asked.json")
    assert json.loads(asked.read_text()) == folding


@pytest.fixture
def run(tmp_path, tiny_qonnx, monkeypatch):
    """Make a run whose learned variant is trained and exported, with a ``[build]`` of its own."""
    made = RunDirectory(tmp_path / "runs" / "mine")
    build = BuildConfig(
        board="pynq-z2", fps=9000, goal="estimate", clock_ns=8.0, size_fifos=False, fifo_depth=4,
        impl="lut", impl_per_layer={"a": "dsp"},
    )  # fmt: skip
    RunConfig(
        name="mine", network=NetworkConfig(name="mlp"), data=DataConfig(name="digits"), build=build
    ).write(made.config)
    folder = made.export("learned")
    folder.path.mkdir(parents=True)
    QonnxArtifact(
        file=str(tiny_qonnx), sha256=sha256_file(tiny_qonnx), network="tiny", plan_digest="0" * 12,
        input_shape=(16,), num_classes=4, input_quant=None, bits_in_graph=(), golden=None,
        golden_sha256=None, samples=0, max_abs_error=None, argmax_agreement=None,
        tool_versions={},
    ).write(folder.artifact)  # fmt: skip
    monkeypatch.setattr(command_build, "done_for", lambda folder: "done")
    monkeypatch.setattr(command_build, "ensure_export", lambda *rest: None)
    return made


def test_a_run_is_built_as_its_own_configuration_says(cli, fake_finn, run):
    status, _, err = cli("build", run.root, "--json")
    assert status == 0, err
    request = request_in(run.root, "estimate")
    assert request.throughput == ThroughputRequest(kind="fps", fps=9000, fill=1.0)
    assert request.folded_by == "cost_model"
    assert (request.variant, request.board, request.clock_ns) == ("learned", "pynq-z2", 8.0)
    assert (request.fifo_depth, request.impl) == (4, "lut")
    assert request.impl_per_layer == {"a": "dsp"}


def test_options_take_the_place_of_single_keys(cli, fake_finn, run):
    argv = ("--board", "pynq-z1", "--unfolded", "--impl", "auto", "--layer-impl", "b=lut")
    status, _, err = cli("build", run.root, *argv, "--json")
    assert status == 0, err
    (path,) = run.root.rglob("request.json")
    request = BuildRequest.read(path)
    assert request.throughput == ThroughputRequest(kind="unfolded")
    assert (request.board, request.impl, request.goal) == ("pynq-z1", "auto", "estimate")
    assert request.impl_per_layer == {"a": "dsp", "b": "lut"}
    assert (request.clock_ns, request.fifo_depth) == (8.0, 4)


@pytest.mark.finn
@pytest.mark.rtl
@pytest.mark.synth
def test_a_real_build_takes_the_predicted_cycles_and_its_luts_lie_within_the_error_bar(
    cli, tiny_qonnx
):  # fmt: skip
    status, out, err = cli(
        "build", tiny_qonnx, "--board", "pynq-z2", "--fps", "4000000", "--frames", "8",
        "--quiet", "--json",
    )  # fmt: skip
    assert status == 0, err
    body = json.loads(out)
    record = body["folding"]
    folder = next(path.parent for path in Path("runs").rglob("folding.json"))
    graph = HardwareGraph.read(folder / "hardware.json")
    built = {n.name: n for n in graph.nodes}
    for row in record["nodes"]:
        node = built[row["node"]]
        assert node.cycles == row["cycles"]
        assert node.impl == row["impl"]
        assert {k: node.attributes[k] for k in row["folds"]} == row["folds"]
    assert record["fps"] >= 4_000_000
    whole = next(r for r in body["resources"] if r["source"] == "yosys_synth")
    assert whole["dsp"] == record["total"]["dsp"]
    # The record's bar is one RMS error of its model, which a single design may miss; twice as much
    # it hardly does.
    assert 0 < record["error"]["lut"] < 0.1 * record["total"]["lut"]
    assert abs(record["total"]["lut"] - whole["lut"]) <= 2 * record["error"]["lut"]

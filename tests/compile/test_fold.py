"""Folding to a target: what the record says, what is refused, the options, one real build."""

from __future__ import annotations

import json
import re
import stat
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from adaqat_hw import boards, families
from adaqat_hw.cli import main
from adaqat_hw.compile.fold import (
    FOLDING_FILE,
    fold_graph,
    folded,
    implementations,
    mvau_names,
    narrow_weights,
    unfolded,
)
from adaqat_hw.cost.hardware_cost import load_cost_model
from adaqat_hw.errors import ConfigError
from adaqat_hw.report import build_summary
from adaqat_hw.schema import BuildRequest, HardwareGraph
from adaqat_hw.schema.folding import FoldingRecord, FoldingTarget

# An unfolded CNN as FINN 1.6.1 made it: 3x16x16, 8 and 16 channels, pools, ten classes.
UNFOLDED = Path(__file__).parent / "folding" / "cnn-unfolded.json"
REQUEST = BuildRequest(
    model="/nowhere/cnn.onnx", model_sha256="0" * 64, network="cnn", board="pynq-z2",
    part="xc7z020clg400-1", dsp=families.load("xc7").dsp, clock_ns=10.0, goal="rtl", target_fps=7,
)  # fmt: skip


@pytest.fixture(scope="module")
def graph():
    return HardwareGraph.read(UNFOLDED)


@pytest.fixture(scope="module")
def fold(graph):
    """Fold the CNN to a target on a board."""

    def run(board="pynq-z2", request=REQUEST, **target):
        chosen = boards.load(board)
        model = load_cost_model(families.load("xc7"))
        return fold_graph(graph, request, chosen, FoldingTarget(**target), model)

    return run


def test_a_frame_rate_is_met_and_every_number_adds_up(fold, graph):
    record = fold(fps=15_000)
    assert record.fps >= 15_000
    assert record.interval == max(row.cycles for row in record.nodes) <= 6666
    assert len(record.nodes) == len(graph.nodes)
    for name in ("lut", "ff", "dsp", "bram_18k"):
        parts = [getattr(row.resources, name) for row in record.nodes]
        total = getattr(record.total, name)
        assert abs(sum(parts) + getattr(record.streams, name) - total) <= len(parts) + 1
        assert getattr(record.error, name) <= total or total == 0
    assert record.total.lut > record.error.lut > 0
    assert record.utilisation["lut"] == pytest.approx(record.total.lut / 53200, rel=0.01)
    assert FoldingRecord.parse_text(record.to_json(), "test") == record


def test_more_frames_cost_more_and_a_smaller_room_is_slower(fold):
    slow, quick = fold(fps=2_000), fold(fps=20_000)
    assert slow.total.lut < quick.total.lut
    wide, narrow = fold(fill=0.7), fold(fill=0.06)
    assert wide.fps > narrow.fps
    assert narrow.total.lut <= 0.06 * 53200
    assert narrow.capacity.lut == 3192


def test_the_bottleneck_is_named_with_what_stands_in_its_way(fold):
    full = fold(fill=0.7).bottleneck.reason
    assert re.fullmatch(
        r"node_Conv_76 \(ConvolutionInputGenerator\) at SIMD 3: no legal folding takes fewer than "
        r"2,343 cycles per frame; .*",
        full,
    )
    record = fold(fill=0.06)
    short = record.bottleneck
    assert record.folding[short.node] == short.folds
    assert re.search(
        r"\(MVAU\) at PE \d+ SIMD \d+: the next legal step \([\d,]+ cycles per frame\) needs "
        r"[\d,]+ LUT.* more than 6 % of pynq-z2 has$",
        short.reason,
    )
    asked = fold(fps=2_000)
    assert asked.bottleneck.cycles == asked.interval
    assert "2,000 frames per second leave 50,000" in asked.bottleneck.reason


def test_the_request_gets_the_folding_by_the_names_after_it(fold, graph):
    record = fold(fill=0.06)
    request = folded(REQUEST, record)
    assert request.folding == record.folding
    assert request.target_fps is None
    assert request.goal == "rtl"
    assert request.digest() != REQUEST.digest()
    impls = [row.impl for row in record.nodes if row.op == "MVAU"]
    mvaus = [name for name in record.folding if name.startswith("MVAU")]
    backends = [name.split("_")[1] for name in mvaus]
    assert backends == [{"lut": "hls", "dsp": "rtl"}[impl] for impl in impls]
    for backend in set(backends):
        numbers = [int(name.split("_")[2]) for name in mvaus if f"_{backend}_" in name]
        assert numbers == list(range(len(numbers)))
    assert set(record.impl_per_layer) == {n.layer for n in graph.nodes if n.op == "MVAU"}


def test_the_start_of_the_search_is_the_unfolded_estimate():
    start = unfolded(REQUEST.model_copy(update={"folding": {"a": {"PE": 2}}}))
    assert (start.goal, start.target_fps, start.folding) == ("estimate", None, {})


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            {"fps": 1_000_000},
            r"'cnn' cannot reach 1,000,000 frames per second at 10 ns: node_Conv_76 "
            r"\(ConvolutionInputGenerator\) takes 2,343 cycles at its most parallel folding, so "
            r"42,680 is the fastest\.",
        ),
        (
            {"fps": 40_000, "fill": 0.06},
            r"'cnn' at 40,000 frames per second needs [\d,]+ LUT.* more than 6 % of pynq-z2 has "
            r"\(predicted\); the fastest that fits is [\d,]+ frames per second\.",
        ),
        (
            {"fill": 0.01},
            r"'cnn' does not fit in 1 % of pynq-z2 at any folding: the smallest needs [\d,]+ LUT.* "
            r"more \(predicted\), and the fewest LUTs it can have are [\d,]+; take a larger board",
        ),
    ],
)
def test_a_target_out_of_reach_is_refused_with_the_nearest(fold, target, message):
    with pytest.raises(ConfigError, match=message):
        fold(**target)


def test_the_nearest_that_is_named_is_feasible(fold):
    with pytest.raises(ConfigError) as refused:
        fold(fps=40_000, fill=0.06)
    nearest = int(re.search(r"fits is ([\d,]+)", str(refused.value))[1].replace(",", ""))
    assert fold(fps=nearest, fill=0.06).fps >= nearest
    with pytest.raises(ConfigError):
        fold(fps=round(nearest * 1.5), fill=0.06)


def test_what_the_request_fixes_is_not_chosen(fold, graph):
    asked = {"node_Conv_76": "lut", "node_linear": "lut"}
    request = REQUEST.model_copy(update={"impl": "auto", "impl_per_layer": asked})
    as_built = graph.model_copy(
        update={
            "nodes": tuple(
                n.model_copy(update={"attributes": {**n.attributes, "dsp_refusal": "1 bit"}})
                if n.layer == "node_Conv_77"
                else n
                for n in graph.nodes
            )
        }
    )
    allowed = implementations(as_built, request)
    # What was asked for stands as the estimate was built; what DSP blocks cannot take is in LUTs.
    assert allowed == {"MVAU_rtl_0": ("dsp",), "MVAU_hls_0": ("lut",), "MVAU_hls_1": ("lut",)}
    assert implementations(graph, REQUEST) == dict.fromkeys(allowed, ("lut", "dsp"))


def test_names_that_do_not_follow_finns_rule_are_refused(graph):
    odd = graph.model_copy(
        update={
            "nodes": tuple(
                n.model_copy(update={"name": "MVAU_hls_7"}) if n.name == "MVAU_hls_1" else n
                for n in graph.nodes
            )
        }
    )
    impls = {n.name: n.impl for n in odd.nodes}
    with pytest.raises(ConfigError, match=r"'MVAU_hls_7' should be named 'MVAU_hls_1'"):
        mvau_names(odd, impls)
    swapped = {n.name: "lut" if n.impl else None for n in graph.nodes}
    names = mvau_names(graph, swapped)
    assert [names[n] for n in ("MVAU_rtl_0", "MVAU_hls_0", "MVAU_hls_1")] == [
        "MVAU_hls_0", "MVAU_hls_1", "MVAU_hls_2",
    ]  # fmt: skip


def test_narrow_weights_leave_out_the_most_negative_value(graph):
    arrays = {n.parameters["weights"]: np.array([[-7, 7]]) for n in graph.nodes if n.op == "MVAU"}
    assert set(narrow_weights(graph, arrays).values()) == {True}
    arrays["MVAU_hls_0__weights"] = np.array([[-8, 7]])
    assert narrow_weights(graph, arrays)["MVAU_hls_0"] is False


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), r"Which board\? Give --board NAME, or --fit NAME"),
        (("--board", "pynq-z1", "--fit", "pynq-z2"), r"'pynq-z1' and --fit 'pynq-z2' are two"),
        (("--fit", "pynq-z2", "--fps", "9"), r"--fps 9 and --fit 'pynq-z2' are two targets"),
        (("--board", "pynq-z2", "--fill", "0.5"), r"--fill 0.5 says how much --fit or --fps"),
        (("--fit", "pynq-z2", "--fill", "70"), r"--fill 70.0 must be a share of the board"),
        (("--fit", "pynq-z2", "--fill", "0"), r"--fill 0.0 must be a share of the board"),
        (("--fit", "pynq-z9"), r"Unknown board 'pynq-z9'"),
    ],
)
def test_options_that_say_nothing_or_too_much_are_refused(cli, options, message):
    status, _, err = cli("build", "a.onnx", *options)
    assert status == 2
    assert re.search(message, err), err


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


def test_a_build_is_folded_before_it_is_built(cli, fake_finn, tiny_qonnx):
    options = ("--goal", "estimate", "--quiet", "--json")
    status, out, err = cli("build", tiny_qonnx, "--fit", "pynq-z2", "--fill", "0.06", *options)
    assert status == 0, err
    body = json.loads(out)["folding"]
    assert body["target"] == {"fps": None, "fill": 0.06}
    assert "6 % of pynq-z2" in body["bottleneck"]["reason"]
    builds = sorted(Path("runs").rglob("asked.json"))
    asked = [json.loads(path.read_text()) for path in builds]
    assert len(asked) == 2
    assert {} in asked
    assert body["folding"] in asked
    folder = next(path.parent for path in builds if json.loads(path.read_text()))
    assert FoldingRecord.read(folder / FOLDING_FILE).folding == body["folding"]
    assert build_summary(folder)["folding"] == body


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
    status, _, err = cli(
        "build", tiny_qonnx, "--board", "pynq-z2", "--fps", "9000000", "--quiet"
    )  # fmt: skip
    assert status == 2
    assert re.search(r"cannot reach 9,000,000 frames per second.*42,680 is the fastest", err), err


def test_a_family_that_was_not_measured_leaves_a_frame_rate_to_finn(
    cli, fake_finn, tiny_qonnx, tmp_path
):
    unmeasured = [family.name for family in families.every() if family.cost_model is None]
    if not unmeasured:
        pytest.skip("every family is measured")
    board = boards.load("pynq-z2").model_dump(mode="json") | {"family": unmeasured[-1]}
    lines = [f"{k} = {json.dumps(v)}" for k, v in board.items() if v is not None]
    path = tmp_path / "strange.toml"
    path.write_text("\n".join(lines) + "\n")
    options = ("--goal", "estimate", "--quiet", "--json")
    status, out, err = cli("build", tiny_qonnx, "--board", path, "--fps", "9000", *options)
    assert status == 0, err
    assert json.loads(out)["folding"] is None
    status, _, err = cli("build", tiny_qonnx, "--fit", path, *options)
    assert status == 2
    assert "no measured cost model of the family" in err


@pytest.mark.finn
@pytest.mark.rtl
@pytest.mark.synth
def test_a_real_build_takes_the_predicted_cycles_and_about_the_predicted_luts(
    cli, tiny_qonnx
):  # fmt: skip
    status, out, err = cli(
        "build", tiny_qonnx, "--board", "pynq-z2", "--fps", "4000000", "--frames", "8",
        "--quiet", "--json",
    )  # fmt: skip
    assert status == 0, err
    body = json.loads(out)
    record = body["folding"]
    folder = next(path.parent for path in Path("runs").rglob(FOLDING_FILE))
    graph = HardwareGraph.read(folder / "hardware.json")
    built = {n.name: n for n in graph.nodes}
    for row in record["nodes"]:
        node = built[row["node"]]
        assert node.cycles == row["cycles"]
        assert node.impl == row["impl"]
        assert {k: node.attributes[k] for k in row["folds"]} == row["folds"]
    assert record["fps"] >= 4_000_000
    whole = next(r for r in body["resources"] if r["stage"] == "yosys_synth")
    assert whole["dsp"] == record["total"]["dsp"]
    assert 0.6 < record["total"]["lut"] / whole["lut"] < 1.6

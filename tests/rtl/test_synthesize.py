from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import pytest

from adaqat_hw import families, tools
from adaqat_hw.errors import ConfigError, StageFailed, ToolNotFound
from adaqat_hw.rtl import yosys_process
from adaqat_hw.rtl.synthesize import SynthesisJob, synthesize, synthesize_many
from adaqat_hw.rtl.yosys_process import run_yosys

XC7 = families.load("xc7")
ADDER = """module adder (input logic ap_clk, input logic [3:0] a, b, output logic [4:0] s);
  always_ff @(posedge ap_clk) s <= a + b;
endmodule
"""
ROM = """module rom (input logic [5:0] a, output logic q);
  logic m[64];
  initial $readmemh("m.hex", m);
  assign q = m[a];
endmodule
"""
# What FINN's multiplier does: the primitive, or its behaviour where VERILATOR is defined.
MULTIPLIER = """module mult (input logic ap_clk, input logic [3:0] a, b, output logic [47:0] p);
`ifdef VERILATOR
  always_ff @(posedge ap_clk) p <= a * b;
`else
  logic z;
  LUT6_2 #(.INIT(64'h8)) x (.O6(z), .O5(), .I0(a[0]), .I1(b[0]), .I2(1'b1), .I3(1'b1),
                            .I4(1'b1), .I5(1'b1));
  DSP48E1 #(.MREG(1)) dsp (.CLK(ap_clk), .A({26'b0, a}), .B({13'b0, z, b}), .P(p));
`endif
endmodule
"""
MEMORY = """module memory (input logic ap_clk, we, d, input logic [8:0] a, output logic q);
  (* ram_style = "distributed" *) logic m[512];
  always_ff @(posedge ap_clk) if (we) m[a] <= d;
  assign q = m[a];
endmodule
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str) -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.fixture
def no_yosys(monkeypatch):
    """Fail when Yosys is started; the version is known nevertheless."""

    def refuse(*args, **kwargs):
        raise AssertionError("Yosys was started")

    monkeypatch.setattr(yosys_process, "run_program", refuse)
    monkeypatch.setattr(tools, "package_version", lambda name: "0.70")


@pytest.fixture
def worker(monkeypatch, write):
    """Put another program in the place of the worker that runs Yosys."""

    def replace(program: str) -> None:
        monkeypatch.setattr(yosys_process, "_WORKER", write(program, "worker.py"))

    monkeypatch.setattr(tools, "package_version", lambda name: "0.70")
    return replace


synth = [
    pytest.mark.synth,
    pytest.mark.skipif(tools.package_version("pyosys") is None, reason="pyosys is not installed"),
]


def marked(function):
    for mark in synth:
        function = mark(function)
    return function


@marked
def test_a_registered_adder_and_the_cache(write, tmp_path, monkeypatch):
    source = write(ADDER, "adder.sv")
    first = synthesize([source], "adder", family=XC7, dsp=False, cache=tmp_path / "cache")
    assert first.resources.ff == 5
    assert 4 <= first.resources.lut <= 10
    assert (first.resources.dsp, first.resources.bram_18k, first.resources.uram) == (0, 0, 0)
    assert first.unknown == {}
    assert first.notes == ()
    assert not first.cached
    assert "synth_xilinx" in first.log.read_text()

    def refuse(*args, **kwargs):
        raise AssertionError("Yosys was started")

    monkeypatch.setattr(yosys_process, "run_program", refuse)
    # Equal content elsewhere is the same; other content is not.
    other = tmp_path / "elsewhere" / "adder.sv"
    other.parent.mkdir()
    other.write_text(ADDER)
    again = synthesize([other], "adder", family=XC7, dsp=False, cache=tmp_path / "cache")
    assert again.cached
    assert (again.resources, again.cells, again.seconds) == (
        first.resources,
        first.cells,
        first.seconds,
    )
    other.write_text(ADDER.replace("a + b", "a - b"))
    with pytest.raises(AssertionError, match="Yosys was started"):
        synthesize([other], "adder", family=XC7, dsp=False, cache=tmp_path / "cache")


@marked
def test_memory_files_reach_the_netlist_and_the_cache_key(write, tmp_path):
    source, data = write(ROM, "rom.sv"), write("1\n" * 64, "some.hex")
    files = {"m.hex": data}
    ones = synthesize([source], "rom", family=XC7, dsp=False, data_files=files, cache=tmp_path)
    assert ones.resources.lut == 0
    data.write_text("".join(f"{(i * i // 7) % 2}\n" for i in range(64)))
    mixed = synthesize([source], "rom", family=XC7, dsp=False, data_files=files, cache=tmp_path)
    assert mixed.resources.lut == 1
    assert not mixed.cached


@marked
def test_a_missing_memory_file_is_the_reason_given(write, tmp_path):
    with pytest.raises(StageFailed, match=r"rom\.sv:3: ERROR: .*m\.hex") as caught:
        synthesize([write(ROM, "rom.sv")], "rom", family=XC7, dsp=False, cache=tmp_path)
    assert "see full log" not in caught.value.reason
    assert caught.value.log is not None
    assert "m.hex" in caught.value.log.read_text()


@marked
def test_primitives_are_counted_or_replaced_by_luts(write, tmp_path):
    source = write(MULTIPLIER, "mult.sv")
    jobs = [SynthesisJob(str(dsp), [source], "mult", XC7, dsp) for dsp in (True, False)]
    seen = []
    results = synthesize_many(
        jobs, cache=tmp_path, progress=lambda name, result, k, n: seen.append((name, k, n))
    )
    assert list(results) == ["True", "False"]
    assert results["True"].resources.dsp == 1
    assert results["True"].cells["LUT6_2"] == 1
    assert results["True"].resources.lut == 1
    assert results["False"].resources.dsp == 0
    assert results["False"].resources.lut > 8
    assert {name for name, _, _ in seen} == {"True", "False"}
    assert [(k, n) for _, k, n in seen] == [(1, 2), (2, 2)]


@marked
def test_a_distributed_ram_that_yosys_cannot_map_is_noted(write, tmp_path):
    xcup, source = families.load("xcup"), write(MEMORY, "memory.sv")
    result = synthesize([source], "memory", family=xcup, dsp=False, cache=tmp_path)
    assert len(result.notes) == 1
    assert "-nolutram" in result.notes[0]
    assert result.lut_memory == 0
    again = synthesize([source], "memory", family=xcup, dsp=False, cache=tmp_path)
    assert again.cached
    assert again.notes == result.notes


# What Yosys was told for every family before families were files, by test name; cached results
# are found by these texts.
SCRIPTS = json.loads((Path(__file__).parent / "golden" / "yosys_scripts.json").read_text())
# The cache's key of the same files in LUTs, without stubs.
KEYS = {
    "xc7": "213f85b300691c8abfe3d484a704593250660a7a65ea884061d6104e14f5b2a9",
    "xcup": "da4309684bdb7ea4cea929d8d4ca13d39848211b508996f4caaac5150bfd51f1",
    "ecp5": "2132c274585fbc9aff272f7d11897aee53d9a47d2560e4828090304cf9bdf51f",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_script_of_a_family_is_byte_for_byte_the_golden_one(name, write, tmp_path, monkeypatch):
    family, what, *workaround = name.split(", ")
    scripts = []

    def run(script, files, output, **options):
        scripts.append(script)
        if workaround and len(scripts) == 1:
            raise StageFailed("synthesize", "x.v:1: ERROR: invalid OPTION_ABITS/WIDTH combination.")
        return '{"design": {"num_cells_by_type": {}}}'

    monkeypatch.setattr(sys.modules["adaqat_hw.rtl.synthesize"], "run_yosys", run)
    monkeypatch.setattr(tools, "package_version", lambda name: "0.70")
    result = synthesize(
        [write("module top; endmodule\n", "a.sv"), write("module b; endmodule\n", "b.v")], "top",
        family=families.load(family), dsp=what == "DSP blocks", cache=tmp_path / "cache",
    )  # fmt: skip
    assert scripts[-1] == SCRIPTS[name]
    assert len(scripts) == 1 + len(workaround)
    assert [note.startswith("synthesized with -nolutram") for note in result.notes] == (
        [True] * len(workaround)
    )
    if what == "LUTs":
        assert [path.stem for path in (tmp_path / "cache").glob("*.json")] == [KEYS[family]]


def test_every_family_has_its_golden_scripts():
    assert {name.split(", ")[0] for name in SCRIPTS} == set(families.names())


DONE = """
import json, pathlib
pathlib.Path("cells.json").write_text(json.dumps({"design": {"num_cells_by_type": {"LUT6": 7}}}))
"""


def test_a_damaged_cache_entry_is_a_miss(write, tmp_path, worker):
    worker(DONE)
    cache = tmp_path / "cache"
    source = write(ADDER, "adder.sv")

    def run():
        return synthesize([source], "adder", family=XC7, dsp=False, cache=cache)

    assert not run().cached
    assert run().cached
    (entry,) = cache.glob("*.json")
    good = entry.read_text()
    changed = json.loads(good)
    changed["body"]["cells"]["LUT6"] = 1
    for bad in ("", good[:-9], "[]", '{"body": 1, "sha256": "x"}', json.dumps(changed)):
        entry.write_text(bad)
        result = run()
        assert not result.cached, bad
        assert result.resources.lut == 7
        assert entry.read_text().startswith("{"), bad
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".log"]


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (
            "print('ERROR: first'); print('x.sv:3: ERROR: the cause.'); "
            "print('ERROR: Failed; see full log for details'); raise SystemExit(1)",
            r"x\.sv:3: ERROR: the cause\.",
        ),
        ("print('ERROR:without a blank'); raise SystemExit(1)", "ERROR:without a blank"),
        (
            "print('nothing known'); raise SystemExit(3)",
            r"Yosys ended with exit status 3, saying 'nothing known'\.",
        ),
        ("raise SystemExit(3)", r"Yosys ended with exit status 3, saying 'nothing'\."),
        (
            "import os; os.kill(os.getpid(), 9)",
            r"Yosys ended with signal 9: it was killed, most likely because memory ran out: give "
            r"the machine, or Docker, more memory or build a smaller design\.",
        ),
        (
            "import os; os.kill(os.getpid(), 11)",
            r"Yosys ended with signal 11, saying 'nothing'\.",
        ),
        ("pass", "ended well but wrote no 'cells.json'"),
        ("open('cells.json', 'w').write('{}')", "statistics of 'adder' are damaged"),
    ],
)
def test_every_way_to_fail_has_its_sentence(write, tmp_path, worker, program, reason):
    worker(program)
    cache = tmp_path / "cache"
    with pytest.raises(StageFailed, match=reason) as caught:
        synthesize([write(ADDER, "adder.sv")], "adder", family=XC7, dsp=False, cache=cache)
    assert caught.value.log is not None
    assert caught.value.log.is_file()
    assert list(cache.glob("*.json")) == []
    assert list(cache.glob("*.part")) == []


def _ended(state):
    try:
        return state.read_text().split()[2] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_too_long_is_killed_with_its_children(write, tmp_path, worker):
    child = tmp_path / "child.pid"
    worker(
        "import subprocess, time\n"
        "p = subprocess.Popen(['sleep', '60'])\n"
        f"open({str(child)!r}, 'w').write(str(p.pid))\n"
        "time.sleep(60)\n"
    )
    with pytest.raises(StageFailed, match=r"not finished after 1\.5 s"):
        synthesize([write(ADDER, "a.sv")], "adder", family=XC7, dsp=False, cache=tmp_path / "c",
                   timeout_s=1.5)  # fmt: skip
    state = Path(f"/proc/{child.read_text()}/stat")
    # The signal was sent; on a busy machine the child may not have run since.
    deadline = time.monotonic() + 10
    while not _ended(state) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _ended(state)


def test_one_failure_stops_the_other_jobs(write, tmp_path, worker):
    worker(
        "import sys, time\n"
        "if 'bad.sv' in open(sys.argv[1]).read():\n"
        "    print('ERROR: bad'); sys.exit(1)\n"
        "time.sleep(60)\n"
    )
    jobs = [
        SynthesisJob(name, [write(ADDER, f"{name}.sv")], "adder", XC7, False)
        for name in ("slow", "bad", "later")
    ]
    with pytest.raises(StageFailed, match=r"synthesize 'bad' for xc7 failed: ERROR: bad\."):
        synthesize_many(jobs, cache=tmp_path / "cache", workers=2)


def test_stopping_is_a_failure_of_the_run(tmp_path, worker):
    worker("import time; time.sleep(60)")
    stop = threading.Event()
    stop.set()
    with pytest.raises(StageFailed, match="stopped because another job failed"):
        run_yosys("", {}, "x", log=tmp_path / "log", timeout_s=60, stop=stop)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top": "a; shell rm"}, "top module's name is 'a; shell rm'"),
        ({"timeout_s": 0}, "time limit is 0 s"),
        ({"sources": []}, "no source files"),
        ({"sources": [Path("nowhere.sv")]}, "'nowhere.sv' to synthesize does not exist"),
        ({"sources": [Path("x --top y.sv")]}, "name of a file to synthesize is 'x --top y.sv'"),
        ({"sources": [Path("a/x.sv"), Path("b/x.sv")]}, "'adder' are named 'x.sv'"),
        ({"data_files": {"../m.hex": Path("m")}}, "file to synthesize is '../m.hex'"),
    ],
)
def test_bad_input(write, tmp_path, no_yosys, change, message):
    arguments = {"sources": [write(ADDER, "a.sv")], "top": "adder", "family": XC7, "dsp": False}
    arguments |= {"cache": tmp_path / "cache"} | change
    with pytest.raises(ConfigError, match=message):
        synthesize(arguments.pop("sources"), arguments.pop("top"), **arguments)


def test_jobs_of_one_name_and_no_workers(tmp_path):
    job = SynthesisJob("a", [], "t", XC7, False)
    with pytest.raises(ConfigError, match="Two synthesis jobs are named 'a'"):
        synthesize_many([job, job], cache=tmp_path)
    with pytest.raises(ConfigError, match="number of workers is 0"):
        synthesize_many([job], cache=tmp_path, workers=0)
    assert synthesize_many([], cache=tmp_path) == {}


def test_without_pyosys(write, tmp_path, monkeypatch):
    monkeypatch.setattr(tools, "package_version", lambda name: None)
    with pytest.raises(ToolNotFound, match="pip install pyosys"):
        synthesize([write(ADDER, "a.sv")], "adder", family=XC7, dsp=True, cache=tmp_path)

"""The Vivado task against a Vivado that checks its Tcl and can be told how to fail."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from adaqat_hw import boards
from adaqat_hw.compile import implement
from adaqat_hw.compile.design import Design
from adaqat_hw.compile.environment import Local
from adaqat_hw.compile.tcl import Raw, command, listing, word
from adaqat_hw.compile.tool_checks import require_goal
from adaqat_hw.compile.vivado_board import board_script
from adaqat_hw.compile.vivado_scripts import VivadoSources, ip_script, ooc_script
from adaqat_hw.errors import ConfigError, ReportError, StageFailed, ToolNotFound
from adaqat_hw.rtl.stitch import StitchedDesign, instance_names
from adaqat_hw.run import BuildFolder
from adaqat_hw.schema import (
    VIVADO_GOALS,
    HardwareGraph,
    HardwareNode,
    HostInterface,
    IntType,
    ResourceReport,
    Resources,
    Stream,
    VivadoResult,
)

FAKE = Path(__file__).resolve().parents[1] / "fakes" / "vivado"
HOSTILE = ["a b", "x;exit", "$HOME", "[exec ls]", "}{", '"q', "back\\slash", "#c", "a\\", "ü", "-x"]


def stream(name):
    return Stream(name=name, dtype=IntType(bits=4, signed=False), folded_shape=(1, 4, 2))


def make_graph():
    four = IntType(bits=4, signed=False)
    nodes = tuple(
        HardwareNode(
            name=name, op="MVAU", backend="rtl", layer=layer, generator="adaqat",
            inputs=(stream(f"s{k}"),), outputs=(stream(f"s{k + 1}"),), attributes={}, cycles=1,
            estimate=Resources(),
        )
        for k, (name, layer) in enumerate((("a.0", "one"), ("b", "one"), ("c", "two"), ("d", None)))
    )  # fmt: skip
    host = HostInterface(
        input_scale=0.25, input_dtype=four, input_nchw=False, input_shape=(1, 8),
        output_shape=(1, 8), output_dtype=four, output_scale=(0.5,), output_bias=(1.0,),
    )  # fmt: skip
    return HardwareGraph(
        network="n", part="p", clock_ns=10.0, nodes=nodes, input_stream=nodes[0].inputs[0],
        output_stream=nodes[-1].outputs[0], host=host, parameters_file="p.npz",
        parameters_sha256="0", golden_file="g.npz", golden_sha256="0", cycles_estimated=1,
        fps_estimated=1.0,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A compiled build of four nodes whose RTL is empty modules."""
    made = tmp_path / "a build"
    rtl = made / "rtl"
    rtl.mkdir(parents=True)
    graph = make_graph()
    graph.write(made / "hardware.json")
    np.savez(made / "p.npz", x=np.zeros(1))
    labels = instance_names(graph.nodes)
    lines = "".join(f"  node_{k} {name} (\n  );\n" for k, name in enumerate(labels.values()))
    (rtl / "accelerator.sv").write_text(f"module accelerator (\n);\n{lines}endmodule\n")
    (rtl / "w.dat").write_text("0\n")
    for k in range(4):
        (rtl / f"node_{k}.sv").write_text(f"module node_{k} ();\nendmodule\n")
    sources = (*(rtl / f"node_{k}.sv" for k in range(4)), rtl / "accelerator.sv")
    design = StitchedDesign(
        rtl, "accelerator", sources, {"w.dat": rtl / "w.dat"}, 8, 8, {}, {}, ("d",)
    )
    monkeypatch.setattr(Design, "stitch", lambda self, graph: design)
    return made


@pytest.fixture
def vivado(tmp_path, monkeypatch):
    """Put the fake on PATH and say how it behaves."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    shutil.copy(FAKE, bin_dir / "vivado")
    monkeypatch.setenv("ADAQAT_VIVADO", str(bin_dir / "vivado"))
    for name in ("XILINX_VIVADO", "XILINXD_LICENSE_FILE", "LM_LICENSE_FILE"):
        monkeypatch.delenv(name, raising=False)

    def behave(**settings):
        (bin_dir / "fake.json").write_text(json.dumps(settings))

    return behave


def run(folder, goal, board="pynq-z1"):
    notes = []
    chosen = boards.load(board)
    compiled = Design.read(BuildFolder(folder))
    told = implement.implement_design(compiled, chosen, goal, "learned", Local(), notes.append)
    return *told, notes


@pytest.mark.parametrize("board", ["pynq-z1", "zcu104"])
def test_out_of_context_reports_become_records(folder, vivado, board):
    text, files, notes = run(folder, "ooc_synth", board)
    assert notes[0] == "Vivado: synth_design"
    assert "Vivado: route_design" in notes
    result = VivadoResult.read(folder / "vivado.json")
    assert (result.vivado, result.timing.wns_ns, result.timing.met) == ("2022.2", 0.0, True)
    assert result.power.total_w == 1.795
    for source in ("vivado_synth", "vivado_impl"):
        report = ResourceReport.read(folder / f"resources-{source}.json")
        assert report.source == source
        assert [(row.layer, row.nodes) for row in report.layers] == [
            ("one", ("a.0", "b")),
            ("two", ("c",)),
        ]
        assert report.unmatched == ("d",)
        assert report.total.lut > report.layer_sum.lut > 0
        assert report.fmax_mhz == 100.0  # slack 0.0 is a slack
    assert "slack +0.000 ns" in text
    assert all((folder / name).is_file() for name in files)


def test_goal_ip_packages_the_simulated_rtl(folder, vivado):
    text, files, _ = run(folder, "ip")
    assert "ip/component.xml" in files
    assert "ip/src/accelerator.sv" in files
    wrapper = (folder / "ip" / "src" / "accelerator_ip.v").read_text()
    assert "s_axis_tdata" in wrapper
    assert "tlast" not in wrapper
    assert text == "Vivado 2022.2: IP packaged in ip/"


@pytest.mark.parametrize("board", ["pynq-z1", "pynq-z2", "ultra96-v2", "zcu104", "kv260"])
def test_goal_bitfile_brings_the_package_back(folder, vivado, board):
    text, files, notes = run(folder, "bitfile", board)
    assert "Vivado: implementation" in notes
    names = {"accelerator.bit", "accelerator.hwh", "accelerator_driver.py", "design.json"}
    assert {p.name for p in (folder / "deploy").iterdir()} == names
    assert names == {Path(n).name for n in files if n.startswith("deploy/")}
    report = ResourceReport.read(folder / "resources-vivado_impl.json")
    assert [row.layer for row in report.layers] == ["one", "two"]
    assert report.total.lut > report.layer_sum.lut
    assert "bitstream and driver in deploy/" in text
    assert VivadoResult.read(folder / "vivado.json").files


FAILURES = [
    (
        "no_licence",
        "Vivado has no licence for feature 'Synthesis' and device 'xc7z020': "
        "set XILINXD_LICENSE_FILE",
    ),
    ("over", "the design needs 61,234 Slice LUTs and the part has 53,200: fold more"),
    (
        "timing",
        r"the worst path misses 10 ns by 0.312 ns \(97.0 MHz are reached\); build with --clock-ns "
        "10.4 or more",
    ),
    ("server", "Vivado has no licence for feature 'Synthesis' and device 'xc7z020': set XILINXD_"),
    ("hold", "timing is not met although setup is: the worst hold slack is -0.050 ns"),
    ("killed", "ended with signal 9 in .*: it was killed, most likely because memory ran out"),
    ("crash", r"Vivado crashed in \w+ \(exit status 139\) and left 'hs_err_pid4711.log'"),
    ("silent", r"ended with exit status 1 in \w+ without an error message"),
    ("other", r"use of undefined macro FOO \[src/a.sv:3\]"),
]


@pytest.mark.parametrize("goal", ["ooc_synth", "bitfile"])
@pytest.mark.parametrize(("kind", "sentence"), FAILURES)
def test_each_failure_is_one_sentence_with_its_cause(folder, vivado, goal, kind, sentence):
    vivado(fail=kind)
    with pytest.raises(StageFailed, match=sentence) as caught:
        run(folder, goal)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("vivado failed: ")
    assert caught.value.log is not None
    assert caught.value.log.is_file()
    assert not (folder / "deploy").exists()


def test_the_cause_comes_from_the_deepest_log(folder, vivado):
    vivado(fail="over")
    with pytest.raises(StageFailed) as caught:
        run(folder, "bitfile")
    assert caught.value.log.name == "runme.log"


def test_missed_timing_leaves_the_measurement(folder, vivado):
    vivado(fail="timing")
    with pytest.raises(StageFailed):
        run(folder, "ooc_synth")
    report = ResourceReport.read(folder / "resources-vivado_impl.json")
    assert report.slack_ns == -0.312
    assert report.fmax_mhz == pytest.approx(1000 / 10.312)
    assert VivadoResult.read(folder / "vivado.json").timing.met is False


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("2100@licences", "'2100@licences': check that this server is reached from here, grants"),
        ("/home/me/x.lic", "'/home/me/x.lic': check that this file grants it, to this host"),
    ],
)
@pytest.mark.parametrize("kind", ["no_licence", "server"])
def test_what_was_given_for_the_licence_is_named(folder, vivado, monkeypatch, kind, given, advice):
    vivado(fail=kind)
    monkeypatch.setenv("LM_LICENSE_FILE", given)
    with pytest.raises(StageFailed, match=f"LM_LICENSE_FILE is {advice}"):
        run(folder, "ooc_synth")


@pytest.mark.parametrize("goal", ["ooc_synth", "ip", "bitfile"])
def test_a_run_that_fails_keeps_nothing_of_the_one_before(folder, vivado, goal):
    run(folder, goal)
    before = {path.name for path in folder.iterdir()}
    assert "vivado.json" in before
    vivado(version="2019.1")
    with pytest.raises(ToolNotFound):
        run(folder, goal)
    gone = {"vivado.json", "deploy", "ip"} | {n for n in before if n.startswith("resources-vivado")}
    assert {path.name for path in folder.iterdir()} == before - gone


@pytest.mark.parametrize("kind", ["no_report", "changed"])
def test_no_record_is_written_before_all_reports_are_understood(folder, vivado, kind):
    vivado(fail=kind)
    with pytest.raises(ReportError, match=r"Vivado's report cannot be used: .*; run the same"):
        run(folder, "ooc_synth")
    assert not list(folder.glob("*vivado*.json"))


def test_a_bitstream_that_is_not_there(folder, vivado, monkeypatch):
    write = implement.deploy.write_package

    def without(graph, work, target):
        (work / "accelerator.bit").write_bytes(b"")
        return write(graph, work, target)

    monkeypatch.setattr(implement.deploy, "write_package", without)
    with pytest.raises(StageFailed, match=r"'accelerator\.bit' was not made although Vivado ended"):
        run(folder, "bitfile")
    assert not (folder / "deploy").exists()
    assert not (folder / ".deploy.part").exists()


def test_a_board_definition_that_is_not_installed(folder, vivado):
    vivado(fail="no_board")
    with pytest.raises(StageFailed, match=r"pynq-z1:part0:1\.0 is not installed in Vivado"):
        run(folder, "bitfile")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"version": "2019.1"}, "Vivado is version '2019.1'; supported are 2022.2, 2023.1"),
        ({"fail": "library"}, "the library 'libtinfo.so.5' that Vivado needs is missing"),
    ],
)
def test_the_version_is_asked_before_anything_else(folder, vivado, settings, sentence):
    vivado(**settings)
    with pytest.raises(ToolNotFound, match=sentence):
        require_goal("ooc_synth", boards.load("pynq-z1"), Local(), folder)


def test_no_vivado_at_all(folder, monkeypatch):
    monkeypatch.setenv("ADAQAT_VIVADO", "/nowhere/vivado")
    with pytest.raises(ToolNotFound, match="choose --goal rtl, which needs none, install Vivado"):
        require_goal("ip", boards.load("pynq-z1"), Local(), folder)
    assert require_goal("rtl", boards.load("pynq-z1"), Local(), folder) is None


@pytest.mark.parametrize("goal", VIVADO_GOALS)
def test_a_family_that_vivado_does_not_know_is_refused(folder, goal):
    with pytest.raises(ConfigError) as caught:
        require_goal(goal, boards.load("ulx3s-85f"), Local(), folder)
    assert str(caught.value) == (
        f"Goal {goal!r} needs Vivado, which does not know board 'ulx3s-85f' (ecp5); choose --goal "
        "rtl."
    )


def test_a_board_without_block_design_is_refused(folder, vivado):
    board = boards.load("pynq-z1").model_copy(update={"name": "mine", "vivado_board": None})
    with pytest.raises(ConfigError) as caught:
        require_goal("bitfile", board, Local(), folder)
    assert str(caught.value) == (
        "Goal 'bitfile' has no block design for board 'mine'; choose one of kv260, pynq-z1, "
        "pynq-z2, ultra96-v2, zcu104, or goal 'ip' for a design of your own."
    )


def test_a_report_of_another_part_is_refused(folder, vivado, monkeypatch):
    run(folder, "ooc_synth")
    path = folder / "vivado" / "impl_utilization.rpt"
    path.write_text(path.read_text().replace("xc7z020clg400-1", "xc7a35tcpg236-1"))
    graph, board = make_graph(), boards.load("pynq-z1")
    with pytest.raises(ReportError, match="is of part 'xc7a35tcpg236-1', not of 'xc7z020clg400-1'"):
        implement._finish(
            BuildFolder(folder), graph, board, "ooc_synth", "v", "2022.2", ("impl",), []
        )


def test_a_node_that_vivado_dissolved_has_no_numbers(folder, vivado):
    run(folder, "ooc_synth")
    path = folder / "vivado" / "impl_hierarchy.rpt"
    path.write_text("".join(x for x in path.open() if not x.startswith("|   b ")))
    board = boards.load("pynq-z1")
    implement._finish(
        BuildFolder(folder), make_graph(), board, "ooc_synth", "v", "2022.2", ("impl",), []
    )
    report = ResourceReport.read(folder / "resources-vivado_impl.json")
    assert report.layers[0].resources.lut is None
    assert report.layers[1].resources.lut is not None
    assert report.unmatched == ("d", "b")


@pytest.mark.parametrize("text", HOSTILE)
def test_any_name_stays_one_word_of_tcl(text):
    tclsh = shutil.which("tclsh")
    if tclsh is None:
        pytest.skip("tclsh is not installed")
    script = f"set l {listing(text, 'x')}\n" + command("puts", "-nonewline", Raw("[lindex $l 0]"))
    done = subprocess.run([tclsh], input=script, capture_output=True, text=True, check=True)
    assert done.stdout == text
    assert done.stderr == ""


def test_control_characters_go_into_no_script():
    with pytest.raises(ConfigError, match="control character"):
        word("a\nexit")


def scripts(name="src/a.sv"):
    design = VivadoSources("top", "xc7z020clg400-1", 10.0, (name,), ("src/w.dat",))
    made = [ooc_script(design, 2), ip_script(design, "accelerator_ip")]
    boards_ = ("pynq-z1", "pynq-z2", "ultra96-v2", "zcu104", "kv260")
    return made + [board_script(boards.load(b), 5.0, 2) for b in boards_]


@pytest.mark.parametrize("k", range(7))
def test_the_scripts_are_sound_tcl(k, tmp_path):
    tclsh = shutil.which("tclsh")
    if tclsh is None:
        pytest.skip("tclsh is not installed")
    # Every command that Tcl itself does not know answers with its name.
    stub = "proc unknown args { return [lindex $args 0] }\nproc exit args {}\n"
    stub += "rename file _file\nproc file args {}\nproc get_property args { return 100% }\n"
    script = scripts("src/a $b[c].sv")[k]
    done = subprocess.run([tclsh], input=stub + script, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "ADAQAT STEP done"


def test_a_path_outside_the_work_folder_goes_into_no_script():
    with pytest.raises(ConfigError, match="relative to Vivado's work folder"):
        scripts("/etc/passwd")

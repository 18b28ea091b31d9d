"""`adaqat-hw build FILE --env docker` to Vivado, as a user sees it: FINN is real, the engine and
Vivado are fakes. One compiled, simulated and synthesized build meets every failure."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from adaqat_hw.cli import main
from adaqat_hw.schema import DataConfig, NetworkConfig, RunConfig
from adaqat_hw.tools import FINN_PLUS_VERSION, finn_python

FAKES = Path(__file__).resolve().parents[1] / "fakes"
# The fake mounts nothing: what the request names below /build lies in the build's folder.
INNER_PYTHON = """#!/bin/sh
sed -i "s#\\"/build/#\\"$3/#g" "$2"
exec {python} "$@"
"""
pytestmark = [pytest.mark.finn, pytest.mark.rtl, pytest.mark.synth]


class BuildFlow:
    """The command line with both fakes; everything below one folder."""

    def __init__(self, root: Path, model: Path) -> None:
        self.root, self.model = root, model
        self.bin, self.vivado_bin = root / "bin", root / "Vivado" / "2022.2" / "bin"
        for folder in (self.bin, self.vivado_bin):
            folder.mkdir(parents=True)
        shutil.copy(FAKES / "docker", self.bin / "docker")
        shutil.copy(FAKES / "vivado", self.vivado_bin / "vivado")
        inner = self.bin / "inner-python"
        inner.write_text(INNER_PYTHON.format(python=finn_python()))
        inner.chmod(0o755)
        self.docker()
        self.vivado()

    def docker(self, **settings) -> None:
        labels = {"adaqat-hw.finn-plus": FINN_PLUS_VERSION}
        body = {"labels": labels, "id": "sha256:" + "ab" * 32} | settings
        (self.bin / "fake-docker.json").write_text(json.dumps(body))

    def vivado(self, **settings) -> None:
        (self.vivado_bin / "fake.json").write_text(json.dumps(settings))

    def run(self, *argv: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        captured = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
        with captured[0], captured[1], pytest.raises(SystemExit) as stopped:
            main(list(argv))
        return int(stopped.value.code or 0), out.getvalue(), err.getvalue()

    def build(self, goal: str, *more: str) -> tuple[int, str, str]:
        runs = ("--runs", str(self.root / "runs"), "--json", "--quiet", "--frames", "2")
        argv = ("--board", "pynq-z2", "--env", "docker", "--goal", goal, *runs, *more)
        return self.run("build", str(self.model), *argv)

    def folder(self, goal: str) -> Path:
        (made,) = (self.root / "runs" / "tiny" / "build").glob(f"qonnx-pynq-z2-10ns-{goal}-*")
        return made


@pytest.fixture(scope="module")
def flow(tmp_path_factory, tiny_qonnx):
    with pytest.MonkeyPatch.context() as patch:
        made = BuildFlow(tmp_path_factory.mktemp("flow"), tiny_qonnx)
        patch.setattr(os, "getuid", lambda: 1234)
        patch.setenv("ADAQAT_DOCKER", str(made.bin / "docker"))
        patch.setenv("XILINX_VIVADO", str(made.vivado_bin.parent))
        patch.setenv("ADAQAT_CACHE", str(made.root / "cache"))
        for name in ("ADAQAT_IMAGE", "ADAQAT_VIVADO", "XILINXD_LICENSE_FILE", "LM_LICENSE_FILE"):
            patch.delenv(name, raising=False)
        yield made


@pytest.fixture(scope="module")
def compiled(flow):
    """The flow as far as Vivado, which ends at once: what follows asks only for Vivado."""
    flow.vivado(fail="silent")
    status, out, _ = flow.build("ooc_synth")
    assert (status, failed(out)) == (1, 1)
    assert (flow.folder("ooc_synth") / "task-synthesize.json").is_file()
    return flow


def failed(out: str) -> int:
    """Return the exit status that the failure in the printed JSON names."""
    status: int = json.loads(out)["failure"]["exit_status"]
    return status


def sentence(err: str) -> str:
    """Return the one line that stderr must be."""
    (line,) = (line for line in err.splitlines() if line.strip())
    assert line.startswith("error: ")
    assert "Traceback" not in line
    return line.removeprefix("error: ")


def made_by_vivado(folder: Path) -> set[str]:
    names = {"vivado.json", "deploy", "ip", "task-vivado.json"}
    names |= {path.name for path in folder.glob("resources-vivado_*")}
    names |= {path.name for path in folder.glob(".*") if path.name != ".lock"}
    return {name for name in names if (folder / name).exists()}


RECORDS = {"vivado.json", "resources-vivado_synth.json", "resources-vivado_impl.json"}
FAILURES = [
    (
        "no_licence", 1,
        "Vivado has no licence for feature 'Synthesis' and device 'xc7z020': set "
        "XILINXD_LICENSE_FILE to a licence file or port@server, or choose a board whose part",
    ),
    (
        "over", 1,
        "the design needs 61,234 Slice LUTs and the part has 53,200: fold more (lower --fps), "
        "choose narrower widths or a larger board",
    ),
    (
        "killed", 1,
        "ended with exit status 137 in synth_design: it was killed, most likely because memory ran "
        "out: give the machine, or Docker, more memory or build a smaller design",
    ),
    ("crash", 1, "Vivado crashed in synth_design (exit status 139) and left 'hs_err_pid4711.log'"),
    ("silent", 1, "Vivado ended with exit status 1 in synth_design without an error message"),
    ("other", 1, "use of undefined macro FOO [src/a.sv:3]"),
    ("library", 3, "the library 'libtinfo.so.5' that Vivado needs is missing"),
    ("no_report", 1, "impl_timing.rpt' cannot be read (No such file or directory); run the same"),
    (
        "changed", 1,
        "impl_utilization.rpt', line 16: 0 rows 'Slice Registers' in 'Slice "
        "Logic'; run the same command again, and if it stays, with another of the versions 2022.2",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "status", "told"), FAILURES)
def test_a_failure_is_one_sentence_and_leaves_nothing(compiled, kind, status, told):
    compiled.vivado(fail=kind)
    code, out, err = compiled.build("ooc_synth")
    assert (code, failed(out)) == (status, status)
    assert told in sentence(err)
    assert made_by_vivado(compiled.folder("ooc_synth")) == set()


def test_a_licence_server_that_does_not_answer(compiled, monkeypatch):
    monkeypatch.setenv("XILINXD_LICENSE_FILE", "2100@licences")
    compiled.vivado(fail="server")
    code, out, err = compiled.build("ooc_synth")
    assert (code, failed(out)) == (1, 1)
    assert (
        "Vivado has no licence for feature 'Synthesis' and device 'xc7z020': XILINXD_LICENSE_FILE "
        "is '2100@licences': check that this server is reached from here"
    ) in sentence(err)
    assert made_by_vivado(compiled.folder("ooc_synth")) == set()


@pytest.mark.parametrize(
    ("settings", "status", "told"),
    [
        ({"daemon": False}, 3, "Docker does not answer (Cannot connect to the Docker daemon"),
        ({"missing": True}, 3, "There is no image 'adaqat-hw-vivado:finn-plus-1.6.1'; make it as"),
        (
            {"refuses": "no space left on device"},
            3,
            "(docker: Error response from daemon: no space",
        ),
    ],
)
def test_a_container_that_does_not_start(compiled, settings, status, told):
    compiled.docker(**settings)
    try:
        code, out, err = compiled.build("ooc_synth")
    finally:
        compiled.docker()
    assert (code, failed(out)) == (status, status)
    assert told in sentence(err)
    assert made_by_vivado(compiled.folder("ooc_synth")) == set()


def test_the_wrong_version_is_refused_before_finn_runs(flow):
    flow.vivado(version="2019.1")
    code, out, err = flow.build("ip")
    assert (code, failed(out)) == (3, 3)
    assert "Vivado is version '2019.1'; supported are 2022.2, 2023.1" in sentence(err)
    assert not (flow.folder("ip") / "request.json").exists()


def test_missed_timing_is_told_and_shown_and_a_second_run_succeeds(compiled):
    """In one test: the same folder fails, is looked at, and then is mended."""
    folder, run = compiled.folder("ooc_synth"), compiled.root / "runs" / "tiny"
    RunConfig(name="tiny", network=NetworkConfig(name="mlp"), data=DataConfig(name="digits")).write(
        run / "config.json"
    )
    compiled.vivado(fail="timing")
    code, out, err = compiled.build("ooc_synth")
    assert (code, failed(out)) == (1, 1)
    assert (
        "vivado failed: timing is not met: the worst path misses 10 ns by 0.312 ns (97.0 MHz are "
        "reached); build with --clock-ns 10.4 or more"
    ) in sentence(err)
    # The measurement is kept; the task is not done and nothing can be taken to a board.
    assert made_by_vivado(folder) == RECORDS
    code, out, _ = compiled.run("report", str(run), "--json")
    body = json.loads(out)
    assert body["plans"][0]["vivado"]["timing"]["met"] is False
    assert body["throughput"]["slack_ns"] == -0.312
    assert body["throughput"]["fmax_mhz"] == pytest.approx(1000 / 10.312)
    assert any("timing is NOT MET at 10 ns (worst slack -0.312 ns)" in w for w in body["warnings"])
    compiled.run("report", str(run))
    page = (run / "report" / "report.html").read_text(encoding="utf-8")
    assert "TIMING IS MISSED" in page
    assert "-0.312 ns at 10 ns" in page

    compiled.vivado()
    code, out, err = compiled.build("ooc_synth")
    assert (code, err) == (0, "")
    assert made_by_vivado(folder) == RECORDS | {"task-vivado.json"}
    check_summary(json.loads(out), "ooc_synth")
    compiled.run("report", str(run))
    page = (run / "report" / "report.html").read_text(encoding="utf-8")
    assert "TIMING IS MISSED" not in page
    assert "worst slack +0.000 ns at 10 ns" in page
    assert "1.79 W estimated, confidence Low" in page
    # A licence lost afterwards takes nothing away: nothing changed, so Vivado is not asked.
    compiled.vivado(fail="no_licence")
    assert compiled.build("ooc_synth")[0] == 0
    # But where something did change, old numbers do not stay beside the new failure.
    (folder / "vivado" / "impl_power.rpt").unlink()
    assert compiled.build("ooc_synth")[0] == 1
    assert made_by_vivado(folder) == {"task-vivado.json"}  # of files that are gone: not done


def check_summary(body, goal):
    rows = {row["source"]: row for row in body["resources"]}
    sources = {"finn_estimate", "yosys_synth", "vivado_impl"}
    assert set(rows) == sources | ({"vivado_synth"} if goal == "ooc_synth" else set())
    assert all(row["lut"] > 0 for source, row in rows.items() if source != "finn_estimate")
    placed = rows["vivado_impl"]
    assert (placed["tool"], placed["part"]) == ("vivado 2022.2", "xc7z020clg400-1")
    assert (placed["slack_ns"], placed["fmax_mhz"]) == (0.0, 100.0)
    assert body["throughput"]["fmax_mhz"] == 100.0
    assert body["throughput"]["fps_at_fmax"] == pytest.approx(
        body["throughput"]["fps_at_requested_clock"]
    )
    made = body["vivado"]
    assert (made["goal"], made["vivado"], made["timing"]["met"]) == (goal, "2022.2", True)
    assert made["power"]["total_w"] == 1.795
    assert made["utilisation"]["lut"] == pytest.approx(placed["lut"] / 53200)
    assert made["fits_board"] is True
    assert (body["verify"]["rtl_mismatches"], body["missing"]) == (0, [])


@pytest.mark.slow
@pytest.mark.parametrize("goal", ["ip", "bitfile"])
def test_ip_and_bitfile_come_back(flow, goal):
    if goal == "bitfile":
        flow.vivado(fail="no_board")
        code, out, err = flow.build(goal)
        assert (code, failed(out)) == (1, 1)
        told = "tul.com.tw:pynq-z2:part0:1.0 is not installed in Vivado; install the board files"
        assert told in last_line(err)  # after the warnings of the compilation
        assert made_by_vivado(flow.folder(goal)) == set()
    flow.vivado()
    code, out, _ = flow.build(goal)
    assert code == 0
    body, folder = json.loads(out), flow.folder(goal)
    assert all((folder / name).is_file() for name in body["vivado"]["files"])
    if goal == "ip":
        assert "ip/component.xml" in body["vivado"]["files"]
        return
    check_summary(body, goal)
    assert {Path(name).name for name in body["vivado"]["files"]} == {
        "accelerator.bit", "accelerator.hwh", "accelerator_driver.py", "design.json",
    }  # fmt: skip
    code, out, _ = flow.run("build", str(flow.model), "--board", "pynq-z2", "--env", "docker",
                            "--goal", goal, "--frames", "2", "--quiet", "--runs",
                            str(flow.root / "runs"))  # fmt: skip
    assert re.search(r"bitstream in build/\S+/deploy/accelerator\.bit", out)


def last_line(err: str) -> str:
    return [line for line in err.splitlines() if line.strip()][-1]

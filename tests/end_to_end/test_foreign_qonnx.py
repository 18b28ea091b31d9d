"""QONNX files that this project did not make: built and proved, or refused with the reason."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.finn, pytest.mark.rtl, pytest.mark.synth]


@pytest.mark.parametrize("impl", ["lut", "dsp"])
def test_a_foreign_network_is_built_simulated_and_synthesized(
    tmp_path, run_command, tiny_qonnx, impl
):
    done = run_command(
        "build", str(tiny_qonnx), "--board", "pynq-z2", "--goal", "rtl", "--impl", impl, "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    simulation = json.loads(next(tmp_path.rglob("simulation.json")).read_text())
    assert simulation["mismatches"] == 0
    assert sum(p["frames"] for p in simulation["passes"]) > 20
    resources = json.loads(next(tmp_path.rglob("resources-yosys_synth.json")).read_text())
    assert resources["total"]["lut"] > 0
    assert (resources["total"]["dsp"] > 0) == (impl == "dsp")
    assert json.loads(done.stdout)


def test_what_cannot_be_built_is_refused_with_layer_and_reason(
    tmp_path, run_command, depthwise_qonnx
):
    done = run_command("build", str(depthwise_qonnx), "--board", "pynq-z2", cwd=tmp_path)
    assert done.returncode == 2
    assert "depthwise" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("hardware.json"))


def test_a_dsp_cannot_take_one_bit(tmp_path, run_command, tiny_qonnx):
    done = run_command(
        "build", str(tiny_qonnx), "--board", "pynq-z2", "--layer-impl", "nothing=dsp", cwd=tmp_path
    )
    assert done.returncode == 2
    assert "nothing" in done.stderr

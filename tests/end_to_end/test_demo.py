"""All stages, as make demo runs them, on the shipped configuration."""

from __future__ import annotations

import json
import re

import pytest

pytestmark = [pytest.mark.finn, pytest.mark.rtl, pytest.mark.synth]

ROOT_README = "README.md"


@pytest.fixture(scope="module")
def report(workplace, run_command):
    done = run_command("report", "runs/demo", "--json", cwd=workplace)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def row(report, plan, source):
    rows = [r for r in report["resources"] if (r["plan"], r["source"]) == (plan, source)]
    assert len(rows) == 1
    return rows[0]


def test_the_report_holds_three_plans_at_two_stages(report):
    sources = {(r["plan"], r["source"]) for r in report["resources"]}
    plans = ("learned", "w8a8", "w4a4")
    assert sources >= {(p, s) for p in plans for s in ("finn_estimate", "yosys_synth")}


def test_the_export_agrees_with_pytorch_on_the_whole_test_set(report):
    assert report["verify"]["torch_qonnx_argmax_agreement"] == 1.0
    assert report["verify"]["torch_qonnx_max_abs_error"] < 1e-3


def test_the_rtl_is_bit_exact_on_real_images(report):
    assert report["verify"]["rtl_frames"] >= 100
    assert report["verify"]["rtl_mismatches"] == 0


def test_the_learned_plan_is_cheaper_and_as_accurate(report):
    by_plan = {p["plan"]: p for p in report["plans"]}
    learned, wide = by_plan["learned"], by_plan["w8a8"]
    assert learned["bitops"] < wide["bitops"]
    assert learned["accuracy"] >= wide["accuracy"] - 0.01
    cheap, dear = row(report, "learned", "yosys_synth"), row(report, "w8a8", "yosys_synth")
    assert cheap["lut"] < dear["lut"]
    assert None not in (cheap["dsp"], dear["dsp"])


def test_rows_are_the_plans_layers(report):
    layers = {r["layer"] for r in report["plan"]}
    assert layers == {"conv1", "conv2", "fc"}
    for plan in ("learned", "w8a8", "w4a4"):
        found = {r["layer"] for r in row(report, plan, "yosys_synth")["layers"]}
        assert layers <= found


def test_flip_flops_that_finn_does_not_estimate_are_null(report):
    assert row(report, "learned", "finn_estimate")["ff"] is None


def test_cycles_are_measured_and_estimated(report):
    for plan in report["plans"]:
        throughput = plan["throughput"]
        if plan["plan"] == "float":
            assert throughput["cycles_per_frame_measured"] is None
            continue
        # Both are counts of one design: the slowest layer decides, a pipeline adds little.
        ratio = throughput["cycles_per_frame_measured"] / throughput["cycles_per_frame_estimated"]
        assert 0.8 < ratio < 1.1, plan["plan"]
        assert throughput["latency_cycles"] > throughput["cycles_per_frame_measured"] / 2
        clock = throughput["clock_ns_requested"]
        assert throughput["fps_at_requested_clock"] == pytest.approx(
            1e9 / (throughput["cycles_per_frame_measured"] * clock)
        )


def test_a_second_run_has_nothing_to_do(workplace, run_command):
    done = run_command("run", "configs/demo.toml", cwd=workplace)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "✓" in line and "report" not in line]
    # Of each build: the estimate that its folding is searched from, the search, and four tasks.
    assert len(lines) == 4 + 3 + 3 * (2 + 4)
    assert all("up to date" in line for line in lines), done.stderr


def test_another_configuration_does_not_overwrite_a_finished_training(workplace, run_command):
    done = run_command("run", "configs/demo.toml", "--set", "train.epochs=3", cwd=workplace)
    assert done.returncode == 2
    assert "another configuration" in done.stderr


def test_a_damaged_build_is_built_again(workplace, run_command):
    folder = next((workplace / "runs" / "demo" / "build").glob("learned-pynq-z1-*-rtl-*"))
    (folder / "simulation.json").write_text("{")
    done = run_command("run", "configs/demo.toml", cwd=workplace)
    assert done.returncode == 0, done.stderr
    again = [x for x in done.stderr.splitlines() if "✓" in x and "up to date" not in x]
    assert any("simulate learned" in line for line in again)


def commands():
    from pathlib import Path

    text = (Path(__file__).resolve().parents[2] / ROOT_README).read_text()
    blocks = re.findall(r"```console\n(.*?)```", text, re.S)
    lines = [line.split("#")[0].split() for block in blocks for line in block.splitlines()]
    return [line[1:] for line in lines if line and line[0] == "adaqat-hw"]


@pytest.mark.parametrize("argv", commands(), ids=" ".join)
def test_every_readme_command_runs(workplace, run_command, argv):
    done = run_command(*argv, cwd=workplace)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()

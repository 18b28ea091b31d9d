"""Runs without a build: quick, and their reports say what is missing."""

from __future__ import annotations

import json

import pytest

CONFIG = """
name = "small"
[network]
name = "mlp"
[data]
name = "digits"
limit_train = 300
limit_test = 100
[train]
epochs = 3
batch_size = 50
lr = 0.05
threads = 1
[quant]
input_signed = false
[adaqat]
lr_weights = 0.5
lr_acts = 0.5
[compare]
uniform = ["4/4"]
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "small.toml").write_text(CONFIG)
    return tmp_path


def test_a_run_without_a_build_reports_what_is_missing(folder, run_command):
    done = run_command("run", "small.toml", cwd=folder)
    assert done.returncode == 0, done.stderr
    report = json.loads(run_command("report", "runs/small", "--json", cwd=folder).stdout)
    assert report["accuracy"]["quantized"] > 0.5
    assert report["verify"]["rtl_frames"] is None
    assert report["throughput"]["cycles_per_frame_measured"] is None
    rows = [(row["plan"], row["source"], row["lut"]) for row in report["resources"]]
    assert rows == [
        (plan, source, None)
        for plan in ("learned", "w4a4")
        for source in ("finn_estimate", "yosys_synth")
    ]


def test_an_edited_plan_is_trained_at_its_widths(folder, run_command):
    assert run_command("train", "small.toml", cwd=folder).returncode == 0
    plan = json.loads((folder / "runs/small/train/learned/plan.json").read_text())
    plan["source"] = "manual"
    plan["layers"][1]["weight_bits"] = 5
    (folder / "mine.json").write_text(json.dumps(plan))
    done = run_command("train", "small.toml", "--plan", "mine.json", cwd=folder)
    assert done.returncode == 0, done.stderr
    variant = next(p.name for p in (folder / "runs/small/train").iterdir() if "plan" in p.name)
    done = run_command("export", "runs/small", "--variant", variant, cwd=folder)
    assert done.returncode == 0, done.stderr
    artifact = json.loads((folder / f"runs/small/export/{variant}/artifact.json").read_text())
    assert artifact["bits_in_graph"][1]["weight_bits"] == 5


def test_a_plan_of_another_network_is_refused(folder, run_command):
    row = {"layer": "nothing", "weight_bits": 3, "act_bits": 3}
    body = {"network": "x", "source": "manual", "layers": [row]}
    (folder / "mine.json").write_text(json.dumps(body))
    done = run_command("train", "small.toml", "--plan", "mine.json", cwd=folder)
    assert done.returncode == 2
    assert "nothing" in done.stderr


def test_fine_tuning_starts_from_the_float_baseline(folder, run_command):
    argv = ("train", "small.toml", "--set", "train.init=float", "--set", "name=tuned")
    done = run_command(*argv, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "runs/tuned/train/float/checkpoint.pt").is_file()


def test_a_damaged_checkpoint_is_refused(folder, run_command):
    (folder / "bad.pt").write_bytes(b"not a checkpoint")
    done = run_command("train", "small.toml", "--set", "train.init=bad.pt", cwd=folder)
    assert done.returncode == 2
    assert "bad.pt" in done.stderr
    assert not (folder / "runs/small/train/learned/result.json").exists()


def test_a_sweep_makes_one_run_per_value(folder, run_command):
    done = run_command(
        "sweep", "small.toml", "--over", "adaqat.hardware_lambda=0.0,0.3", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    names = {p.name for p in (folder / "runs").iterdir()}
    assert names == {"small-hardware_lambda0.0", "small-hardware_lambda0.3", "small-sweep"}
    assert (folder / "runs/small-sweep/report.html").is_file()

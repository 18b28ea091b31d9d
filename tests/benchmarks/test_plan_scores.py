from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

_CONFIG = """name = "t"
[network]
name = "mlp"
[network.options]
hidden = [8, 8]
[data]
name = "digits"
limit_train = 128
limit_test = 50
[train]
epochs = 1
batch_size = 64
threads = 1
recalibrate_batches = 1
[adaqat]
granularity = "layer"
"""


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # where the script lies when it is run
    return importlib.import_module("plan_scores")


@pytest.fixture
def study(script, capsys, monkeypatch, tmp_path):
    """Run the study in a folder with t.toml; return (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.toml").write_text(_CONFIG)

    def call(*argv):
        status = script.main(["t.toml", "--out", "out", "--seeds", "0", *argv])
        return (status, *capsys.readouterr())

    return call


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--plans", "1"], "--plans 1 must be at least 2"),
        (["--uniform", "learned"], "--uniform 'learned' must be uniform widths"),
        (["--stretch", "float"], "--stretch 'float' must be uniform widths"),
        (["--stretch", "two"], "Variant 'two' must be"),
        (["--widths", "1"], "--widths 1 must be at least 1, and one of them at least 2"),
        (["--widths", "0", "2"], "--widths 0 2 must be at least 1"),
        (["--threads", "0"], "--threads 0 must be at least 1"),
        (["--seeds", "1", "1"], "--seeds: 1 is given 2 times"),
        (["--set", "seed=1"], "--set: 'seed=1' sets the seed"),
        (["--set", "train.init=a.pt"], "train.init is 'a.pt'"),
        (["--set", "train.teacher=zoo:a"], "train.teacher is 'zoo:a'"),
        (["--set", "data.limit_train=127"], "The data set has 127 training samples"),
    ],
)
def test_bad_arguments_are_refused_before_any_training(study, tmp_path, arguments, said):
    status, out, err = study(*arguments)
    assert (status, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_search_for_plans_ends(study, script, monkeypatch, tmp_path):
    monkeypatch.setattr(script, "_DRAWS", 50)
    status, _, err = study("--widths", "2", "--plans", "3")
    assert status == 2
    assert err.startswith("Of 50 random plans of the widths 2, 0 differ and have the BitOPs")
    assert "and 3 are needed; give other --widths" in err
    assert not (tmp_path / "out").exists()


def test_a_configuration_with_the_rule_allocation_is_scored(study, tmp_path):
    budget = ["--set", "adaqat.budget.bitops=40.0", "--set", "adaqat.rule=allocation"]
    status, out, err = study(*budget, "--plans", "2", "--uniform", "3/3", "--widths", "2", "3", "4")
    assert status == 0, err
    assert "CE, fitted clips, whole plan, after the stretch" in out
    (row,) = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert len(row["plans"]) == len(row["accuracies"]) == 3

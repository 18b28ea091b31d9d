"""The train command around a training: checkpoints it hands over, budgets, torchrun."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adaqat_hw.cli import main
from adaqat_hw.quant import Binding, BudgetOutcome
from adaqat_hw.schema import TrainResult

_CONFIG = """name = "t"
[network]
name = "mlp"
[data]
name = "digits"
limit_train = 100
limit_test = 50
[train]
epochs = 2
batch_size = 32
threads = 1
"""


@pytest.fixture
def cli(capfd, monkeypatch, tmp_path):
    """Run the command line in a folder with t.toml; return (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.toml").write_text(_CONFIG)

    def call(*argv: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(list(argv))
        captured = capfd.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return call


def test_the_runs_own_baseline_teaches(cli, tmp_path):
    status, _, err = cli("train", "t.toml", "--set", "train.teacher=float", "-q")
    assert status == 0, err
    folder = tmp_path / "runs" / "t" / "train"
    assert {p.name for p in folder.iterdir()} == {"float", "learned"}
    again = cli("train", "t.toml", "--set", "train.teacher=float")
    assert again[2].count("up to date") == 2


def test_a_teacher_that_is_not_there_is_named(cli):
    status, _, err = cli("train", "t.toml", "--set", "train.teacher=gone.pt", "-q")
    assert status == 2
    assert re.search(r"train\.teacher is 'gone\.pt' and 'gone\.pt' does not exist", err)


def test_a_finished_training_stays_done_on_another_device(cli):
    assert cli("train", "t.toml", "-q")[0] == 0
    status, _, err = cli("train", "t.toml", "--set", "train.device=cpu", "--set", "data.workers=1")
    assert status == 0
    assert "up to date" in err


def test_a_missed_budget_ends_with_status_1_every_time(cli, monkeypatch, tmp_path: Path):
    sentence = "The plan misses the budget of 1 BitOPs with 2 BitOPs."
    missed = BudgetOutcome(False, "bitops", 1.0, 2.0, sentence)
    monkeypatch.setattr(Binding, "outcome", lambda self: missed)
    for _ in range(2):
        status, out, err = cli("train", "t.toml", "-q")
        assert status == 1
        assert out == ""
        assert "train/learned failed: The plan misses the budget of 1 BitOPs" in err
    result = TrainResult.read(Path("runs/t/train/learned/result.json"))
    assert result.budget is not None
    assert not result.budget.met


def test_a_gpu_that_is_not_there_is_one_sentence(cli, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, _, err = cli("train", "t.toml", "--set", "train.device=cuda:3", "-q")
    assert status == 2
    assert re.search(r"train\.device is 'cuda:3', so it needs GPU 3, and here is no GPU", err)


def test_the_whole_road_is_not_for_torchrun(cli, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    status, _, err = cli("run", "t.toml", "-q")
    assert status == 2
    assert "torchrun started 2 processes, which only 'train' can share" in err

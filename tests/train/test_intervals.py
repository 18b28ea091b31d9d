"""How often a training is evaluated and kept; neither may change what it ends with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adaqat_hw.report.history import history
from adaqat_hw.schema import RunConfig
from adaqat_hw.train import Variant, load_weights, loop, read_trajectory, train
from adaqat_hw.train.loop import _Training

Make = Callable[..., RunConfig]


class Stopped(Exception):
    pass


def _epochs(folder: Path) -> list[dict[str, Any]]:
    return [r for r in read_trajectory(folder / "log.jsonl") if r["event"] == "epoch"]


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the epochs after which a checkpoint was written, as they come."""
    epochs: list[int] = []
    checkpoint = _Training._checkpoint

    def watched(training: _Training) -> None:
        epochs.append(training._session.epoch)
        checkpoint(training)

    monkeypatch.setattr(_Training, "_checkpoint", watched)
    return epochs


def _same_end(first: Path, second: Path) -> bool:
    a, b = load_weights(first / "checkpoint.pt"), load_weights(second / "checkpoint.pt")
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_epochs_between_evaluations_have_no_accuracy(make_config: Make, tmp_path: Path) -> None:
    train(make_config(), Variant.named("learned"), tmp_path / "each")
    seldom = make_config(train={"eval_every": 3})
    result = train(seldom, Variant.named("learned"), tmp_path / "seldom")
    each, rows = _epochs(tmp_path / "each"), _epochs(tmp_path / "seldom")
    assert [r["accuracy"] for r in rows] == [None, None, each[2]["accuracy"], each[3]["accuracy"]]
    assert result.accuracy == each[3]["accuracy"]
    assert _same_end(tmp_path / "each", tmp_path / "seldom")
    course = history(rows)
    assert course.accuracy.steps == (rows[2]["step"], rows[3]["step"])
    assert len(course.train_loss.steps) == 4


def test_by_default_a_state_is_kept_after_a_minute_and_at_the_freeze(
    make_config: Make, tmp_path: Path, kept: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(train={"checkpoint_every": None, "epochs": 8})
    train(config, Variant.named("float"), tmp_path / "fast")
    assert kept == [8]
    kept.clear()
    froze = make_config(
        train={"checkpoint_every": None, "epochs": 8}, adaqat={"freeze": {"at": 0.5}}
    )
    train(froze, Variant.named("learned"), tmp_path / "froze")
    assert kept == [5, 8]
    kept.clear()
    monkeypatch.setattr(loop, "_CHECKPOINT_SECONDS", 0.0)
    train(config, Variant.named("float"), tmp_path / "slow")
    assert kept == list(range(1, 9))
    assert _same_end(tmp_path / "fast", tmp_path / "slow")


def test_an_epoch_whose_record_ends_the_training_is_kept(
    make_config: Make, tmp_path: Path, kept: list[int]
) -> None:
    def stop(record: dict[str, Any]) -> None:
        if record["event"] == "epoch" and record["epoch"] == 2:
            raise Stopped

    config = make_config(train={"checkpoint_every": None})
    with pytest.raises(Stopped):
        train(config, Variant.named("learned"), tmp_path / "a", progress=stop)
    assert kept == [2]
    train(config, Variant.named("learned"), tmp_path / "a")
    train(config, Variant.named("learned"), tmp_path / "b")
    assert _same_end(tmp_path / "a", tmp_path / "b")
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in "ab"]
    assert logs[0] == logs[1]


def test_another_interval_resumes_the_same_training(make_config: Make, tmp_path: Path) -> None:
    def stop(record: dict[str, Any]) -> None:
        if record["event"] == "epoch" and record["epoch"] == 2:
            raise Stopped

    with pytest.raises(Stopped):
        train(make_config(), Variant.named("float"), tmp_path, progress=stop)
    other = make_config(train={"eval_every": 4, "checkpoint_every": 3})
    train(other, Variant.named("float"), tmp_path)
    assert [r["accuracy"] is None for r in _epochs(tmp_path)] == [False, False, True, False]

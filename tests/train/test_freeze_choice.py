"""Learned against uniform at the freeze of a training to a budget."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from adaqat_hw import nets
from adaqat_hw.cli.console import Progress
from adaqat_hw.cli.stages import _tell
from adaqat_hw.quant import Binding
from adaqat_hw.schema import BitWidthPlan, RunConfig, TrainResult
from adaqat_hw.train import Variant, load_weights, read_trajectory, train

Make = Callable[..., RunConfig]
_LEARNED = Variant.named("learned")


def _config(make_config: Make, at: float = 0.5, **freeze: Any) -> RunConfig:
    return make_config(
        adaqat={
            "granularity": "layer",
            "rule": "gradient",
            "budget": {"bitops": 90_000},
            "freeze": {"at": at, **freeze},
        }
    )


def _choices(folder: Path) -> list[dict[str, Any]]:
    records = read_trajectory(folder / "log.jsonl")
    return [r for r in records if r["event"] == "freeze_choice"]


@pytest.fixture
def frozen_with(monkeypatch: pytest.MonkeyPatch) -> list[list[float] | None]:
    """The differences of every freeze."""
    seen: list[list[float] | None] = []
    freeze_all = Binding.freeze_all

    def spy(self: Binding, step: int, differences: Sequence[float] | None = None) -> Any:
        seen.append(None if differences is None else list(differences))
        return freeze_all(self, step, differences)

    monkeypatch.setattr(Binding, "freeze_all", spy)
    return seen


@pytest.mark.parametrize("at", [0.5, 1.0])
def test_the_plans_are_compared_and_the_log_says_which_was_taken(
    make_config: Make, tmp_path: Path, frozen_with: list[list[float] | None], at: float
) -> None:
    result = train(_config(make_config, at), _LEARNED, tmp_path)
    choice = result.freeze_choice
    assert choice is not None
    assert choice.chosen != "same"
    (differences,) = frozen_with
    assert differences is not None
    assert choice.batches == len(differences) == 6  # no more than an epoch has
    assert choice.difference == pytest.approx(sum(differences) / 6)
    (record,) = _choices(tmp_path)
    assert choice.model_dump(mode="json").items() <= record.items()
    freeze = next(r for r in read_trajectory(tmp_path / "log.jsonl") if r.get("freezes"))
    assert (freeze["step"], freeze["bits"]) == (choice.step, choice.bits)
    assert choice.step == 24 * at
    assert result.budget is not None
    assert result.budget.reached == (
        choice.uniform_cost if choice.chosen == "uniform" else choice.learned_cost
    )
    widths = {row.weight_bits for row in BitWidthPlan.read(tmp_path / "plan.json").layers}
    assert widths == {choice.bits[n] for n in choice.bits if n.startswith("weights:")} | {8}


def test_a_number_of_batches_can_be_given_and_none(
    make_config: Make, tmp_path: Path, frozen_with: list[list[float] | None]
) -> None:
    some = train(_config(make_config, compare_batches=2), _LEARNED, tmp_path / "some")
    none = train(_config(make_config, compare_batches=0), _LEARNED, tmp_path / "none")
    assert some.freeze_choice is not None
    assert none.freeze_choice is not None
    assert (some.freeze_choice.batches, none.freeze_choice.batches) == (2, 0)
    assert none.freeze_choice.chosen == "learned"
    assert none.freeze_choice.learned == some.freeze_choice.learned
    assert frozen_with[1] is None


def _with_dropout(config: Any) -> nn.Module:
    net = _BUILD(config)
    return nn.Sequential(net.flatten, nn.Dropout(0.3), *list(net)[1:])


_BUILD: Any = nets.build


def test_the_comparison_does_not_disturb_the_training(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch norm and dropout: what is trained at one plan does not depend on how it was chosen."""
    monkeypatch.setattr(nets, "build", _with_dropout)
    freeze_all = Binding.freeze_all
    monkeypatch.setattr(
        Binding, "freeze_all", lambda self, step, differences=None: freeze_all(self, step)
    )
    for count in (0, 4):
        train(_config(make_config, compare_batches=count), _LEARNED, tmp_path / str(count))
    one, other = (load_weights(tmp_path / str(n) / "checkpoint.pt") for n in (0, 4))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


class _Stopped(Exception):
    pass


@pytest.mark.parametrize("stop", [11, 14, 20])
def test_a_training_stopped_around_the_freeze_ends_with_the_same_bits(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    monkeypatch.setattr(nets, "build", _with_dropout)
    config = _config(make_config)

    def stopper(record: dict[str, Any]) -> None:
        if record["event"] == "step" and record["step"] == stop:
            raise _Stopped

    whole = train(config, _LEARNED, tmp_path / "whole")
    with pytest.raises(_Stopped):
        train(config, _LEARNED, tmp_path / "again", progress=stopper)
    again = train(config, _LEARNED, tmp_path / "again")
    assert whole.freeze_choice is not None
    assert whole.freeze_choice == again.freeze_choice
    texts = [(tmp_path / x / "log.jsonl").read_text() for x in ("whole", "again")]
    assert texts[0] == texts[1]
    one, other = (load_weights(tmp_path / x / "checkpoint.pt") for x in ("whole", "again"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_without_a_budget_there_is_no_choice(make_config: Make, tmp_path: Path) -> None:
    result = train(make_config(train={"epochs": 2}), _LEARNED, tmp_path)
    assert result.freeze_choice is None
    assert _choices(tmp_path) == []
    body = json.loads((tmp_path / "result.json").read_text())
    del body["freeze_choice"]  # as results before it were
    (tmp_path / "result.json").write_text(json.dumps(body))
    assert TrainResult.read(tmp_path / "result.json") == result


def test_the_command_line_prints_it_among_its_progress(
    capfd: pytest.CaptureFixture[str],
) -> None:
    progress = Progress()
    progress.start("train learned")
    _tell({"event": "freeze_choice", "sentence": "The learned plan is taken."}, progress)
    _tell({"event": "step", "epoch": 1}, progress)
    assert capfd.readouterr().err.splitlines()[1:] == ["  The learned plan is taken."]

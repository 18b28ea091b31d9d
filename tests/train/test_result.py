"""What a training leaves behind beside its weights."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaqat_hw.cost import bitops
from adaqat_hw.errors import ConfigError
from adaqat_hw.quant import Binding
from adaqat_hw.schema import BitWidthPlan, BudgetResult, NetworkSpec, RunConfig, TrainResult
from adaqat_hw.train import Variant, read_trajectory, train

Make = Callable[..., RunConfig]
_LAYER = {"granularity": "layer", "rule": "gradient"}
_MISSED = "The plan misses the budget."


def test_the_plan_meets_its_budget(make_config: Make, tmp_path: Path) -> None:
    config = make_config(adaqat={**_LAYER, "budget": {"bitops": 90_000}})
    result = train(config, Variant.named("learned"), tmp_path)
    assert result.budget is not None
    assert (result.budget.title, result.budget.unit) == ("BitOPs", "BitOPs")
    assert (result.budget.asked, result.budget.met) == (90_000, True)
    plan = BitWidthPlan.read(tmp_path / "plan.json")
    spent = bitops(NetworkSpec.read(tmp_path / "spec.json"), plan).total
    assert spent == result.budget.reached <= 90_000
    records = read_trajectory(tmp_path / "log.jsonl")
    assert records[-1]["outcome"] == result.budget.model_dump()
    moves = [r for r in records if r.get("gradients")]
    assert all({"real", "bits", "hard_loss", "hardware_lambda", "budget"} <= set(r) for r in moves)
    assert len({r["hardware_lambda"] for r in moves}) > 3
    # Told how far the learning phase is: 6 steps of warm-up, frozen at 20 of 24.
    fractions = [r["budget"]["fraction"] for r in moves]
    assert fractions == pytest.approx([(r["step"] - 6) / 14 for r in moves])


def test_a_missed_budget_is_written_and_said(
    make_config: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    missed = BudgetResult(
        title="BitOPs", unit="BitOPs", asked=1.0, reached=2.0, met=False, sentence=_MISSED
    )
    monkeypatch.setattr(Binding, "budget_result", lambda self: missed)
    result = train(make_config(), Variant.named("learned"), tmp_path)
    assert result.budget is not None
    assert not result.budget.met
    assert TrainResult.read(tmp_path / "result.json") == result
    said = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert [r.getMessage() for r in said] == [_MISSED]


def test_without_a_budget_there_is_no_outcome(make_config: Make, tmp_path: Path) -> None:
    result = train(make_config(train={"epochs": 2}), Variant.named("learned"), tmp_path)
    assert result.budget is None
    assert (result.device, result.processes, result.accuracy_top5) == ("cpu", 1, None)
    assert "outcome" not in read_trajectory(tmp_path / "log.jsonl")[-1]


def test_an_impossible_budget_is_refused_before_training(make_config: Make, tmp_path: Path) -> None:
    config = make_config(adaqat={**_LAYER, "budget": {"bitops": 1000}})
    with pytest.raises(ConfigError, match=r"^adaqat\.budget\.bitops = 1000\.0 is out of reach"):
        train(config, Variant.named("learned"), tmp_path)
    assert not (tmp_path / "log.jsonl").exists()


def test_results_of_the_release_before_are_refused(make_config: Make, tmp_path: Path) -> None:
    train(make_config(train={"epochs": 1}), Variant.named("float"), tmp_path)
    path = tmp_path / "result.json"
    body: dict[str, Any] = json.loads(path.read_text())
    body["schema_version"] = 1
    path.write_text(json.dumps(body))
    text = (
        f"{str(path)!r} has TrainResult version 1; this release reads version 2: run the stage "
        "again."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        TrainResult.read(path)


def test_some_widths_are_probed_per_step_on_part_of_the_batch(
    make_config: Make, tmp_path: Path
) -> None:
    adaqat = {**_LAYER, "probing": {"per_step": 3, "samples": 8}}
    result = train(make_config(adaqat=adaqat), Variant.named("learned"), tmp_path)
    moves = [r for r in read_trajectory(tmp_path / "log.jsonl") if r.get("gradients")]
    seen = {g["name"] for r in moves for g in r["gradients"]}
    assert seen == set(result.frozen_at)
    assert all(len(r["gradients"]) <= 3 for r in moves)
    whole = train(make_config(adaqat=_LAYER), Variant.named("learned"), tmp_path / "whole")
    first = next(r for r in read_trajectory(tmp_path / "whole" / "log.jsonl") if r.get("gradients"))
    assert first["step"] == moves[0]["step"]
    assert first["losses"]["live"] != moves[0]["losses"]["live"]
    assert whole.steps == result.steps


def test_a_probe_of_part_of_the_batch_is_compared_with_the_same_part(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adaqat_hw.quant import AdaQatController

    def unchanged(self: AdaQatController) -> list[tuple[str, dict[str, int]]]:
        return [(name, self.bits) for name in self.widths]

    monkeypatch.setattr(AdaQatController, "probes", unchanged)
    config = make_config(adaqat={"probing": {"samples": 8}})
    train(config, Variant.named("learned"), tmp_path)
    moves = [r for r in read_trajectory(tmp_path / "log.jsonl") if r.get("gradients")]
    assert moves
    assert all(len(set(r["losses"].values())) == 1 for r in moves)

"""A training that was stopped anywhere ends with the same bits as one that was not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import RunConfig
from adaqat_hw.train import Variant, load_weights, read_trajectory, train

Make = Callable[..., RunConfig]


OTHER_TRAINING = (
    r"^'.*last\.pt' belongs to a training with another network, configuration, init or teacher "
    r"checkpoint \(digest '[0-9a-f]{12}', now '[0-9a-f]{12}'\); delete it to train from the start, "
    r"or restore what that training began with\.$"
)


class Stopped(Exception):
    pass


def _stop_at(step: int, event: str, error: type[BaseException] = Stopped) -> Callable[..., None]:
    def progress(record: dict[str, Any]) -> None:
        if record["event"] == event and record["step"] >= step:
            raise error

    return progress


def _same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(a, second[name]) for name, a in first.items()
    )


def _outcome(folder: Path) -> tuple[dict[str, Tensor], str, str]:
    plan = folder / "plan.json"
    return (
        load_weights(folder / "checkpoint.pt"),
        (folder / "log.jsonl").read_text(),
        plan.read_text() if plan.exists() else "",
    )


_LAYER = {"granularity": "layer"}
_CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "float": ("float", {}, {}),
    "uniform": ("w3a3", {}, {}),
    "learned": ("learned", {}, {}),
    "averaged": ("learned", {**_LAYER, "probing": {"gradient_ema": 0.5, "every": 2}}, {}),
    "one probe a step": ("learned", {**_LAYER, "probing": {"per_step": 1, "samples": 8}}, {}),
    "to BitOPs": ("learned", {**_LAYER, "rule": "gradient", "budget": {"bitops": 90_000}}, {}),
    "allocated": ("learned", {**_LAYER, "budget": {"bitops": 90_000}}, {}),
    "restarted": ("w3a3", {}, {"restart_at": 0.4, "restart_lr": 0.03, "frozen_norm_epochs": 2}),
    "to compression": ("learned", {"budget": {"compression": 4.8}, "hysteresis": 0.1}, {}),
    "warm-up": ("w3a3", {}, {"lr_warmup_epochs": 1.5, "optimizer": "adamw", "lr": 0.01}),
    "taught": ("learned", {}, {"teacher": "float"}),
}


@pytest.mark.parametrize("case", _CASES)
def test_stopping_anywhere_changes_no_bit(make_config: Make, tmp_path: Path, case: str) -> None:
    name, adaqat, training = _CASES[case]
    config = make_config(adaqat=adaqat, train=training)
    variant = Variant.named(name)
    teacher = None
    if config.train.teacher is not None:
        train(make_config(train={"epochs": 1}), Variant.named("float"), tmp_path / "float")
        teacher = tmp_path / "float" / "checkpoint.pt"
    whole = tmp_path / "whole"
    result = train(config, variant, whole, teacher_checkpoint=teacher)
    weights, log, plan = _outcome(whole)
    # Six steps an epoch: inside the first, inside the second, at the very end of the third.
    for number, stops in enumerate([[(3, "step")], [(9, "step"), (15, "step"), (18, "epoch")]]):
        folder = tmp_path / f"stopped{number}"
        for step, event in stops:
            with pytest.raises(Stopped):
                train(
                    config,
                    variant,
                    folder,
                    progress=_stop_at(step, event),
                    teacher_checkpoint=teacher,
                )
            assert not (folder / "result.json").exists()
        again = train(config, variant, folder, teacher_checkpoint=teacher)
        other_weights, other_log, other_plan = _outcome(folder)
        assert _same(weights, other_weights)
        assert (other_log, other_plan) == (log, plan)
        assert again.model_dump(exclude={"seconds"}) == result.model_dump(exclude={"seconds"})


def test_dropout_resumes_bit_identically_too(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adaqat_hw import nets

    build = nets.build

    def with_dropout(config: Any) -> torch.nn.Module:
        net = build(config)
        return torch.nn.Sequential(net.flatten, torch.nn.Dropout(0.3), *list(net)[1:])

    monkeypatch.setattr(nets, "build", with_dropout)
    config, variant = make_config(), Variant.named("learned")
    train(config, variant, tmp_path / "a")
    with pytest.raises(Stopped):
        train(config, variant, tmp_path / "b", progress=_stop_at(9, "step"))
    train(config, variant, tmp_path / "b")
    assert _same(_outcome(tmp_path / "a")[0], _outcome(tmp_path / "b")[0])


def test_the_log_of_a_resumed_training_has_every_epoch_once(
    make_config: Make, tmp_path: Path
) -> None:
    config, variant = make_config(), Variant.named("learned")
    with pytest.raises(Stopped):
        train(config, variant, tmp_path, progress=_stop_at(15, "step"))
    train(config, variant, tmp_path)
    records = read_trajectory(tmp_path / "log.jsonl")
    assert [r["epoch"] for r in records if r["event"] == "epoch"] == [1, 2, 3, 4]
    widths = [r["step"] for r in records if r["event"] == "widths" and r["gradients"]]
    assert widths == sorted(set(widths))
    assert records[-1]["event"] == "final"


def test_an_interrupt_leaves_a_checkpoint_to_go_on_from(make_config: Make, tmp_path: Path) -> None:
    config, variant = make_config(), Variant.named("w4a4")
    with pytest.raises(KeyboardInterrupt):
        train(config, variant, tmp_path, progress=_stop_at(9, "step", KeyboardInterrupt))
    epochs: list[int] = []
    train(config, variant, tmp_path, progress=lambda r: epochs.append(r.get("epoch", 0)))
    assert min(e for e in epochs if e) == 2


def test_a_training_goes_on_where_it_runs_otherwise(make_config: Make, tmp_path: Path) -> None:
    """Device, worker processes and TensorBoard decide no outcome, so they may change."""
    variant = Variant.named("w4a4")
    with pytest.raises(Stopped):
        train(make_config(), variant, tmp_path, progress=_stop_at(9, "step"))
    config = make_config(train={"device": "cpu"}, data={"workers": 1})
    epochs: list[int] = []
    train(config, variant, tmp_path, progress=lambda r: epochs.append(r.get("epoch", 0)))
    assert min(e for e in epochs if e) == 2


def test_a_finished_training_is_not_trained_again(make_config: Make, tmp_path: Path) -> None:
    config, variant = make_config(), Variant.named("w4a4")
    train(config, variant, tmp_path)
    before = _outcome(tmp_path)
    events: list[str] = []
    train(config, variant, tmp_path, progress=lambda r: events.append(r["event"]))
    assert events == ["final"]
    assert _same(before[0], _outcome(tmp_path)[0])
    assert before[1:] == _outcome(tmp_path)[1:]


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_damaged_last_pt_is_refused_with_advice(
    make_config: Make, tmp_path: Path, keep: float
) -> None:
    config, variant = make_config(), Variant.named("w4a4")
    with pytest.raises(Stopped):
        train(config, variant, tmp_path, progress=_stop_at(9, "step"))
    last = tmp_path / "last.pt"
    data = last.read_bytes()
    last.write_bytes(data[: int(keep * len(data))])
    text = (
        f"Checkpoint '{tmp_path}/last.pt' is damaged or no checkpoint of this program; delete it "
        "and train again."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        train(config, variant, tmp_path)


def test_an_unfinished_training_of_another_configuration_is_refused(
    make_config: Make, tmp_path: Path
) -> None:
    variant = Variant.named("w4a4")
    with pytest.raises(Stopped):
        train(make_config(), variant, tmp_path, progress=_stop_at(9, "step"))
    for other in (make_config("demo-cnn"), make_config(train={"lr": 0.01})):
        with pytest.raises(ConfigError, match=OTHER_TRAINING):
            train(other, variant, tmp_path)
    train(make_config(compare={"uniform": ["2/2"]}), variant, tmp_path)


def test_a_finished_training_of_another_configuration_is_replaced(
    make_config: Make, tmp_path: Path
) -> None:
    variant = Variant.named("w4a4")
    first = train(make_config(), variant, tmp_path)
    second = train(make_config(train={"lr": 0.01}), variant, tmp_path)
    assert first.config_digest != second.config_digest
    assert len([r for r in read_trajectory(tmp_path / "log.jsonl") if r["event"] == "epoch"]) == 4


def test_a_resume_state_with_a_part_missing_is_refused(make_config: Make, tmp_path: Path) -> None:
    config, variant = make_config(), Variant.named("w4a4")
    with pytest.raises(Stopped):
        train(config, variant, tmp_path, progress=_stop_at(9, "step"))
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    del state["generator"]
    torch.save(state, tmp_path / "last.pt")
    text = (
        f"'{tmp_path}/last.pt' lacks a part of the resume state or holds a wrong one "
        "('generator'); delete it and train again."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        train(config, variant, tmp_path)

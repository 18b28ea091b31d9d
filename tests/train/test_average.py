"""Averaged weights: their arithmetic, their restart, what is measured and kept, the resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant import quantize
from adaqat_hw.schema import QuantConfig, RunConfig, TrainConfig
from adaqat_hw.train import Variant, load_weights, read_trajectory, train, training_inputs
from adaqat_hw.train.average import WeightAverage
from adaqat_hw.train.checkpoint import load

Make = Callable[..., RunConfig]


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 2))


def _move(net: nn.Module) -> None:
    with torch.no_grad():
        for tensor in (*net.parameters(), net[1].running_mean, net[1].running_var):
            tensor.add_(torch.rand_like(tensor))


def test_the_average_is_the_recurrence_and_forgets_its_start_sooner() -> None:
    net = _net()
    average = WeightAverage(net, 0.3)
    average.update()
    names = ["0.weight", "1.running_mean", "1.running_var", "1.bias"]
    wanted = {name: net.state_dict()[name].clone() for name in names}
    for count in range(1, 5):
        _move(net)
        average.update()
        decay = min(0.3, (1 + count) / (10 + count))
        for name in names:
            wanted[name] = decay * wanted[name] + (1 - decay) * net.state_dict()[name]
    state = average.state_dict()
    assert state["count"] == 4
    for name in names:
        torch.testing.assert_close(state["averages"][name], wanted[name])
    live = {name: value.clone() for name, value in net.state_dict().items()}
    with average.applied():
        for name in names:
            torch.testing.assert_close(net.state_dict()[name], wanted[name])
        net[1].running_mean.add_(1)  # what changes in the averages there is kept
    assert all(torch.equal(value, live[name]) for name, value in net.state_dict().items())
    wanted["1.running_mean"] = wanted["1.running_mean"] + 1
    assert average.apply()
    for name in names:
        torch.testing.assert_close(net.state_dict()[name], wanted[name])
    assert not average.apply()


def test_the_live_weights_return_after_a_failure() -> None:
    net = _net()
    average = WeightAverage(net, 0.5)
    average.update()
    _move(net)
    live = {name: value.clone() for name, value in net.state_dict().items()}

    def fail() -> None:
        with average.applied():
            assert not torch.equal(net[0].weight, live["0.weight"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert all(torch.equal(value, live[name]) for name, value in net.state_dict().items())


def test_a_restart_begins_at_the_weights_of_its_next_update() -> None:
    net = _net()
    average = WeightAverage(net, 0.9)
    average.update()
    _move(net)
    average.update()
    average.restart()
    live = {name: value.clone() for name, value in net.state_dict().items()}
    with average.applied():  # nothing is averaged: the network stays as it is
        assert torch.equal(net[0].weight, live["0.weight"])
    _move(net)
    average.update()
    assert torch.equal(average.state_dict()["averages"]["0.weight"], net[0].weight)


def test_learned_clips_are_averaged_and_widths_are_not() -> None:
    shape: dict[str, Any] = {"input_shape": (3,), "name": "n", "num_classes": 2}
    net = quantize(_net(), QuantConfig(), **shape)
    average = WeightAverage(net, 0.5)
    average.update()
    names = list(average.state_dict()["averages"])
    assert sum("scaling_impl.value" in name for name in names) == 1
    assert not any("bit_width" in name for name in names)
    assert set(names) >= {name for name, _ in net.named_parameters()}
    with pytest.raises(ValueError, match=r"^the averaged weights are of another network$"):
        WeightAverage(_net(), 0.5).load_state_dict(average.state_dict())


def test_laying_weights_out_anew_loses_no_average() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3))
    before = WeightAverage(net, 0.5)
    before.update()
    after = WeightAverage(net, 0.5)
    after.load_state_dict(before.state_dict())
    net.to(memory_format=torch.channels_last)  # moves the weights' storage
    with torch.no_grad():
        net[0].weight.add_(1)
    after.update()
    average = after.state_dict()["averages"]["0.weight"]
    assert not torch.equal(average, before.state_dict()["averages"]["0.weight"])


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5])
def test_a_decay_that_is_none_is_refused(decay: float) -> None:
    with pytest.raises((ConfigError, ValueError), match="ema_decay"):
        TrainConfig(ema_decay=decay)


def test_the_averaged_weights_are_measured_and_kept(make_config: Make, tmp_path: Path) -> None:
    config = make_config(train={"ema_decay": 0.9})
    result = train(config, Variant.named("w4a4"), tmp_path)
    state = load(tmp_path / "last.pt")
    kept = load_weights(tmp_path / "checkpoint.pt")
    averages = state["average"]["averages"]
    statistics = ("running_mean", "running_var")
    weights = [name for name in averages if not name.endswith(statistics)]
    assert all(torch.equal(kept[name], averages[name]) for name in weights)
    assert any(not torch.equal(kept[name], state["net"][name]) for name in weights)
    # Batch norm follows: recalibrated at the end, averaged before.
    norms = [name for name in averages if name.endswith(statistics)]
    assert norms
    assert not any(torch.equal(kept[name], averages[name]) for name in norms)
    records = read_trajectory(tmp_path / "log.jsonl")
    last = [record for record in records if record["event"] == "epoch"][-1]
    assert last["accuracy"] == result.accuracy_before_recalibration
    plain = train(make_config(), Variant.named("w4a4"), tmp_path / "plain")
    assert plain.accuracy_before_recalibration is None
    assert plain.config_digest != result.config_digest
    # Averaging changes nothing of what is trained.
    other = load(tmp_path / "plain" / "last.pt")["net"]
    assert all(torch.equal(other[name], value) for name, value in state["net"].items())


def test_full_precision_is_averaged_too(make_config: Make, tmp_path: Path) -> None:
    result = train(make_config(train={"ema_decay": 0.9}), Variant.named("float"), tmp_path)
    assert result.accuracy_before_recalibration is not None


def test_a_change_of_widths_restarts_the_average(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restarts: list[int] = []
    updates: list[int] = []
    restart, update = WeightAverage.restart, WeightAverage.update

    def restarted(self: WeightAverage) -> None:
        restarts.append(len(updates))
        restart(self)

    def updated(self: WeightAverage) -> None:
        updates.append(self._count)
        update(self)

    monkeypatch.setattr(WeightAverage, "restart", restarted)
    monkeypatch.setattr(WeightAverage, "update", updated)
    adaqat = {"lr_weights": 1.0, "lr_acts": 1.0, "warmup_epochs": 0, "freeze": {"at": 0.5}}
    config = make_config(train={"ema_decay": 0.9}, adaqat=adaqat)
    train(config, Variant.named("learned"), tmp_path)
    moves = [r for r in read_trajectory(tmp_path / "log.jsonl") if r.get("flips")]
    assert moves
    # The last is the end's, when the averages become the network.
    assert restarts[:-1]
    assert set(restarts[:-1]) >= {move["step"] + 1 for move in moves}
    assert max(restarts[:-1]) <= 12  # frozen at half of 24 steps: from there on it runs
    assert updates[-1] >= 24 - 12 - 2


def test_a_resumed_average_has_the_same_bits(make_config: Make, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(record: dict[str, Any]) -> None:
        if record["event"] == "step" and record["step"] >= 15:
            raise Stopped

    adaqat = {"lr_weights": 1.0, "lr_acts": 1.0, "warmup_epochs": 0, "freeze": {"at": 0.4}}
    config = make_config(train={"ema_decay": 0.8}, adaqat=adaqat)
    for name in ("learned", "float", "w3a3"):
        variant = Variant.named(name)
        train(config, variant, tmp_path / name / "whole")
        with pytest.raises(Stopped):
            train(config, variant, tmp_path / name / "part", progress=stop)
        train(config, variant, tmp_path / name / "part")
        whole, part = (
            load_weights(tmp_path / name / x / "checkpoint.pt") for x in ("whole", "part")
        )
        assert all(torch.equal(value, part[key]) for key, value in whole.items())
        logs = [(tmp_path / name / x / "log.jsonl").read_text() for x in ("whole", "part")]
        assert logs[0] == logs[1]


def test_no_average_changes_no_digest(make_config: Make) -> None:
    variant = Variant.named("float")
    plain, averaged = (
        training_inputs(make_config(train=train), variant)["train"]
        for train in ({}, {"ema_decay": 0.9})
    )
    assert averaged == {**plain, "ema_decay": 0.9}
    assert "ema_decay" not in plain

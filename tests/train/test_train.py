from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adaqat_hw.errors import ConfigError, StageFailed
from adaqat_hw.schema import BitWidthPlan, NetworkSpec, RunConfig, TrainResult
from adaqat_hw.train import Variant, load_weights, read_trajectory, train

Make = Callable[..., RunConfig]


def test_a_training_leaves_its_records_and_no_scratch(make_config: Make, tmp_path: Path) -> None:
    result = train(make_config(), Variant.named("w4a4"), tmp_path)
    names = {"checkpoint.pt", "last.pt", "log.jsonl", "plan.json", "result.json", "spec.json"}
    assert {p.name for p in tmp_path.iterdir()} == names
    assert TrainResult.read(tmp_path / "result.json") == result
    plan = BitWidthPlan.read(tmp_path / "plan.json")
    assert result.plan_digest == plan.digest()
    assert plan.source == "uniform"
    assert [(r.weight_bits, r.act_bits) for r in plan.layers] == [(8, 8), (4, 4), (4, 4), (8, 8)]
    spec = NetworkSpec.read(tmp_path / "spec.json")
    assert [x.name for x in spec.layers] == [r.layer for r in plan.layers]
    assert (result.test_samples, result.epochs, result.steps) == (100, 4, 24)
    assert result.seconds > 0
    assert "torch" in result.tool_versions


def test_batch_norm_is_recalibrated_at_the_end_only_for_widths_frozen_there(
    make_config: Make, tmp_path: Path
) -> None:
    settled = train(make_config(), Variant.named("learned"), tmp_path / "a")
    assert settled.accuracy_before_recalibration is None
    epochs = [r for r in read_trajectory(tmp_path / "a" / "log.jsonl") if r["event"] == "epoch"]
    assert settled.accuracy == epochs[-1]["accuracy"]
    late = make_config(adaqat={"freeze": {"at": 1.0}})
    assert (
        train(late, Variant.named("learned"), tmp_path / "b").accuracy_before_recalibration
        is not None
    )


def test_full_precision_has_no_plan(make_config: Make, tmp_path: Path) -> None:
    result = train(make_config(), Variant.named("float"), tmp_path)
    assert result.plan is None
    assert result.accuracy_before_recalibration is None
    assert not (tmp_path / "plan.json").exists()
    assert not any("quant" in name for name in load_weights(tmp_path / "checkpoint.pt"))


@pytest.mark.parametrize("name", ["float", "w4a4"])
def test_networks_learn_the_digits(make_config: Make, tmp_path: Path, name: str) -> None:
    config = make_config("demo-cnn", data={"limit_train": 800}, train={"epochs": 6, "lr": 0.1})
    result = train(config, Variant.named(name), tmp_path)
    assert result.accuracy > 0.8
    losses = [r["train_loss"] for r in read_trajectory(tmp_path / "log.jsonl") if "train_loss" in r]
    assert losses[-1] < losses[0] / 2


def test_the_learned_widths_are_logged_as_they_move(make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    result = train(config, Variant.named("learned"), tmp_path)
    records = [json.loads(x) for x in (tmp_path / "log.jsonl").read_text().splitlines()]
    moves = [r for r in records if r["event"] == "widths" and r["gradients"]]
    # 6 steps an epoch: one epoch of warm-up, frozen at 0.8 of 24 steps.
    assert [r["step"] for r in moves] == list(range(6, 20))
    assert {f["reason"] for r in records for f in r.get("freezes", [])} == {"schedule"}
    assert result.frozen_at == {"weights": 20, "acts": 20}
    for record in moves:
        assert set(record["losses"]) == {"live", "weights", "acts"}
        bits = {name: math.ceil(real) for name, real in record["real"].items()}
        assert record["bits"] == bits
        assert record["hard_loss"] == bits["weights"] * bits["acts"]
    assert moves[0]["bits"] == {"weights": 8, "acts": 8}
    flips = [f for r in moves for f in r["flips"]]
    assert flips
    final = records[-1]["bits"]
    assert final["weights"] < 8
    plan = BitWidthPlan.read(tmp_path / "plan.json")
    assert plan.source == "adaqat"
    assert {r.weight_bits for r in plan.layers[1:-1]} == {final["weights"]}
    assert {r.act_bits for r in plan.layers[1:-1]} == {final["acts"]}
    assert [r["accuracy"] for r in records if r["event"] == "epoch"]


def test_widths_per_layer_get_a_name_each(make_config: Make, tmp_path: Path) -> None:
    config = make_config(adaqat={"granularity": "layer"})
    result = train(config, Variant.named("learned"), tmp_path)
    assert set(result.frozen_at) == {"weights:fc2", "weights:fc3", "acts:relu1", "acts:relu2"}


def test_freezing_at_the_very_end_counts_as_not_frozen(make_config: Make, tmp_path: Path) -> None:
    result = train(make_config(adaqat={"freeze": {"at": 1.0}}), Variant.named("learned"), tmp_path)
    assert result.frozen_at == {"weights": None, "acts": None}
    real = read_trajectory(tmp_path / "log.jsonl")[-1]["real"]
    assert all(value == int(value) for value in real.values())


@pytest.mark.parametrize("frozen_norms", [0, 3])
def test_probes_see_the_weights_of_the_live_loss(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frozen_norms: int
) -> None:
    """With the widths pinned, a probe at the live widths must give the live loss exactly.

    Also where batch norm trains with its running statistics, which probes do not use.
    """
    from adaqat_hw.quant import AdaQatController

    def unchanged(self: Any) -> list[tuple[str, dict[str, int]]]:
        return [(name, self.bits) for name in self.widths]

    monkeypatch.setattr(AdaQatController, "probes", unchanged)
    config = make_config(train={"frozen_norm_epochs": frozen_norms})
    train(config, Variant.named("learned"), tmp_path)
    moves = [r for r in read_trajectory(tmp_path / "log.jsonl") if r.get("gradients")]
    assert moves
    for record in moves:
        assert record["losses"]["weights"] == record["losses"]["live"] == record["losses"]["acts"]


def test_probes_leave_no_trace_on_the_weights(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Widths that never move: learning them must end where the uniform training ends."""
    config = make_config(adaqat={"lr_weights": 1e-12, "lr_acts": 1e-12}, train={"weight_decay": 0})
    train(config, Variant.named("learned"), tmp_path / "learned")
    train(make_config(train={"weight_decay": 0}), Variant.named("w8a8"), tmp_path / "uniform")
    learned = load_weights(tmp_path / "learned" / "checkpoint.pt")
    uniform = load_weights(tmp_path / "uniform" / "checkpoint.pt")
    trained = [n for n in learned if n.endswith("weight") and ".fc" in n]
    assert trained
    assert all(torch.equal(learned[n], uniform[n]) for n in trained)


def test_a_plan_is_trained_as_given(make_config: Make, tmp_path: Path) -> None:
    train(make_config(), Variant.named("w4a4"), tmp_path / "a")
    plan = BitWidthPlan.read(tmp_path / "a" / "plan.json")
    rows = list(plan.layers)
    rows[1] = rows[1].model_copy(update={"weight_bits": 3})
    mine = plan.model_copy(update={"layers": tuple(rows), "source": "manual"})
    result = train(make_config(), Variant.named("mine", mine), tmp_path / "b")
    assert BitWidthPlan.read(tmp_path / "b" / "plan.json") == mine
    assert result.mode == "plan"


def test_the_callers_random_state_and_threads_are_left_alone(
    make_config: Make, tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    state = torch.get_rng_state()
    train(make_config(train={"epochs": 1}), Variant.named("float"), tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_divergence_is_named_with_its_step(make_config: Make, tmp_path: Path) -> None:
    config = make_config(train={"lr": 1e30, "epochs": 8})
    text = (
        r"^train/float failed: the loss became (nan|inf) at step \d+ with learning rate "
        r"\d\S*e\+29: lower train\.lr \(now 1e\+30\)$"
    )
    with pytest.raises(StageFailed, match=text):
        train(config, Variant.named("float"), tmp_path)


def test_network_and_data_must_fit(make_config: Make, tmp_path: Path) -> None:
    config = make_config(options={"input_shape": [1, 4, 4]})
    text = (
        "Network 'mlp' takes inputs of shape (1, 4, 4), data set 'digits' gives (1, 8, 8); set "
        "network.options.input_shape or choose another network."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        train(config, Variant.named("float"), tmp_path)
    config = make_config(options={"num_classes": 7})
    text = (
        "Network 'mlp' has 7 outputs, data set 'digits' has 10 classes; set "
        "network.options.num_classes."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        train(config, Variant.named("float"), tmp_path)


def test_adam_trains_too(make_config: Make, tmp_path: Path) -> None:
    config = make_config(data={"limit_train": 800}, train={"optimizer": "adam", "lr": 0.01})
    assert train(config, Variant.named("w4a4"), tmp_path).accuracy > 0.5


def test_an_epoch_of_the_demo_network_takes_well_under_a_second(
    make_config: Make, tmp_path: Path
) -> None:
    config = make_config(
        "demo-cnn",
        data={"limit_train": 1400},
        train={"epochs": 3, "batch_size": 64},
        adaqat={"warmup_epochs": 0, "freeze": {"at": 1.0}},
    )
    started = time.process_time()
    train(config, Variant.named("learned"), tmp_path)
    assert (time.process_time() - started) / 3 < 1.0


def test_nesterov_changes_the_steps_of_sgd(make_config: Make, tmp_path: Path) -> None:
    weights = [
        load_weights(path / "checkpoint.pt")
        for nesterov in (False, True)
        if train(
            make_config(train={"nesterov": nesterov}),
            Variant.named("float"),
            path := tmp_path / str(nesterov),
        )
    ]
    assert weights[0].keys() == weights[1].keys()
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])

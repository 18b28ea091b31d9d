from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from adaqat_hw.errors import ToolNotFound
from adaqat_hw.schema import RunConfig
from adaqat_hw.train import Variant, read_trajectory, train
from adaqat_hw.train.tensorboard import scalars

Make = Callable[..., RunConfig]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float, int]]:
    """Put a writer that remembers in the place of TensorBoard's."""
    written: list[tuple[str, float, int]] = []

    class Writer:
        def __init__(self, log_dir: str, purge_step: int | None) -> None:
            written.append((log_dir, -1.0, purge_step or 0))

        def add_scalar(self, tag: str, value: float, step: int) -> None:
            written.append((tag, value, step))

        def close(self) -> None:
            written.append(("closed", 0.0, 0))

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return written


def test_every_number_of_a_record_gets_a_tag() -> None:
    record = {
        "event": "widths",
        "step": 7,
        "epoch": 1,
        "real": {"weights": 3.5},
        "bits": {"weights": 4},
        "hard_loss": 16.0,
        "hardware_lambda": 0.15,
        "bitops": 1000,
        "budget": {"limit": 900, "met": False, "kind": "bitops"},
        "lr": None,
        "losses": {"live": 2.0, "weights": 2.5},
        "gradients": [{"name": "weights", "task": -0.5, "hardware": 0.6, "applied": 0.1}],
        "flips": [{"name": "weights", "before": 5, "after": 4, "count": 2}],
        "freezes": [],
    }
    assert dict(scalars(record)) == {
        "width/weights": 3.5,
        "bits/weights": 4,
        "hardware/hard_loss": 16,
        "hardware/lambda": 0.15,
        "hardware/bitops": 1000,
        "budget/limit": 900,
        "loss/live": 2.0,
        "loss/weights": 2.5,
        "gradient/weights/task": -0.5,
        "gradient/weights/hardware": 0.6,
        "gradient/weights/applied": 0.1,
        "flips/weights": 2,
    }


def test_the_rate_of_an_epochs_first_step_is_not_written_at_its_last() -> None:
    assert dict(scalars({"event": "epoch", "step": 6, "lr": 0.1, "accuracy": 0.5})) == {
        "test/accuracy": 0.5
    }


def test_a_training_writes_what_its_log_says(
    make_config: Make, tmp_path: Path, events: list[tuple[str, float, int]]
) -> None:
    config = make_config(train={"tensorboard": True, "epochs": 2}, adaqat={"warmup_epochs": 0})
    train(config, Variant.named("learned"), tmp_path)
    assert events[0] == (str(tmp_path / "tensorboard"), -1.0, 0)
    assert events[-1][0] == "closed"
    for record in read_trajectory(tmp_path / "log.jsonl"):
        for tag, value in scalars(record):
            assert (tag, value, record["step"]) in events
    tags = {tag for tag, _, _ in events}
    assert {"test/accuracy", "train/loss", "train/lr", "width/weights", "bits/acts"} <= tags
    assert {"gradient/acts/applied", "hardware/hard_loss", "hardware/lambda"} <= tags


def test_a_resumed_training_drops_events_of_later_steps(
    make_config: Make, tmp_path: Path, events: list[tuple[str, float, int]]
) -> None:
    config = make_config(train={"tensorboard": True})

    def stop(record: dict[str, Any]) -> None:
        if record["step"] >= 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, Variant.named("w4a4"), tmp_path, progress=stop)
    assert events[-1][0] == "closed"
    events.clear()
    train(config, Variant.named("w4a4"), tmp_path)
    assert events[0] == (str(tmp_path / "tensorboard"), -1.0, 6)


def test_without_the_package_it_is_refused_before_anything_is_done(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    config = make_config(train={"tensorboard": True})
    text = (
        "train.tensorboard is true and the package 'tensorboard' is not installed; pip install "
        "'adaqat-hw[tensorboard]' or set it to false (log.jsonl has the same numbers)."
    )
    with pytest.raises(ToolNotFound, match=f"^{re.escape(text)}$") as error:
        train(config, Variant.named("float"), tmp_path / "a")
    assert error.value.exit_code == 3
    assert not (tmp_path / "a").exists()


def test_real_event_files_can_be_read(make_config: Make, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the optional package tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = make_config(train={"tensorboard": True, "epochs": 2}, adaqat={"warmup_epochs": 0})
    result = train(config, Variant.named("learned"), tmp_path)
    read = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert read.Scalars("test/accuracy")[-1].value == pytest.approx(result.accuracy)
    assert len(read.Scalars("width/weights")) > 3

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import AdaqatConfig, FreezeConfig, TrainConfig
from adaqat_hw.train.schedule import make_schedule


@given(epochs=st.integers(1, 300), batch=st.integers(1, 512), samples=st.integers(2, 60_000))
def test_the_cosine_falls_from_lr_towards_zero(epochs: int, batch: int, samples: int) -> None:
    schedule = make_schedule(TrainConfig(epochs=epochs, batch_size=batch, lr=0.1), samples)
    assert schedule.steps == epochs * max(1, samples // batch)
    assert schedule.lr_at(0) == pytest.approx(0.1)
    rates = [schedule.lr_at(s) for s in (0, schedule.steps // 2, schedule.steps - 1)]
    assert rates == sorted(rates, reverse=True)
    # Half a cosine sampled at each step: at the last one it is one step before 0.
    assert rates[-1] == pytest.approx(0.05 * (1 + math.cos(math.pi * (1 - 1 / schedule.steps))))
    assert schedule.lr_at(schedule.steps) == pytest.approx(0, abs=1e-12)


def test_widths_move_between_warm_up_and_freeze_only() -> None:
    adaqat = AdaqatConfig(warmup_epochs=2, freeze=FreezeConfig(at=0.5))
    schedule = make_schedule(TrainConfig(epochs=10, batch_size=10), 35, adaqat)
    assert schedule.steps_per_epoch == 3
    moving = [s for s in range(schedule.steps) if schedule.widths_may_move(s)]
    assert moving == list(range(6, 15))


def test_a_batch_larger_than_the_data_is_one_step() -> None:
    assert make_schedule(TrainConfig(epochs=2, batch_size=64), 10).steps == 2


def test_a_warm_up_that_reaches_the_freeze_is_refused() -> None:
    adaqat = AdaqatConfig(warmup_epochs=5, freeze=FreezeConfig(at=0.5))
    text = (
        "adaqat.warmup_epochs = 5 lasts until adaqat.freeze.at = 0.5 of 10 epochs, so no bit-width "
        "could ever move; lower warmup_epochs, or raise freeze.at or train.epochs."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        make_schedule(TrainConfig(epochs=10), 1000, adaqat)


def test_one_sample_is_refused() -> None:
    text = "The training set has 1 samples; batch norm needs at least 2: raise data.limit_train."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        make_schedule(TrainConfig(), 1)


def test_the_learning_rate_rises_before_it_falls() -> None:
    train = TrainConfig(epochs=10, batch_size=10, lr=0.5, lr_warmup_epochs=1.5)
    schedule = make_schedule(train, 40)
    rates = [schedule.lr_at(s) for s in range(40)]
    assert rates[:6] == pytest.approx([0.5 * (s + 1) / 6 for s in range(6)])
    assert rates[5] == rates[6] == max(rates)
    assert rates[6:] == sorted(rates[6:], reverse=True)
    assert schedule.lr_at(40) == pytest.approx(0, abs=1e-12)
    assert schedule.lr_at(23) == pytest.approx(0.25)  # half of what is left


def test_a_rise_over_the_whole_training_is_refused() -> None:
    text = "train.lr_warmup_epochs = 2.0 takes all of 2 epochs; lower it or raise train.epochs."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        make_schedule(TrainConfig(epochs=2, lr_warmup_epochs=2), 1000)


def test_the_learning_phase_goes_from_0_to_1() -> None:
    adaqat = AdaqatConfig(warmup_epochs=2, freeze=FreezeConfig(at=0.5))
    schedule = make_schedule(TrainConfig(epochs=10, batch_size=10), 40, adaqat)
    fractions = [schedule.learned_fraction(s) for s in (0, 8, 14, 20, 39)]
    assert fractions == [0, 0, 0.5, 1, 1]


def test_the_cosine_starts_again_at_a_restart() -> None:
    train = TrainConfig(epochs=10, batch_size=10, lr=0.1, restart_at=0.4, restart_lr=0.03)
    schedule = make_schedule(train, 50)
    rates = [schedule.lr_at(step) for step in range(schedule.steps)]
    assert rates[:20] == sorted(rates[:20], reverse=True)
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert (rates[0], rates[20]) == (0.1, 0.03)
    assert max(rates[19], rates[-1]) < 0.001


def test_a_rise_of_the_learning_rate_up_to_the_restart_is_refused() -> None:
    train = TrainConfig(epochs=10, lr_warmup_epochs=4, restart_at=0.4, restart_lr=0.03)
    text = (
        "train.lr_warmup_epochs = 4.0 lasts until train.restart_at = 0.4 of 10 epochs; lower "
        "lr_warmup_epochs or raise restart_at."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        make_schedule(train, 1000)


def test_a_restart_behind_the_last_step_is_refused() -> None:
    train = TrainConfig(epochs=2, batch_size=10, restart_at=0.999, restart_lr=0.03)
    text = "train.restart_at = 0.999 leaves no step of 6 behind it; lower it or raise train.epochs."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        make_schedule(train, 30)

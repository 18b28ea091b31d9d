from __future__ import annotations

import math
import re

import pytest
import torch

from adaqat_hw.errors import StageFailed
from adaqat_hw.train.meter import LossMeter, check_every


def test_the_mean_is_the_mean_of_python_numbers() -> None:
    meter = LossMeter("train/float", 0.1, 1)
    losses = [torch.tensor(value) for value in (0.1, 2.7, 1e-3)]
    for step, loss in enumerate(losses):
        meter.add(loss, step, 0.1)
    assert float(meter.mean()) == sum(float(loss) for loss in losses) / 3
    meter.reset()
    assert float(meter.mean()) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_divergence_is_named(bad: float) -> None:
    meter = LossMeter("train/float", 0.3, 1)
    meter.add(torch.tensor(1.0), 6, 0.25)
    with pytest.raises(
        StageFailed,
        match=rf"^train/float failed: the loss became {bad} at step 7 with learning rate 0\.25: "
        r"lower train\.lr \(now 0\.3\)$",
    ):
        meter.add(torch.tensor(bad), 7, 0.25)


def test_between_checks_nothing_is_read_and_nothing_is_lost() -> None:
    meter = LossMeter("train/float", 0.3, 4)
    for step, value in enumerate((1.0, math.nan, 1.0)):
        meter.add(torch.tensor(value), step, 0.3)
    text = (
        "train/float failed: the loss became nan at step 3 or up to 4 before with learning rate "
        "0.3: lower train.lr (now 0.3)"
    )
    with pytest.raises(StageFailed, match=f"^{re.escape(text)}$"):
        meter.add(torch.tensor(1.0), 3, 0.3)
    meter.reset()
    meter.add(torch.tensor(math.nan), 4, 0.3)
    text = (
        "train/float failed: the loss became nan at step 4 or up to 4 before with learning rate "
        "0.3: lower train.lr (now 0.3)"
    )
    with pytest.raises(StageFailed, match=f"^{re.escape(text)}$"):
        meter.check(4, 0.3)


def test_a_gpu_is_asked_rarely() -> None:
    assert check_every(torch.device("cpu")) == 1
    assert check_every(torch.device("cuda", 0)) >= 20

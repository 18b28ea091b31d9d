"""Which device a training takes; GPUs are made up, for this needs none."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import RunConfig
from adaqat_hw.train import Variant, train
from adaqat_hw.train.world import choose_device


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[torch.device]]:
    """Pretend that there are so many GPUs; return the list of those made current."""

    def pretend(count: int) -> list[torch.device]:
        chosen: list[torch.device] = []
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
        return chosen

    return pretend


@pytest.mark.parametrize(
    ("name", "count", "chosen"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda:0"),
        ("cpu", 2, "cpu"),
        ("cuda", 2, "cuda:0"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_the_device_is_the_named_one(
    gpus: Callable[[int], list[torch.device]], name: str, count: int, chosen: str
) -> None:
    current = gpus(count)
    assert choose_device(name) == torch.device(chosen)
    assert [str(x) for x in current] == ([chosen] if chosen != "cpu" else [])


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_each_process_gets_its_own_gpu(
    gpus: Callable[[int], list[torch.device]], name: str
) -> None:
    gpus(4)
    assert [str(choose_device(name, rank, 3)) for rank in range(3)] == [
        "cuda:0",
        "cuda:1",
        "cuda:2",
    ]


@pytest.mark.parametrize(
    ("name", "count", "rank", "size", "message"),
    [
        (
            *("cuda", 0, 0, 1),
            "train.device is 'cuda', so it needs GPU 0, and here is no GPU that PyTorch can use; "
            "set 'cpu' or 'auto', or start fewer processes.",
        ),
        (
            *("cuda:7", 2, 0, 1),
            "train.device is 'cuda:7', so it needs GPU 7, and here is 2 GPUs that PyTorch can use; "
            "set 'cpu' or 'auto', or start fewer processes.",
        ),
        (
            *("auto", 2, 2, 3),
            "train.device is 'auto', so process 2 of this machine needs GPU 2, and here is 2 GPUs "
            "that PyTorch can use; set 'cpu' or 'auto', or start fewer processes.",
        ),
        (
            *("cuda:1", 2, 0, 2),
            "train.device is 'cuda:1' for 2 processes, which would share that GPU; set 'cuda' to "
            "give each process its own.",
        ),
    ],
)
def test_a_gpu_that_is_not_there_is_refused(
    gpus: Callable[[int], list[torch.device]],
    name: str,
    count: int,
    rank: int,
    size: int,
    message: str,
) -> None:
    gpus(count)
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        choose_device(name, rank, size)


def test_training_refuses_before_it_writes(
    make_config: Callable[..., RunConfig],
    gpus: Callable[[int], list[torch.device]],
    tmp_path: Path,
) -> None:
    gpus(0)
    text = (
        "train.device is 'cuda', so it needs GPU 0, and here is no GPU that PyTorch can use; "
        "set 'cpu' or 'auto', or start fewer processes."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        train(make_config(train={"device": "cuda"}), Variant.named("float"), tmp_path / "a")
    assert not (tmp_path / "a").exists()

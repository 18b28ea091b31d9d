"""What a step fetches from the device. On a GPU every such fetch makes the step wait for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from adaqat_hw import data, nets
from adaqat_hw.schema import RunConfig
from adaqat_hw.train import Variant, step
from adaqat_hw.train.checkpoint import save
from adaqat_hw.train.loss import Teacher, load_teacher
from adaqat_hw.train.session import open_session
from adaqat_hw.train.step import Stepper
from adaqat_hw.train.world import World

Make = Callable[..., RunConfig]
# Each needs a value, or a shape that depends on values, on the host.
_FETCHES = {"_local_scalar_dense", "nonzero", "unique", "_unique2", "masked_select", "equal"}


class _Fetches(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in _FETCHES:
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def _watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count values that reach the host: one by one, and as lists."""
    to_list = torch.Tensor.tolist
    with _Fetches() as mode, monkeypatch.context() as patch:

        def tolist(tensor: torch.Tensor) -> Any:
            mode.seen["tolist"] += 1
            return to_list(tensor)

        patch.setattr(torch.Tensor, "tolist", tolist)
        yield mode.seen


def _stepper(config: RunConfig, name: str, folder: Path | None = None) -> tuple[Stepper, Any]:
    world = World(torch.device("cpu"))
    dataset = data.load(config.data, config.seed)
    session = open_session(config, Variant.named(name), dataset, None, world)
    taught = None
    if folder is not None:
        save(folder / "teacher.pt", dict(nets.build(config.network).state_dict()))
        taught = Teacher(
            load_teacher(config.network, folder / "teacher.pt"), config.train, world.device
        )
    batches = dataset.train_batches(32, 30, session.generator)
    return Stepper(session, config, "train/x", dataset, taught), batches


@pytest.fixture(autouse=True)
def _rare_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check losses as rarely as on a GPU."""
    monkeypatch.setattr(step, "check_every", lambda device: 50)


@pytest.mark.parametrize("name", ["float", "w4a4"])
@pytest.mark.parametrize("network", ["mlp", "demo-cnn", "resnet20"])
def test_a_step_fetches_nothing(
    make_config: Make, monkeypatch: pytest.MonkeyPatch, name: str, network: str
) -> None:
    options = {"input_shape": [1, 8, 8]} if network == "resnet20" else {}
    stepper, batches = _stepper(make_config(network, options), name)
    stepper.step(*next(batches))  # constants are made once
    with _watched(monkeypatch) as seen:
        for _ in range(3):
            stepper.step(*next(batches))
    assert not seen


@pytest.mark.parametrize(
    ("granularity", "samples"), [("network", None), ("layer", None), ("network", 8)]
)
def test_a_probing_step_fetches_once(
    make_config: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    granularity: str,
    samples: int | None,
) -> None:
    adaqat = {"granularity": granularity, "probing": {"every": 2, "samples": samples}}
    config = make_config(adaqat={**adaqat, "warmup_epochs": 0, "freeze": {"at": 1.0}})
    stepper, batches = _stepper(config, "learned", tmp_path)
    stepper.step(*next(batches))
    stepper.step(*next(batches))
    fetched = []
    for _ in range(6):
        with _watched(monkeypatch) as seen:
            stepper.step(*next(batches))
        fetched.append(dict(seen))
    assert fetched == [{"tolist": 1}, {}] * 3


def test_the_watch_sees_what_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.tensor([1.0, 2.0])
    for fetch in (lambda: x[0].item(), lambda: float(x[0]), lambda: bool(x.sum() > 1), x.nonzero):
        with _watched(monkeypatch) as seen:
            fetch()
        assert seen

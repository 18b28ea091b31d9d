"""Two processes that train one network do what one process does."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adaqat_hw import nets
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import RunConfig, TrainResult
from adaqat_hw.train import Variant, load_weights, loop, read_trajectory, train, world
from adaqat_hw.train.world import World, join_world

Make = Callable[..., RunConfig]
_WORKER = Path(__file__).with_name("ddp_worker.py")
_ROOT = Path(__file__).resolve().parents[2]
_TIMEOUT = 300


def _environment(**extra: str) -> dict[str, str]:
    path = os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **extra}


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def plain_net() -> Any:
    spec = importlib.util.spec_from_file_location("ddp_worker", _WORKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.plain_net


def _together(config: RunConfig, folder: Path) -> None:
    (folder / "config.json").write_text(config.model_dump_json())
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": "2"}
    workers = [
        subprocess.Popen(
            [sys.executable, str(_WORKER), str(folder / "config.json"), str(folder)],
            env=_environment(**rendezvous, RANK=str(rank), LOCAL_RANK=str(rank)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [worker.communicate(timeout=_TIMEOUT)[1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(errors)


def test_two_processes_learn_what_one_learns(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_net: Any
) -> None:
    config = make_config(
        adaqat={"granularity": "layer", "probing": {"every": 2}, "lr_weights": 1.0}
    )
    _together(config, tmp_path)
    first, second = (json.loads((tmp_path / f"widths-{r}.json").read_text()) for r in (0, 1))
    assert first == second
    assert len(first) > 5

    monkeypatch.setattr(nets, "build", plain_net)
    alone = train(config, Variant.named("learned"), tmp_path / "alone")
    shared = tmp_path / "plain"
    logs = [read_trajectory(x / "log.jsonl") for x in (tmp_path / "alone", shared)]
    assert [r["event"] for r in logs[0]] == [r["event"] for r in logs[1]]
    assert any(record.get("flips") for record in logs[0])
    for one, two in zip(*logs, strict=True):
        assert one["bits"] == two["bits"]
        assert one["real"] == pytest.approx(two["real"], abs=1e-4)
        for key in ("train_loss", "accuracy", "lr"):
            assert one.get(key) == pytest.approx(two.get(key), abs=2e-2)
    assert (tmp_path / "alone" / "plan.json").read_text() == (shared / "plan.json").read_text()
    mine, theirs = (load_weights(x / "checkpoint.pt") for x in (tmp_path / "alone", shared))
    for name, value in mine.items():
        assert torch.allclose(value, theirs[name], atol=1e-3), name
    assert alone.processes == 1

    # With batch norm and dropout, a training resumed by both ends with the same bits.
    whole, again = (load_weights(tmp_path / x / "checkpoint.pt") for x in ("whole", "again"))
    assert all(torch.equal(value, again[name]) for name, value in whole.items())
    texts = [(tmp_path / x / "log.jsonl").read_text() for x in ("whole", "again")]
    assert texts[0] == texts[1]

    first, second = (json.loads((tmp_path / f"differences-{r}.json").read_text()) for r in (0, 1))
    assert first == second
    assert [len(differences) for differences in first] == [6]
    choice = TrainResult.read(tmp_path / "budget" / "result.json").freeze_choice
    assert choice is not None
    assert choice.difference == pytest.approx(sum(first[0]) / 6)

    first, second = (json.loads((tmp_path / f"moves-{r}.json").read_text()) for r in (0, 1))
    assert first == second
    assert len(first) == 3  # one for each round

    # Averaged weights and statistics are everywhere the same, resumed or not.
    first, second = (json.loads((tmp_path / f"averages-{r}.json").read_text()) for r in (0, 1))
    assert first == second
    assert first[0] == first[1]
    assert len(first[0]) > 10
    whole, again = (
        load_weights(tmp_path / x / "checkpoint.pt") for x in ("averaged", "averaged-again")
    )
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def test_torchrun_trains_by_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(
        'name = "tiny"\n[network]\nname = "mlp"\n[data]\nname = "digits"\nlimit_train = 200\n'
        'limit_test = 50\n[train]\nepochs = 2\nbatch_size = 32\nthreads = 1\ninit = "float"\n'
        "[adaqat]\nlr_weights = 0.1\n"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"),
            *("--master-port", str(_free_port()), "-m", "adaqat_hw", "train"),
            *("tiny.toml", "--runs", "runs"),
        ],
        cwd=tmp_path,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("top-1") == 1
    for name in ("float", "learned"):
        folder = tmp_path / "runs" / "tiny" / "train" / name
        assert (folder / "stage.json").is_file()
        epochs = [r for r in read_trajectory(folder / "log.jsonl") if r["event"] == "epoch"]
        assert [r["epoch"] for r in epochs] == [1, 2]
    notes = (tmp_path / "runs" / "tiny" / "run.json").read_text().splitlines()
    assert [json.loads(x)["variant"] for x in notes] == ["float", "learned"]


def test_a_batch_that_cannot_be_shared_is_refused(make_config: Make) -> None:
    from adaqat_hw import data

    config = make_config()
    batches = data.load(config.data, 0).train_batches(32, 1, torch.Generator(), rank=0, world=3)
    text = "train.batch_size = 32 cannot be shared evenly by 3 processes; choose a multiple of 3."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        next(iter(batches))


def test_alone_everything_is_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    world = join_world("cpu")
    assert world == World(torch.device("cpu"))
    net, values = torch.nn.BatchNorm1d(2), torch.tensor([1.0, 2.0])
    assert world.share(net) is net
    assert world.mean(values) is values
    assert world.gather("x") == ["x"]
    assert world.leads


def test_cuda_graphs_are_refused_for_several_processes(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = World(torch.device("cpu"), 0, 2)
    monkeypatch.setattr(loop, "join_world", lambda device: two)
    config = make_config(train={"compile": True, "compile_mode": "reduce-overhead"})
    message = (
        "train.compile_mode is 'reduce-overhead' for 2 processes: CUDA graphs and the averaging of "
        "gradients between processes do not go together; set 'default' or train in one process."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        train(config, Variant.named("float"), tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_buffers_are_left_alone_under_either_name_of_the_switch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[dict[str, object]] = []

    class Before:  # torch 2.12
        def __init__(
            self, net: object, device_ids: object = None, broadcast_buffers: bool = True
        ) -> None:
            given.append({"broadcast_buffers": broadcast_buffers})

    class Now:  # torch 2.13
        def __init__(
            self,
            net: object,
            device_ids: object = None,
            broadcast_buffers: bool | None = None,
            forward_sync_buffers: bool | None = None,
        ) -> None:
            given.append({"broadcast": broadcast_buffers, "forward": forward_sync_buffers})

    for kind in (Before, Now):
        monkeypatch.setattr(world, "DistributedDataParallel", kind)
        World(torch.device("cpu"), 0, 2).share(torch.nn.Linear(1, 1))
    assert given == [{"broadcast_buffers": False}, {"broadcast": None, "forward": False}]

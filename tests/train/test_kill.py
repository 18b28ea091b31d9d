"""A training killed by the system, at any moment, goes on as if nothing had been."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from adaqat_hw.schema import load_config
from adaqat_hw.train import Variant, load_weights, train

_ROOT = Path(__file__).resolve().parents[2]
_CONFIG = """name = "k"
[network]
name = "mlp"
[data]
name = "digits"
limit_train = 400
limit_test = 100
[train]
epochs = 20
batch_size = 32
threads = 1
checkpoint_every = 1
[adaqat]
granularity = "layer"
lr_weights = 0.1
lr_acts = 0.05
"""


def _start(folder: Path) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "adaqat_hw", "train", "k.toml", "--quiet"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _lines(path: Path) -> int:
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def test_kill_9_and_the_same_command_again(tmp_path: Path) -> None:
    (tmp_path / "k.toml").write_text(_CONFIG)
    folder = tmp_path / "runs" / "k" / "train" / "learned"
    victim = _start(tmp_path)
    try:
        while _lines(folder / "log.jsonl") < 40 and victim.poll() is None:
            time.sleep(0.002)
    finally:
        victim.kill()
    assert victim.wait() == -signal.SIGKILL
    assert (folder / "last.pt").exists()
    assert not (folder / "result.json").exists()
    again = _start(tmp_path)
    whole = tmp_path / "whole"
    train(load_config(tmp_path / "k.toml"), Variant.named("learned"), whole)
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    assert (folder / "log.jsonl").read_text() == (whole / "log.jsonl").read_text()
    mine, theirs = (load_weights(x / "checkpoint.pt") for x in (folder, whole))
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())

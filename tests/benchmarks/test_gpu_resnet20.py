from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu_resnet20 import summary

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu_resnet20.py"
SMALL = ("--device", "cpu", "--data", "random", "--limit", "32", "--batch", "16", "--epochs", "1")


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-W", "ignore", str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def records(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_it_stops_in_time_and_goes_on_to_the_summary(tmp_path):
    out = tmp_path / "out"
    first = run(*SMALL, "--out", str(out), "--time-limit", "0")
    assert first.returncode == 75, first.stderr
    assert first.stderr == (
        "stopped in training 'float' after epoch 1; run the same command again to go on\n"
    )
    assert (out / "float" / "last.pt").exists()
    assert not (out / "float" / "result.json").exists()

    done = run(*SMALL, "--out", str(out))
    assert done.returncode == 0, done.stderr
    rows = records(out)
    # The stopped epoch was not trained again.
    assert [r["training"] for r in rows if r["event"] == "epoch"] == ["float", "w3a4", "learned"]
    finished = {r["training"]: r for r in rows if r["event"] == "done"}
    assert list(finished) == ["float", "w3a4", "learned"]
    assert finished["w3a4"]["bitops"] == 509_648_896
    assert finished["learned"]["bitops"] <= 509_648_896
    assert (out / "learned" / "plan.json").exists()
    assert (out / "summary.md").read_text() == summary(rows)
    assert done.stdout.endswith(summary(rows) + "\n")
    assert sum(p.stat().st_size for p in out.rglob("*") if p.is_file()) < 64 * 2**20

    again = run(*SMALL, "--out", str(out))
    assert again.returncode == 0
    assert len(records(out)) == len(rows) + 1  # it started, and had nothing to do


def test_the_summary_takes_steps_of_epochs_that_only_trained():
    rows = [
        {
            "event": "start",
            "device": "GPU",
            "versions": {"torch": "2"},
            "settings": {"seed": 3, "batch": 512},
        },
        *(
            {"event": "epoch", "training": "float", "epoch": e, "ms_per_step": m, "accuracy": a}
            for e, m, a in ((1, 900.0, None), (2, 2.0, None), (3, 2.5, None), (3, 2.2, None))
        ),
        {"event": "epoch", "training": "float", "epoch": 4, "ms_per_step": 9.0, "accuracy": 0.9},
        {
            **{"event": "done", "training": "float", "accuracy": 0.9, "seconds": 90.0},
            **{"epochs": 4, "samples": 10_000, "data": "CIFAR-10 (JPEG)"},
        },
    ]
    text = summary(rows)
    assert "| float | 4 | - | 90.00 % | - | 2.20 | 1.5 |" in text
    assert text.endswith(
        "CIFAR-10 (JPEG), n = 10,000 test images, one seed (3), batch 512; GPU; torch 2. Minutes "
        "include compiling and evaluations.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ((), 2, "error: --out and --data are needed (or --pack alone)"),
        (
            ("--device", "cuda:7", "--data", "random", "--epochs", "1"),
            1,
            r"error: train.device is 'cuda:7', so it needs GPU 7, and here is .*; set 'cpu' or "
            r"'auto', or start fewer processes.",
        ),
    ],
)
def test_what_cannot_be_done_is_said(arguments, status, message, tmp_path):
    out = ("--out", str(tmp_path)) if arguments else ()
    done = run(*arguments, *out)
    assert done.returncode == status
    assert re.fullmatch(message if arguments else re.escape(message), done.stderr.strip())

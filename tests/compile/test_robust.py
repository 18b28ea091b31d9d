"""Builds that are killed and started again, or twice at once."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from adaqat_hw.errors import ConfigError
from adaqat_hw.run import stage_lock
from adaqat_hw.tools.leftover import MARK, end_leftover

# A build of two tasks; the fake FINN writes half a file, waits where it is told to, goes on.
BUILD = """
import sys
from pathlib import Path
from adaqat_hw import families
from adaqat_hw.compile.finn_flow import run_flow
from adaqat_hw.compile.tasks import BuildTask
from adaqat_hw.run import BuildFolder, stage_lock
from adaqat_hw.schema import BuildRequest, write_atomic
folder = Path(sys.argv[1])
request = BuildRequest(model="/nowhere/net.onnx", model_sha256="0" * 64, network="net", board="b",
    variant="qonnx", part="p", dsp=families.load("xcup").dsp, clock_ns=5.0, goal="estimate")

def compile_(note):
    result, _ = run_flow(request, folder, lambda event: None)
    return "compiled", ["result.json", *[o.path for o in result.outputs]]

def after(note):
    write_atomic(folder / "after.txt", (folder / "half.txt").read_text() + " after")
    return "after", ["after.txt"]

with stage_lock(folder):
    for name, action in (("compile", compile_), ("after", after)):
        task = BuildTask(name, BuildFolder(folder), {"a": 1}, action)
        print(name, "up to date" if task.is_done() else task.run(print), flush=True)
"""
FINN = """\
#!{python}
import hashlib, json, os, sys, time
from pathlib import Path
folder = Path(sys.argv[3])
wait = Path({wait!r})
def pause(step):
    with (folder.parent / "steps.log").open("a") as log:
        log.write(step + "\\n")
    while wait.exists() and wait.read_text() == step:
        time.sleep(0.01)
(folder / "half.txt").write_text("half")
pause("half")
(folder / "half.txt").write_text("whole")
pause("whole")
body = dict(request_digest="", status="ok", log="flow.log",
            outputs=[dict(path="half.txt", sha256="")])
(folder / "result.json").write_text(json.dumps(body))
pause("result")
"""


@pytest.fixture
def build(tmp_path):
    """Start a build that waits at a step (or runs to its end); return the process."""
    wait = tmp_path / "wait"
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(FINN.format(python=sys.executable, wait=str(wait)))
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    script = tmp_path / "build.py"
    script.write_text(textwrap.dedent(BUILD))
    started = []

    def start(step=None):
        wait.write_text(step or "")
        env = dict(os.environ, ADAQAT_FINN_ENV=str(tmp_path / "env"))
        process = subprocess.Popen(
            [sys.executable, str(script), str(tmp_path / "b")],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    wait.unlink(missing_ok=True)
    for process in started:
        process.kill()
        process.communicate()
    end_leftover(tmp_path / "b")


def reached(tmp_path, step, since=0):
    log = tmp_path / "steps.log"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if log.exists() and step in log.read_text().split()[since:]:
            return
        time.sleep(0.02)
    raise AssertionError(f"the build did not reach {step!r}")


@pytest.mark.parametrize("step", ["half", "whole", "result"])
def test_a_killed_build_starts_its_step_over(build, tmp_path, step):
    killed = build(step)
    reached(tmp_path, step)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    again = build()
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert out.split("\n")[:2] == ["compile compiled", "after after"]
    assert (tmp_path / "b" / "after.txt").read_text() == "whole after"
    assert not (tmp_path / "b" / MARK).exists()
    third = build()
    assert third.communicate(timeout=300)[0].split("\n")[:2] == [
        "compile up to date",
        "after up to date",
    ]


def test_the_process_that_a_killed_build_left_is_ended(build, tmp_path):
    killed = build("half")
    reached(tmp_path, "half")
    pid = json.loads((tmp_path / "b" / MARK).read_text())["pid"]
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert Path(f"/proc/{pid}").exists()
    again = build()
    assert again.communicate(timeout=300)[0].startswith("compile compiled")
    status = Path(f"/proc/{pid}/stat")
    assert not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_mark_of_another_process_harms_nobody(tmp_path):
    (tmp_path / MARK).write_text(json.dumps({"pid": os.getpid(), "started": "1"}))
    assert not end_leftover(tmp_path)
    assert not (tmp_path / MARK).exists()
    for text in ("", "{", '{"pid": -1, "started": ""}', '{"pid": "x"}', "[]"):
        (tmp_path / MARK).write_text(text)
        assert not end_leftover(tmp_path)


def test_a_second_build_is_refused_in_one_sentence(build, tmp_path):
    first = build("half")
    reached(tmp_path, "half")
    with (
        pytest.raises(ConfigError, match=r"Another process is working on .*; wait for it or stop"),
        stage_lock(tmp_path / "b"),
    ):
        pass
    (tmp_path / "wait").write_text("")
    out, _ = first.communicate(timeout=300)
    assert out.split("\n")[:2] == ["compile compiled", "after after"]

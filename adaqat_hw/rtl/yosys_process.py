"""Run Yosys as a child process and tell the true cause when it fails."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from adaqat_hw.errors import StageFailed

_STAGE = "synthesize"
_POLL_S = 0.1
_WORKER = Path(__file__).with_name("yosys_worker.py")


def run_yosys(
    script: str,
    files: Mapping[str, Path],
    output: str,
    *,
    log: Path,
    timeout_s: float,
    stop: threading.Event | None = None,
) -> str:
    """Run Yosys commands in a folder of their own and return the text of one output file.

    Args:
        script: commands, one per line.
        files: what to copy into the folder, by the name that the script uses.
        output: name of the file that the script writes.
        log: where to leave what Yosys says; replaced when Yosys has ended.
        timeout_s: kill Yosys and its children after this many seconds.
        stop: kill them when this is set.

    Raises:
        StageFailed: an error, a crash, no output, or the time was up.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="adaqat-synth-") as name:
        folder = Path(name)
        for target, path in files.items():
            shutil.copyfile(path, folder / target)
        commands = folder / "commands.ys"
        commands.write_text(script, encoding="utf-8")
        # -P: the worker's folder must not shadow modules that pyosys imports.
        command = [sys.executable, "-P", str(_WORKER), commands.name]
        with tempfile.NamedTemporaryFile(dir=log.parent, suffix=".part", delete=False) as handle:
            written = Path(handle.name)
            try:
                status = _run(command, folder, handle, time.monotonic() + timeout_s, stop)
                written.chmod(0o644)
                written.replace(log)
            finally:
                written.unlink(missing_ok=True)
        if status is None:
            raise StageFailed(
                _STAGE,
                f"Yosys had not finished after {timeout_s:g} s; give it more time or a smaller "
                "module.",
                log,
            )
        if status != 0:
            raise StageFailed(_STAGE, _cause(status, log), log)
        try:
            return (folder / output).read_text(encoding="utf-8")
        except OSError as exc:
            raise StageFailed(_STAGE, f"Yosys ended well but wrote no {output!r}.", log) from exc


def _run(
    command: list[str],
    folder: Path,
    output: IO[bytes],
    deadline: float,
    stop: threading.Event | None,
) -> int | None:
    """Return the exit status, None when the time was up."""
    with subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(_POLL_S)
                if stop is not None and stop.is_set():
                    raise StageFailed(_STAGE, "stopped because another job failed.")
                if time.monotonic() > deadline:
                    return None
        finally:
            # With its session: Yosys runs ABC as a process of its own.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _cause(status: int, log: Path) -> str:
    """Say why Yosys failed: its last error that says something."""
    text = log.read_text(encoding="utf-8", errors="replace")
    errors: list[str] = [
        line.strip() for line in re.findall(r"^.*\b(?:ERROR|error):.*$", text, re.MULTILINE)
    ]
    telling = [line for line in errors if "see full log" not in line]
    if telling or errors:
        return (telling or errors)[-1].rstrip(".") + "."
    if status < 0:
        hint = " (out of memory?)" if -status == signal.SIGKILL else ""
        return f"Yosys was killed by {signal.Signals(-status).name}{hint}."
    last = [line.strip() for line in text.splitlines() if line.strip()][-1:]
    return f"Yosys ended with status {status}, saying {last[0] if last else 'nothing'!r}."

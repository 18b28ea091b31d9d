"""Run one outside program: its output to a log, its lines to a listener, nothing left behind.

A program of a build that was killed may still run and write. The folder remembers the process
(``.process.json``), so the next start ends it before anything is trusted.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from adaqat_hw.errors import ToolNotFound
from adaqat_hw.schema import write_atomic

MARK = ".process.json"
_GRACE_S = 5.0
MEMORY_ADVICE = (
    "it was killed, most likely because memory ran out: give the machine, or Docker, more memory "
    "or build a smaller design"
)


@dataclass(frozen=True)
class Ended:
    """How a process ended: ``status`` as Python gives it (negative: a signal), ``stopped`` when
    it ran past its time."""

    status: int
    stopped: bool

    @property
    def words(self) -> str:
        """The status in words."""
        return f"signal {-self.status}" if self.status < 0 else f"exit status {self.status}"

    @property
    def killed(self) -> bool:
        """Whether it was killed outright, as the system does when memory runs out."""
        return self.status in (-signal.SIGKILL, 128 + signal.SIGKILL)


def run_logged(
    argv: list[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    on_line: Callable[[str], None],
    limit_s: float,
    keep: Path | None = None,
    on_stop: Callable[[], None] | None = None,
) -> Ended:
    """Run ``argv`` and wait for it; whatever ends the wait, the process group ends too.

    Args:
        argv: program and arguments.
        cwd: its folder.
        env: its whole environment.
        log: gets stderr; emptied first.
        on_line: gets every line of stdout.
        limit_s: seconds after which it is killed.
        keep: folder that remembers the process while it runs.
        on_stop: called when it is stopped before its end (a container needs more than a signal).

    Raises:
        ToolNotFound: the program cannot be started.
    """
    stopped = threading.Event()
    log.write_text("")
    with log.open("a", encoding="utf-8") as handle:
        try:
            process = subprocess.Popen(
                argv,
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=handle,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as exc:
            raise ToolNotFound(
                f"{argv[0]!r} cannot be started ({exc.strerror or exc}); check the installation."
            ) from exc
    if keep is not None:
        _remember(keep, process.pid)

    def stop() -> None:
        stopped.set()
        if on_stop is not None:
            on_stop()
        _kill(process.pid, signal.SIGKILL)

    timer = threading.Timer(limit_s, stop)
    timer.daemon = True
    timer.start()
    try:
        if process.stdout is not None:
            for line in process.stdout:
                on_line(line)
        status = process.wait()
    except BaseException:
        if on_stop is not None:
            on_stop()
        _kill(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            _kill(process.pid, signal.SIGKILL)
            process.wait()
        raise
    finally:
        timer.cancel()
        if process.stdout is not None:
            process.stdout.close()
        if keep is not None:
            (keep / MARK).unlink(missing_ok=True)
    return Ended(status, stopped.is_set())


def end_leftover(folder: Path) -> bool:
    """Kill the process that an earlier, killed build left at work in ``folder``.

    Only the very same process is touched: number and start time must agree. Returns whether
    there was one. The caller holds the folder's lock.
    """
    path = folder / MARK
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        pid, started = int(body["pid"]), str(body["started"])
    except (OSError, ValueError, KeyError, TypeError):
        path.unlink(missing_ok=True)
        return False
    alive = pid > 1 and started != "" and _started(pid) == started
    if alive:
        _kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + _GRACE_S
        while _started(pid) == started and time.monotonic() < deadline:
            time.sleep(0.02)
    path.unlink(missing_ok=True)
    return alive


def _remember(folder: Path, pid: int) -> None:
    write_atomic(folder / MARK, json.dumps({"pid": pid, "started": _started(pid)}) + "\n")


def _started(pid: int) -> str:
    """Return when the process began, in the system's own ticks; empty when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if not fields or fields[0] == "Z" else fields[19]


def _kill(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return

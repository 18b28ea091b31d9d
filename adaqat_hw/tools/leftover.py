"""End programs that a killed process left running in a folder, by a mark in that folder.

SIGKILL leaves the parent no time to end what it runs. The mark in the folder
(``.process.json``) names the process, and the next start there ends it before it trusts anything.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from adaqat_hw.schema import write_atomic

MARK = ".process.json"
_GRACE_S = 5.0


def remember(folder: Path, pid: int) -> None:
    """Note in ``folder`` that process ``pid``, which leads a group of its own, works there."""
    write_atomic(folder / MARK, json.dumps({"pid": pid, "started": _start_time(pid)}) + "\n")


def forget(folder: Path) -> None:
    """Remove the note: the process has ended."""
    (folder / MARK).unlink(missing_ok=True)


def end_leftover(folder: Path) -> bool:
    """Kill the process group that an earlier, killed parent left running in ``folder``.

    Only the very same process is touched: number and start time must agree. Returns whether
    there was one. The caller holds the folder's lock.
    """
    try:
        body = json.loads((folder / MARK).read_text(encoding="utf-8"))
        pid, started = int(body["pid"]), str(body["started"])
    except (OSError, ValueError, KeyError, TypeError):
        forget(folder)
        return False
    alive = pid > 1 and started != "" and _start_time(pid) == started
    if alive:
        kill_group(pid, signal.SIGKILL)
        deadline = time.monotonic() + _GRACE_S
        while _start_time(pid) == started and time.monotonic() < deadline:
            time.sleep(0.02)
    forget(folder)
    return alive


def kill_group(group: int, number: signal.Signals) -> None:
    """Send a signal to every process of a group; one that is gone needs none."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def _start_time(pid: int) -> str:
    """Return when the process began, in the system's own ticks; empty when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if not fields or fields[0] == "Z" else fields[19]

"""Run a program as a child in its own session, its lines to a log and to a listener."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from adaqat_hw.errors import ToolNotFound


def run_tool(
    argv: Sequence[str],
    folder: Path,
    log: Path,
    *,
    timeout_s: float,
    line: Callable[[str], None] | None = None,
) -> int | None:
    """Run ``argv`` in ``folder``; return its exit status, None when the time was up.

    Args:
        argv: program and arguments.
        folder: the folder it runs in.
        log: gets what it says on either stream; replaced when it has ended.
        timeout_s: kill it and its children after this many seconds.
        line: called with every line it says.

    Raises:
        ToolNotFound: the program cannot be started.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    part = log.with_name(f".{log.name}.{os.getpid()}.part")
    expired = threading.Event()
    try:
        process = subprocess.Popen(
            list(argv), cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True, text=True, errors="replace",
        )  # fmt: skip
    except OSError as exc:
        raise ToolNotFound(
            f"{argv[0]!r} cannot be run ({exc.strerror}); install it again."
        ) from exc

    def kill() -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def expire() -> None:
        expired.set()
        kill()

    timer = threading.Timer(timeout_s, expire)
    timer.daemon = True
    timer.start()
    try:
        with process, part.open("w", encoding="utf-8") as handle:
            assert process.stdout is not None
            try:
                for text in process.stdout:
                    handle.write(text)
                    if line is not None:
                        line(text.rstrip())
                process.wait()
            finally:
                kill()  # with its session, also when the listener raised
        part.replace(log)
    finally:
        timer.cancel()
        part.unlink(missing_ok=True)
    return None if expired.is_set() else process.returncode

"""Run one external program in a process group: its log, its lines to a listener, a clean end."""

from __future__ import annotations

import codecs
import io
import os
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from adaqat_hw.errors import AdaqatHwError, ToolNotFound
from adaqat_hw.tools.leftover import forget, kill_group, remember
from adaqat_hw.tools.signals import signals_end_programs, signals_held

MEMORY_ADVICE = (
    "it was killed, most likely because memory ran out: give the machine, or Docker, more memory "
    "or build a smaller design"
)
_GRACE_S = 5.0  # between SIGTERM and SIGKILL
_POLL_S = 0.1
_CHUNK = 1 << 16

_Reason = Literal["ended", "expired", "stopped"]


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    Attributes:
        status: as Python gives it (negative: a signal).
        expired: it was killed because its time was up.
        stopped: it was killed because ``stop`` was set.
        stdout: what it wrote there, where neither a log nor a listener got it.
        stderr: likewise; empty where the streams were not kept separate.
    """

    status: int
    expired: bool = False
    stopped: bool = False
    stdout: str = ""
    stderr: str = ""

    @property
    def status_text(self) -> str:
        """The status in words."""
        return f"signal {-self.status}" if self.status < 0 else f"exit status {self.status}"

    @property
    def killed(self) -> bool:
        """Whether it was killed outright, as the system does when memory runs out."""
        return self.status in (-signal.SIGKILL, 128 + signal.SIGKILL)

    def failure(self, name: str, output: str) -> str:
        """Return a sentence on how program ``name`` failed, with the last line of ``output``."""
        if self.killed:
            return f"{name} ended with {self.status_text}: {MEMORY_ADVICE}."
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        return (
            f"{name} ended with {self.status_text}, saying {lines[-1] if lines else 'nothing'!r}."
        )


def run_program(
    argv: Sequence[str | Path],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
    append: bool = False,
    separate: bool = False,
    on_line: Callable[[str], None] | None = None,
    limit_s: float | None = None,
    stop: threading.Event | None = None,
    mark: Path | None = None,
    on_stop: Callable[[], None] | None = None,
) -> Ended:
    """Run ``argv`` in a process group of its own and wait for it.

    Whatever ends the wait (its own end, the time, ``stop``, an exception of the listener, SIGINT,
    SIGTERM or SIGHUP to this process), the whole group is gone when this returns or raises.

    Args:
        argv: program and arguments.
        folder: the folder it runs in, this process's where None.
        environment: its whole environment, this process's where None.
        log: gets both streams as they come; stderr alone where ``separate``.
        append: add to the log; it is emptied first where False.
        separate: keep stdout apart from stderr.
        on_line: called with every line of stdout (of both streams where not ``separate``),
            without its end.
        limit_s: kill it after this many seconds.
        stop: kill it when this is set.
        mark: folder that remembers the process while it runs; see
            :func:`adaqat_hw.tools.leftover.end_leftover`.
        on_stop: called when it is ended before its time (a container needs more than a signal).

    Raises:
        ToolNotFound: the program cannot be started.
    """
    with ExitStack() as stack:
        file: IO[bytes] | None = None
        if log is not None:
            file = stack.enter_context(log.open("ab" if append else "wb", buffering=0))
        errors = file
        if separate and errors is None:
            errors = stack.enter_context(tempfile.TemporaryFile())
        output = _Output(
            None if separate else file, on_line, keep=on_line is None and (separate or log is None)
        )
        stack.enter_context(signals_end_programs())
        process: subprocess.Popen[bytes] | None = None
        reason: _Reason = "ended"
        try:
            with signals_held():
                process = _start(argv, folder, environment, errors if separate else None)
            if mark is not None:
                remember(mark, process.pid)
            reason = _watch(process, output, limit_s, stop)
            if reason != "ended" and on_stop is not None:
                on_stop()
        except BaseException:
            output.silence()
            if process is not None:
                _interrupt(process, output, on_stop)
            raise
        finally:
            if process is not None:
                with signals_held():
                    _end(process)
                    if mark is not None:
                        forget(mark)
                _drain(process, output)
        stderr = ""
        if separate and log is None and errors is not None:
            errors.seek(0)
            stderr = errors.read().decode("utf-8", errors="replace")
    return Ended(process.returncode, reason == "expired", reason == "stopped", output.text, stderr)


class _Output:
    """What the program writes: bytes to the log, lines to the listener, text where kept."""

    def __init__(
        self, log: IO[bytes] | None, on_line: Callable[[str], None] | None, *, keep: bool
    ) -> None:
        self._log, self._on_line, self._keep = log, on_line, keep
        utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._decoder = io.IncrementalNewlineDecoder(utf8, translate=True)
        self._parts: list[str] = []
        self._line = ""

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def feed(self, data: bytes, *, final: bool = False) -> None:
        if self._log is not None:
            self._log.write(data)
        text = self._decoder.decode(data, final)
        if self._keep:
            self._parts.append(text)
        if self._on_line is None:
            return
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._on_line(line)
        if final and self._line:
            self._on_line(self._line)

    def silence(self) -> None:
        """Tell the listener nothing more: it raised, or the caller is on its way out."""
        self._on_line = None


def _start(
    argv: Sequence[str | Path],
    folder: Path | None,
    environment: Mapping[str, str] | None,
    errors: IO[bytes] | None,
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [str(word) for word in argv],
            cwd=folder,
            env=None if environment is None else dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if errors is None else errors,
            start_new_session=True,
        )
    except OSError as exc:
        raise ToolNotFound(
            f"{str(argv[0])!r} cannot be started ({exc.strerror or exc}); check the installation."
        ) from exc


def _watch(
    process: subprocess.Popen[bytes],
    output: _Output,
    limit_s: float | None,
    stop: threading.Event | None = None,
) -> _Reason:
    """Read what the program writes until it ends or is to be ended; say which."""
    assert process.stdout is not None
    deadline = None if limit_s is None else time.monotonic() + limit_s
    pipe = process.stdout.fileno()
    poller = select.poll()
    poller.register(pipe, select.POLLIN)
    reading, pause = True, _POLL_S / 100
    while not _has_ended(process.pid):
        if stop is not None and stop.is_set():
            return "stopped"
        if deadline is not None and time.monotonic() >= deadline:
            return "expired"
        if not reading:  # it closed its output; it will end soon
            time.sleep(pause)
            pause = min(2 * pause, _POLL_S)
        elif poller.poll(_POLL_S * 1000):
            data = os.read(pipe, _CHUNK)
            output.feed(data)
            reading = bool(data)
    return "ended"


def _has_ended(pid: int) -> bool:
    """Tell whether a child has ended, without reaping it: its number stays its group's."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _interrupt(
    process: subprocess.Popen[bytes], output: _Output, on_stop: Callable[[], None] | None
) -> None:
    """Ask the group to end and give it a moment; the caller kills what is left."""
    if on_stop is not None:
        with suppress(AdaqatHwError):  # the reason to stop matters more
            on_stop()
    kill_group(process.pid, signal.SIGTERM)
    with suppress(OSError):  # a log that cannot be written, which may be why we are here
        _watch(process, output, _GRACE_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the group and reap the program."""
    kill_group(process.pid, signal.SIGKILL)
    process.wait()


def _drain(process: subprocess.Popen[bytes], output: _Output) -> None:
    """Read what the program wrote last."""
    assert process.stdout is not None
    with process.stdout:
        pipe = process.stdout.fileno()
        poller = select.poll()
        poller.register(pipe, select.POLLIN)
        # Not to its end: a process that left the group may hold the pipe open.
        while poller.poll(0) and (data := os.read(pipe, _CHUNK)):
            output.feed(data)
    output.feed(b"", final=True)

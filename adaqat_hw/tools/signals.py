"""Turn SIGTERM and SIGHUP into exceptions, so that the programs this process runs end too."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_BY_DEFAULT = (signal.SIG_DFL, signal.default_int_handler)


class _Held:
    """The signal that came while a program was being started; raised once it is watched."""

    depth = 0
    pending: int | None = None


@contextmanager
def signals_end_programs() -> Iterator[None]:
    """While inside, raise SystemExit for SIGTERM and SIGHUP as Python does KeyboardInterrupt.

    The status is the shell's for such an end (128 + number). Only the main thread can receive
    signals: a thread that runs programs for it needs this around the wait for it. A handler that
    the caller installed stays, and so does a signal that is ignored.
    """
    if not _in_main_thread():
        yield
        return
    previous: dict[int, Any] = {}
    for number in _ENDING:
        handler = signal.getsignal(number)
        if handler in _BY_DEFAULT:
            previous[number] = handler
            signal.signal(number, _receive)
    try:
        yield
    finally:
        for changed, handler in previous.items():
            signal.signal(changed, handler)


@contextmanager
def signals_held() -> Iterator[None]:
    """Put such a signal off until the end of this block, where it is raised."""
    if not _in_main_thread():
        yield
        return
    _Held.depth += 1
    try:
        yield
    finally:
        _Held.depth -= 1
    if _Held.depth == 0 and _Held.pending is not None:
        number, _Held.pending = _Held.pending, None
        _raise(number)


def _receive(number: int, frame: FrameType | None) -> None:
    if _Held.depth:
        _Held.pending = number
    else:
        _raise(number)


def _raise(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()

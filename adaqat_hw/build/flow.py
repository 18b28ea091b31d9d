"""Run the FINN flow in its own process, and believe its record and exit status together."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adaqat_hw.errors import ConfigError, StageFailed, UnsupportedNetwork
from adaqat_hw.resources import flows_dir, package_root
from adaqat_hw.schema import BuildRequest, BuildResult, HardwareGraph
from adaqat_hw.tools import finn_python

RESULT_FILE, LOG_FILE, REQUEST_FILE = "result.json", "flow.log", "request.json"
_STATUS_OF_EXIT = {0: "ok", 1: "failed", 2: "refused"}
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
_FAULT = re.compile(r"error|exception|failed|fatal|killed", re.IGNORECASE)
_log = logging.getLogger(__name__)


def run_flow(
    request: BuildRequest,
    folder: Path,
    progress: Callable[[dict[str, Any]], None],
    *,
    limit_s: float = 6 * 3600,
) -> tuple[BuildResult, HardwareGraph | None]:
    """Build ``request`` in ``folder`` with FINN.

    Args:
        request: what to build.
        folder: build directory; an old result in it is removed first.
        progress: gets one dictionary per finished step (``step``, ``index``, ``total``,
            ``seconds``) or remark (``step``, ``note``).
        limit_s: seconds after which the process is stopped.

    Returns:
        The result, and the hardware graph where the flow wrote one.

    Raises:
        ToolNotFound: there is no FINN environment.
        UnsupportedNetwork: the network or the request cannot be built; every fault is named.
        StageFailed: the flow failed, or ended without a result that can be believed.
    """
    python = finn_python()
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    request.write(folder / REQUEST_FILE)
    script = flows_dir() / "finn_flow.py"
    argv = [str(python), str(script), str(folder / REQUEST_FILE), str(folder)]
    status, stopped = _run(argv, folder, progress, limit_s)
    log = folder / LOG_FILE
    if stopped:
        raise StageFailed("build", f"FINN did not end within {limit_s:g} seconds", log)
    result = _read_result(folder, status)
    if result.request_digest not in ("", request.digest()):
        raise StageFailed(
            "build",
            f"the result is of request {result.request_digest!r}, not of {request.digest()!r}",
            log,
        )
    if result.status == "refused":
        faults = " ".join(result.unsupported) or result.message or "no reason was given"
        raise UnsupportedNetwork(f"{request.network!r} cannot be built. {faults} (log: {log})")
    if result.status == "failed":
        reason = (result.message or _last_fault(log) or "no reason was given").rstrip(".")
        raise StageFailed(f"build/{result.failed_step}", reason, log)
    return result, _read_graph(result, folder)


def _remove_leftovers(folder: Path) -> None:
    for name in (RESULT_FILE, "hardware.json", "params.npz", "golden.npz"):
        (folder / name).unlink(missing_ok=True)
    for name in ("hdl", "reports", "finn"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _environment(folder: Path) -> dict[str, str]:
    """Return an environment that leads into ``folder`` only.

    The package is reached through a link of its own: its parent folder may hold the whole
    training environment, whose packages would shadow FINN's.
    """
    scratch = folder / "finn"
    for name in ("python", "home", "tmp"):
        (scratch / name).mkdir(parents=True, exist_ok=True)
    (scratch / "python" / "adaqat_hw").symlink_to(package_root() / "adaqat_hw")
    given = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {
        **given,
        "HOME": str(scratch / "home"),
        "TMPDIR": str(scratch / "tmp"),
        "PYTHONPATH": str(scratch / "python"),
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "FINN_SETTINGS": str(scratch / "settings.yaml"),
        "FINN_BUILD_DIR": str(scratch),
    }


def _run(
    argv: list[str], folder: Path, progress: Callable[[dict[str, Any]], None], limit_s: float
) -> tuple[int, bool]:
    stopped = threading.Event()
    with (folder / LOG_FILE).open("w") as truncated:
        truncated.flush()
    with (folder / LOG_FILE).open("a") as log:
        process = subprocess.Popen(
            argv,
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def stop() -> None:
        stopped.set()
        _kill_group(process.pid, signal.SIGKILL)

    timer = threading.Timer(limit_s, stop)
    timer.daemon = True
    timer.start()
    try:
        if process.stdout is not None:
            for line in process.stdout:
                event = _event(line)
                if event is not None:
                    progress(event)
        status = process.wait()
    except BaseException:
        _kill_group(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            _kill_group(process.pid, signal.SIGKILL)
            process.wait()
        raise
    finally:
        timer.cancel()
        if process.stdout is not None:
            process.stdout.close()
    return status, stopped.is_set()


def _kill_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


def _event(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except json.JSONDecodeError:
        _log.debug("not a progress line: %r", line)
        return None
    if not isinstance(event, dict):
        return None
    if "note" in event:
        _log.warning("%s", event["note"])
    return event


def _read_result(folder: Path, status: int) -> BuildResult:
    log = folder / LOG_FILE
    how = f"signal {-status}" if status < 0 else f"exit status {status}"
    try:
        result = BuildResult.read(folder / RESULT_FILE)
    except ConfigError:
        told = _last_fault(log)
        tail = f"; its last words: {told}" if told else ""
        raise StageFailed(
            "build", f"the FINN process ended with {how} without a readable result{tail}", log
        ) from None
    if _STATUS_OF_EXIT.get(status) != result.status:
        raise StageFailed(
            "build",
            f"the FINN process ended with {how} although its result says {result.status!r}",
            log,
        )
    return result


def _read_graph(result: BuildResult, folder: Path) -> HardwareGraph | None:
    lacking = [x.path for x in result.outputs if not (folder / x.path).is_file()]
    if lacking:
        raise StageFailed(
            "build", f"the result lists files that are not there: {lacking!r}", folder / LOG_FILE
        )
    if result.graph is None:
        return None
    try:
        return HardwareGraph.read(folder / result.graph)
    except ConfigError as exc:
        raise StageFailed("build", str(exc), folder / LOG_FILE) from exc


def _last_fault(log: Path) -> str | None:
    """Return the last line of the log that names a fault, or its last line, or None."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    lines = [line.strip() for line in text.splitlines() if re.search(r"\w", line)]
    faults = [line for line in lines if _FAULT.search(line)]
    chosen = faults or lines
    return chosen[-1][:400] if chosen else None

"""Run the FINN flow in its own process; success needs its result record and exit status 0."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adaqat_hw.compile.environment import Compiler, Environment, Local
from adaqat_hw.errors import ConfigError, StageFailed, UnsupportedNetwork
from adaqat_hw.run import BuildFolder
from adaqat_hw.schema import BuildRequest, BuildResult, HardwareGraph
from adaqat_hw.tools import finn_python
from adaqat_hw.tools.leftover import end_leftover
from adaqat_hw.tools.run_program import MEMORY_ADVICE, Ended, run_program

_STATUS_OF_EXIT = {0: "ok", 1: "failed", 2: "refused"}
_FAULT = re.compile(r"error|exception|failed|fatal|killed", re.IGNORECASE)
_log = logging.getLogger(__name__)

FINN = Compiler(
    script="flows/finn_flow.py",
    python=finn_python,
    image_python="/opt/adaqat/finn/bin/python",
    variables=lambda scratch: {
        "FINN_SETTINGS": f"{scratch}/settings.yaml",
        "FINN_BUILD_DIR": scratch,
    },
)


def run_flow(
    request: BuildRequest,
    folder: Path,
    progress: Callable[[dict[str, Any]], None],
    *,
    limit_s: float = 6 * 3600,
    environment: Environment | None = None,
) -> tuple[BuildResult, HardwareGraph | None]:
    """Build ``request`` in ``folder`` with FINN.

    Args:
        request: what to build.
        folder: build directory; an old result in it is removed first.
        progress: gets one dictionary per finished step (``step``, ``index``, ``total``,
            ``seconds``) or remark (``step``, ``note``).
        limit_s: seconds after which the process is stopped.
        environment: where FINN runs; this machine by default.

    Returns:
        The result, and the hardware graph where the flow wrote one.

    Raises:
        ToolNotFound: there is no FINN environment.
        UnsupportedNetwork: the network or the request cannot be built; every fault is named.
        StageFailed: the flow failed, or ended without a consistent result.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    files = BuildFolder(folder)
    end_leftover(folder)
    _remove_leftovers(files)
    command = (environment or Local()).compiler(FINN, request, files)
    log = files.flow_log

    def listen(line: str) -> None:
        event = _event(line)
        if event is not None:
            progress(event)

    ended = run_program(
        command.argv,
        folder=folder,
        environment=command.env,
        log=log,
        separate=True,
        on_line=listen,
        limit_s=limit_s,
        mark=folder,
        on_stop=command.stop,
    )
    if ended.expired:
        raise StageFailed("build", f"FINN did not end within {limit_s:g} seconds", log)
    result = _read_result(files, ended)
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
    return result, _read_graph(result, files)


def _remove_leftovers(files: BuildFolder) -> None:
    for path in (files.result, files.hardware, files.parameters, files.golden):
        path.unlink(missing_ok=True)
    for path in (files.hdl, files.reports, files.scratch):
        shutil.rmtree(path, ignore_errors=True)


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


def _read_result(files: BuildFolder, ended: Ended) -> BuildResult:
    log = files.flow_log
    how = ended.status_text
    try:
        result = BuildResult.read(files.result)
    except ConfigError:
        fault = _last_fault(log)
        tail = f"; its last words: {fault}" if fault else ""
        if ended.killed:
            tail = f": {MEMORY_ADVICE}{tail}"
        raise StageFailed(
            "build", f"the FINN process ended with {how} without a readable result{tail}", log
        ) from None
    if _STATUS_OF_EXIT.get(ended.status) != result.status:
        raise StageFailed(
            "build",
            f"the FINN process ended with {how} although its result says {result.status!r}",
            log,
        )
    return result


def _read_graph(result: BuildResult, files: BuildFolder) -> HardwareGraph | None:
    lacking = [x.path for x in result.outputs if not (files.path / x.path).is_file()]
    if lacking:
        raise StageFailed(
            "build", f"the result lists files that are not there: {lacking!r}", files.flow_log
        )
    if result.graph is None:
        return None
    try:
        return HardwareGraph.read(files.path / result.graph)
    except ConfigError as exc:
        raise StageFailed("build", str(exc), files.flow_log) from exc


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

"""Build one network with FINN. Usage: finn_flow.py REQUEST.json BUILD_DIR

Runs in the FINN environment. Writes BUILD_DIR/result.json whatever happens. Progress goes to
stdout, one JSON object per line; all that FINN prints goes to BUILD_DIR/flow.log. Exit status:
0 built, 1 failed, 2 refused (the network or the request cannot be built).
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import BuildRequest, BuildResult, StepRecord, build_files

EXIT = {"ok": 0, "failed": 1, "refused": 2}
_VERSIONED = ("finn-plus", "qonnx", "onnx", "onnxruntime", "numpy", "torch")


def main(arguments: list[str]) -> int:
    """Run the flow and return the exit status."""
    if len(arguments) != 2:
        sys.stderr.write("usage: finn_flow.py REQUEST.json BUILD_DIR\n")
        return EXIT["refused"]
    request_path, folder = Path(arguments[0]), Path(arguments[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        request = BuildRequest.read(request_path)
    except ConfigError as exc:
        _write(folder, request_digest="", status="refused", failed_step="read", message=str(exc))
        return EXIT["refused"]
    signal.signal(signal.SIGTERM, _interrupt)
    with _redirect(folder / build_files.FLOW_LOG) as report:
        return EXIT[_run(request, folder, report)]


def _run(request: BuildRequest, folder: Path, report: Callable[[dict[str, Any]], None]) -> str:
    records: list[StepRecord] = []
    step = "start"
    facts: dict[str, Any] = {"request_digest": request.digest()}
    try:
        from flows import record
        from flows.flow_state import FlowState
        from flows.steps import perform, steps_of

        steps = steps_of(request)
        index, total = 0, len(steps)

        def note(text: str) -> None:
            report({"step": step, "index": index, "total": total, "note": text})

        state = FlowState(request, folder, note)
        for index, entry in enumerate(steps):
            step = entry.name
            started = time.perf_counter()
            sys.stdout.write(f"=== {step}\n")
            perform(entry, state)
            seconds = round(time.perf_counter() - started, 3)
            nodes = len(state.model.graph.node)
            records.append(StepRecord(name=step, seconds=seconds, nodes=nodes))
            report({"step": step, "index": index, "total": total, "seconds": seconds})
        shutil.rmtree(state.scratch, ignore_errors=True)
        facts |= {"status": "ok", "outputs": record.outputs(state), "graph": build_files.HARDWARE}
    except BaseException as exc:  # the result must exist whatever was raised
        traceback.print_exc()
        facts |= {"failed_step": step, **_fault(exc)}
    _write(folder, steps=tuple(records), **facts)
    return str(facts["status"])


def _fault(exc: BaseException) -> dict[str, Any]:
    problems = getattr(exc, "problems", None)
    if problems is not None:
        count = "" if len(problems) == 1 else f"{len(problems)} problems: "
        return {
            "status": "refused",
            "message": count + " ".join(problems),
            "unsupported": tuple(problems),
        }
    return {"status": "failed", "message": true_cause(exc)}


def true_cause(exc: BaseException) -> str:
    """Put the deepest exception of a chain into one sentence, after the outermost one."""
    chain = [exc]
    while (inner := _inner(chain[-1])) is not None and inner not in chain:
        chain.append(inner)
    deepest = _sentence(chain[-1])
    outer = _sentence(exc)
    return deepest if deepest == outer else f"{outer} (cause: {deepest})"


def _inner(exc: BaseException) -> BaseException | None:
    if exc.__cause__ is not None:
        return exc.__cause__
    return None if exc.__suppress_context__ else exc.__context__


def _sentence(exc: BaseException) -> str:
    if isinstance(exc, KeyboardInterrupt):
        return "it was interrupted"
    text = " ".join(str(exc).split())
    kind = type(exc).__name__
    if kind == "FlowError":
        return text
    return f"{kind}: {text[:600]}" if text else kind


def _versions() -> dict[str, str]:
    versions = {}
    for name in _VERSIONED:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    versions["python"] = sys.version.split()[0]
    return versions


def _write(folder: Path, **facts: Any) -> None:
    result = BuildResult(log=build_files.FLOW_LOG, tool_versions=_versions(), **facts)
    result.write(folder / build_files.RESULT)


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


class _redirect:  # noqa: N801 - used as a context manager
    """Send stdout and stderr of this process and its children to a file; yield the reporter."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def __enter__(self) -> Callable[[dict[str, Any]], None]:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
        handle = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.close(handle)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        return self._report

    def _report(self, facts: dict[str, Any]) -> None:
        self._out.write(json.dumps(facts) + "\n")

    def __exit__(self, *details: object) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._out.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

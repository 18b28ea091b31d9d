"""Run Yosys as a child process and tell the true cause when it fails."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

from adaqat_hw.errors import StageFailed
from adaqat_hw.tools.content_cache import put_file
from adaqat_hw.tools.run_program import Ended, run_program

_STAGE = "synthesize"
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
    with tempfile.TemporaryDirectory(prefix="adaqat-synth-") as name:
        folder, written = Path(name) / "work", Path(name) / "log"
        folder.mkdir()
        for target, path in files.items():
            shutil.copyfile(path, folder / target)
        commands = folder / "commands.ys"
        commands.write_text(script, encoding="utf-8")
        ended = run_program(
            # -P: the worker's folder must not shadow modules that pyosys imports.
            [sys.executable, "-P", _WORKER, commands.name],
            folder=folder,
            log=written,
            limit_s=timeout_s,
            stop=stop,
        )
        put_file(written, log)
        if ended.stopped:
            raise StageFailed(_STAGE, "stopped because another job failed.")
        if ended.expired:
            raise StageFailed(
                _STAGE,
                f"Yosys had not finished after {timeout_s:g} s; give it more time or a smaller "
                "module.",
                log,
            )
        if ended.status != 0:
            raise StageFailed(_STAGE, _cause(ended, log), log)
        try:
            return (folder / output).read_text(encoding="utf-8")
        except OSError as exc:
            raise StageFailed(_STAGE, f"Yosys ended well but wrote no {output!r}.", log) from exc


def _cause(ended: Ended, log: Path) -> str:
    """Say why Yosys failed: its last error that says something."""
    text = log.read_text(encoding="utf-8", errors="replace")
    errors: list[str] = [
        line.strip() for line in re.findall(r"^.*\b(?:ERROR|error):.*$", text, re.MULTILINE)
    ]
    telling = [line for line in errors if "see full log" not in line]
    if telling or errors:
        return (telling or errors)[-1].rstrip(".") + "."
    return ended.failure("Yosys", text)

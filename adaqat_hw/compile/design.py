"""A compiled design: what the rest of a build needs of it, whichever backend made it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adaqat_hw.errors import ConfigError, StageFailed
from adaqat_hw.rtl.fifo_graph import with_fifos
from adaqat_hw.rtl.packing import IntArray
from adaqat_hw.rtl.stitch import StitchedDesign, stitch
from adaqat_hw.run import BuildFolder
from adaqat_hw.schema import HardwareGraph, LayerResources, add_resources
from adaqat_hw.schema.fifos import FifoSizing


@dataclass(frozen=True)
class Design:
    """A hardware graph, as its backend made it, and the build's folder with its files."""

    folder: BuildFolder
    graph: HardwareGraph

    @classmethod
    def read(cls, folder: BuildFolder) -> Design:
        """Read what a backend has left in ``folder``; raise ConfigError where it has not."""
        return cls(folder, HardwareGraph.read(folder.hardware))

    def sized(self) -> HardwareGraph:
        """Return the graph with its FIFOs at the depths that were found for it.

        Without a record of depths the FIFOs stay as the backend made them.

        Raises:
            ConfigError: the depths belong to another graph.
        """
        path = self.folder.fifos
        if not path.is_file():
            return self.graph
        record = FifoSizing.read(path)
        if record.graph_digest != self.graph.digest():
            raise ConfigError(
                f"The FIFO depths in {str(path)!r} are of graph {record.graph_digest!r}, not of "
                f"{self.graph.digest()!r}; delete the file and build again."
            )
        return with_fifos(self.graph, record.depths())

    def parameters(self) -> dict[str, IntArray]:
        """Return the arrays of weights and thresholds."""
        return load_arrays(self.folder.path / self.graph.parameters_file)

    def golden(self) -> dict[str, IntArray]:
        """Return the golden frames: ``inputs``, ``outputs``, ``kinds``, ``labels``."""
        return load_arrays(self.folder.path / self.graph.golden_file)

    def stitch(self, graph: HardwareGraph) -> StitchedDesign:
        """Write the RTL of ``graph``, this design's graph with FIFOs of some depth."""
        return stitch(graph, self.folder.path, parameters=self.parameters())


def load_arrays(path: Path) -> dict[str, IntArray]:
    """Read an .npz of plain arrays; a damaged one is a StageFailed naming it."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError) as exc:
        raise StageFailed("simulate", f"{str(path)!r} cannot be read: {exc}") from exc


def layer_rows(
    graph: HardwareGraph, cost: Callable[[str], Any]
) -> tuple[tuple[LayerResources, ...], tuple[str, ...]]:
    """Group nodes into rows of their layer; ``cost`` maps a node's name to its Resources.

    Returns the rows in graph order and the names of nodes that belong to no layer.
    """
    groups: dict[str, list[str]] = {}
    loose: list[str] = []
    for node in graph.nodes:
        if node.layer is None:
            loose.append(node.name)
        else:
            groups.setdefault(node.layer, []).append(node.name)
    rows = tuple(
        LayerResources(
            layer=layer, nodes=tuple(names), resources=add_resources(cost(n) for n in names)
        )
        for layer, names in groups.items()
    )
    return rows, tuple(loose)

"""The hardware graph of a build with the FIFO depths that were found for it."""

from __future__ import annotations

from pathlib import Path

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl.fifo_graph import with_fifos
from adaqat_hw.schema import HardwareGraph
from adaqat_hw.schema.fifos import FifoSizing

FIFOS = "fifos.json"


def sized_graph(folder: Path) -> HardwareGraph:
    """Return the hardware graph of a build with its FIFOs at their depths.

    A build without fifos.json keeps the FIFOs that FINN made.

    Raises:
        ConfigError: the depths belong to another graph.
    """
    graph = HardwareGraph.read(folder / "hardware.json")
    path = folder / FIFOS
    if not path.is_file():
        return graph
    record = FifoSizing.read(path)
    if record.graph_digest != graph.digest():
        raise ConfigError(
            f"The FIFO depths in {str(path)!r} are of graph {record.graph_digest!r}, not of "
            f"{graph.digest()!r}; delete the file and build again."
        )
    return with_fifos(graph, record.depths())

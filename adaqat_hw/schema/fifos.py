"""FifoSizing: the depth of every FIFO of a build, and what was measured with them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adaqat_hw.schema._base import Record


class FifoDepth(Record):
    """One FIFO: its node and stream, ``depth`` in beats of ``width`` bits (without padding)."""

    name: str
    stream: str
    depth: int = Field(ge=2)
    width: int = Field(ge=1)

    @property
    def bits(self) -> int:
        """Bits that the FIFO holds."""
        return self.depth * self.width


class FifoSizing(Record):
    """All FIFOs of a build and the simulation that their depths were measured with.

    ``method`` is ``sized`` (depths found by simulation) or ``fixed`` (one depth given for all).
    ``initiation_interval`` is in cycles per frame, measured over ``frames`` frames back to back;
    ``initiation_interval_deep`` the same with FIFOs as deep as two frames (``fixed``: equal).
    ``slowest_node`` needs ``slowest_cycles`` per frame by FINN's estimate. ``complete`` tells
    whether the search ended by itself and not by its limit of ``trials`` or time.
    """

    method: Literal["sized", "fixed"]
    fifos: tuple[FifoDepth, ...]
    initiation_interval: float
    initiation_interval_deep: float
    slowest_node: str
    slowest_cycles: int = Field(gt=0)
    frames: int
    trials: int
    complete: bool
    seconds: float
    graph_digest: str
    sources_digest: str
    tool_versions: dict[str, str] = {}

    @property
    def depth_total(self) -> int:
        """Beats of all FIFOs."""
        return sum(fifo.depth for fifo in self.fifos)

    @property
    def memory_bits(self) -> int:
        """Bits of all FIFOs."""
        return sum(fifo.bits for fifo in self.fifos)

    @property
    def initiation_interval_over_slowest_layer(self) -> float:
        """How much longer a frame takes than in the slowest node alone; 1 is ideal."""
        return self.initiation_interval / self.slowest_cycles

    def depths(self) -> dict[str, int]:
        """Return the depths by the name of the FIFO node."""
        return {fifo.name: fifo.depth for fifo in self.fifos}

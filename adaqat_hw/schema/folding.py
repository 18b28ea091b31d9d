"""FoldingRecord: PE, SIMD and implementation of every node, chosen for a target, with the cost."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from adaqat_hw.schema._base import Record
from adaqat_hw.schema.hardware import ImplChoice, MvauImpl
from adaqat_hw.schema.resources import Resources


class FoldingTarget(Record):
    """What a folding is to reach.

    ``fps``: the cheapest folding of at least so many frames per second, within ``fill`` of the
    board. Without ``fps``: the fastest folding within ``fill`` of every resource of the board.
    """

    fps: int | None = Field(default=None, gt=0)
    fill: float = Field(default=1.0, gt=0, le=1)


class NodeFolding(Record):
    """One node: its folding, its cycles per frame, and what it is predicted to cost.

    ``error`` is the half-width of each prediction's error bar, in the same units.
    """

    node: str
    op: str
    layer: str | None
    folds: dict[str, int]
    impl: MvauImpl | None
    cycles: int
    resources: Resources
    error: Resources


class Bottleneck(Record):
    """The slowest node of a folding, and why it is not faster."""

    node: str
    layer: str | None
    folds: dict[str, int]
    cycles: int
    reason: str


class CostProvenance(Record):
    """The cost model that predicted: where its numbers come from."""

    file: str
    sha256: str
    tool: str
    tool_version: str
    samples: int


class FoldingRecord(Record):
    """A folding chosen for a target.

    ``nodes`` are in graph order, of the graph without FIFOs and width converters; ``streams`` is
    the predicted cost of those (FIFOs as shallow as the request's). ``total`` is the sum of
    both, ``error`` its half-width, ``capacity`` what the target allows. ``interval`` is the
    slowest node's cycles per frame. ``folding`` and ``impl_per_layer`` are what the build's
    request gets as ``folding`` and ``folded_impl``.
    """

    network: str
    board: str
    clock_ns: float
    target: FoldingTarget
    interval: int
    fps: float
    bottleneck: Bottleneck
    nodes: tuple[NodeFolding, ...]
    streams: Resources
    streams_error: Resources
    total: Resources
    error: Resources
    capacity: Resources
    utilisation: dict[str, float]
    folding: dict[str, dict[str, int]]
    impl_per_layer: dict[str, ImplChoice]
    model: CostProvenance

    @model_validator(mode="after")
    def _same_nodes(self) -> Self:
        if [row.node for row in self.nodes] != list(self.folding):
            raise ValueError("nodes and folding must name the same nodes in the same order")
        return self

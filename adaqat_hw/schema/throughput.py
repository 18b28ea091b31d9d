"""ThroughputRequest: how fast an accelerator was asked to be."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from adaqat_hw.schema._base import Record
from adaqat_hw.schema.folding import FoldingTarget

# Share of the board that the fastest folding may take where none is asked for.
DEFAULT_FILL = 0.7
ThroughputKind = Literal["default", "unfolded", "fps", "fit", "folding"]
# Who set PE and SIMD: the measured cost model, FINN's own folding, the user node by node, nobody.
FoldedBy = Literal["cost_model", "finn", "hand", "nobody"]


class ThroughputRequest(Record):
    """What throughput a build was asked for.

    ``kind`` is ``fps`` (the cheapest folding of at least ``fps`` frames per second within
    ``fill`` of the board), ``fit`` (the fastest within ``fill``), ``folding`` (PE and SIMD given
    node by node), ``unfolded`` (PE = SIMD = 1 on purpose) or ``default`` (nothing was asked).
    """

    kind: ThroughputKind = "default"
    fps: int | None = Field(default=None, gt=0)
    fill: float | None = Field(default=None, gt=0, le=1)

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if (self.kind == "fps") != (self.fps is not None):
            raise ValueError(f"kind {self.kind!r} with fps {self.fps!r}: they belong together")
        if (self.kind in ("fps", "fit")) != (self.fill is not None):
            raise ValueError(f"kind {self.kind!r} with fill {self.fill!r}: they belong together")
        return self

    @property
    def target(self) -> FoldingTarget | None:
        """What a folding is searched for, None where none is."""
        return None if self.fill is None else FoldingTarget(fps=self.fps, fill=self.fill)

    def describe(self, board: str) -> str:
        """Return what was asked, in words.

        >>> ThroughputRequest(kind="fps", fps=1000, fill=1.0).describe("pynq-z1")
        '1,000 frames/s asked'
        >>> ThroughputRequest(kind="fit", fill=0.7).describe("pynq-z1")
        'fastest within 70 % of pynq-z1 asked'
        """
        room = f"within {100 * (self.fill or 1):g} % of {board}"
        if self.fps is not None:
            return f"{self.fps:,} frames/s {room if self.fill != 1 else ''}".rstrip() + " asked"
        words = {
            "default": "no throughput asked (PE = SIMD = 1)",
            "unfolded": "PE = SIMD = 1 asked",
            "fit": f"fastest {room} asked",
            "folding": "folding given by hand",
        }
        return words[self.kind]

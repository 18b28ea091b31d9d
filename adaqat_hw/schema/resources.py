"""ResourceReport: what a tool said a design costs. ``None`` means not reported, never 0."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

from adaqat_hw.schema._base import Record

Source = Literal[
    "analytic", "finn_estimate", "yosys_synth", "nextpnr_pnr", "vivado_synth", "vivado_impl"
]
# What a backend's own estimate may be: one for each backend that makes one.
ESTIMATES: tuple[Source, ...] = ("finn_estimate",)


class Resources(Record):
    """Counts of FPGA primitives; ``bram_18k`` in 18-kbit halves."""

    lut: int | None = None
    ff: int | None = None
    dsp: int | None = None
    bram_18k: int | None = None
    uram: int | None = None


RESOURCE_NAMES = ("lut", "ff", "dsp", "bram_18k", "uram")


def add_resources(rows: Iterable[Resources]) -> Resources:
    """Return the sum; a column with one ``None`` in it sums to ``None``, as does no row."""
    listed = list(rows)
    total: dict[str, int | None] = {}
    for name in RESOURCE_NAMES:
        column = [getattr(row, name) for row in listed]
        total[name] = None if not column or None in column else sum(column)
    return Resources(**total)


class LayerResources(Record):
    """Resources of one layer; ``nodes`` are the hardware nodes counted into it."""

    layer: str
    resources: Resources
    nodes: tuple[str, ...] = ()


class ResourceReport(Record):
    """Total and per-layer resources of one design from one source, with provenance.

    ``layer_sum`` is the sum of ``layers``; it differs from ``total`` where the whole was
    synthesized as one, and ``total_is_sum`` says that it was not. ``unmatched`` lists hardware
    nodes that belong to no layer row.
    """

    schema_version: ClassVar[int] = 2
    remedy: ClassVar[str] = "build again"

    plan: str
    source: Source
    part: str
    tool: str
    tool_version: str
    total: Resources
    layer_sum: Resources
    layers: tuple[LayerResources, ...]
    unmatched: tuple[str, ...] = ()
    source_file: str
    source_sha256: str
    total_is_sum: bool = False
    slack_ns: float | None = None
    fmax_mhz: float | None = None

"""Board: an FPGA part with its totals."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adaqat_hw.schema._base import Record


class Board(Record):
    """Part, totals and defaults of a board; read from ``hw/boards/<name>.toml``.

    ``bram_18k`` counts 18-kbit halves; ``yosys_family`` is what Yosys calls the family.

    A Lattice ECP5 board counts LUT4 in ``lut``, DP16KD (18 kbit each) in ``bram_18k`` and
    MULT18X18D in ``dsp``, and sets the fields with a default below: ``package`` and
    ``speed_grade`` for place and route, ``top`` and ``constraints`` (a board top of ``hw/ecp5``,
    a file of ``hw/constraints`` or an absolute path), ``oscillator_mhz``, and ``finn_part``: FINN
    knows AMD parts only, so its own checks and estimates are made for that one.
    """

    name: str
    part: str
    vendor: Literal["amd", "lattice"] = "amd"
    family: Literal["zynq7000", "zynqultrascale+", "ecp5"]
    yosys_family: Literal["xc7", "xcup", "ecp5"]
    dsp_block: Literal["DSP48E1", "DSP48E2", "MULT18X18D"]
    package: str | None = None
    speed_grade: int | None = Field(default=None, ge=6, le=8)
    finn_part: str | None = None
    top: str | None = None
    constraints: str | None = None
    oscillator_mhz: float | None = Field(default=None, gt=0)
    lut: int = Field(gt=0)
    ff: int = Field(gt=0)
    dsp: int = Field(gt=0)
    bram_18k: int = Field(gt=0)
    uram: int = Field(ge=0)
    default_clock_ns: float = Field(gt=0)
    source: str

"""Board: an FPGA part with its totals."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adaqat_hw.schema._base import Record


class Board(Record):
    """Part, totals and defaults of a board; read from ``hw/boards/<name>.toml``.

    ``bram_18k`` counts 18-kbit halves; ``yosys_family`` is what synth_xilinx calls it.
    """

    name: str
    part: str
    family: Literal["zynq7000", "zynqultrascale+"]
    yosys_family: Literal["xc7", "xcup"]
    dsp_block: Literal["DSP48E1", "DSP48E2"]
    lut: int = Field(gt=0)
    ff: int = Field(gt=0)
    dsp: int = Field(gt=0)
    bram_18k: int = Field(gt=0)
    uram: int = Field(ge=0)
    default_clock_ns: float = Field(gt=0)
    source: str

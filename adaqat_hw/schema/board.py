"""Board: an FPGA part with its totals."""

from __future__ import annotations

import re
from typing import ClassVar

from pydantic import Field, field_validator

from adaqat_hw.schema._base import Record


class Board(Record):
    """Part, totals and defaults of a board; read from ``hw/boards/<name>.toml``.

    ``family`` names a file of ``hw/families``, which says what the totals count: ``lut`` its
    LUTs, ``dsp`` its DSP blocks, ``bram_18k`` its block RAM in 18-kbit halves.

    ``vivado_board`` is Vivado's name of the board, which goal ``bitfile`` needs (some need their
    maker's board files installed beside Vivado); ``vivado_licence_free`` tells that Vivado takes
    the part without a licence.

    A board whose bitstream open tools make sets ``package`` and ``speed_grade`` for place and
    route, ``top`` and ``constraints`` (a board top of the family's shell, a file of
    ``hw/constraints`` or an absolute path), and ``oscillator_mhz``.
    """

    schema_version: ClassVar[int] = 2

    name: str
    part: str
    family: str
    vivado_board: str | None = None
    vivado_licence_free: bool = False
    package: str | None = None
    speed_grade: int | None = Field(default=None, gt=0)
    top: str | None = None
    constraints: str | None = None
    oscillator_mhz: float | None = Field(default=None, gt=0)
    lut: int = Field(gt=0)
    ff: int = Field(gt=0)
    dsp: int = Field(gt=0)
    bram_18k: int = Field(gt=0)
    uram: int = Field(ge=0)
    default_clock_ns: float = Field(gt=0, allow_inf_nan=False)
    source: str

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
            raise ValueError(
                "a board's name, which names its build folders, is 1 to 64 letters, digits, '.', "
                "'_' or '-', and starts with a letter or digit"
            )
        return value

"""BitstreamResult: a bitstream that open tools made, and what its clock is worth."""

from __future__ import annotations

from pydantic import Field

from adaqat_hw.schema._base import Record


class BitstreamResult(Record):
    """One bitstream; ``file`` is relative to the build's folder.

    ``clock_mhz`` is the clock that the board gives the accelerator, ``fmax_mhz`` the fastest at
    which the routed design works; where timing is missed (``timing_met`` false) the board must
    not be trusted at ``clock_mhz``. ``line_frames`` frames were simulated from pin to pin,
    through the serial line at ``baud``; ``line_fps`` is what that line carries at most.
    ``seconds`` are by tool, of the original run where the cache answered.
    """

    file: str
    sha256: str
    part: str
    top: str
    build: str
    clock_mhz: float = Field(gt=0)
    fmax_mhz: float = Field(gt=0)
    timing_met: bool
    baud: int
    line_frames: int
    line_fps: float
    used: dict[str, int]
    available: dict[str, int]
    seconds: dict[str, float]
    tool_versions: dict[str, str]

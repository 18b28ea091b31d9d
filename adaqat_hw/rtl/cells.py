"""Count the cells of a synthesized netlist as FPGA resources.

The conventions, so that a number can be compared with a vendor's report:

- LUT: LUT1 to LUT6 count one each, as does LUT6_2 (one LUT with two outputs). Vivado places
  two small LUTs that share inputs into one; Yosys does not, so its count is an upper bound.
- LUTs used as memory are LUTs, as in Vivado's "Slice LUTs": a distributed RAM counts the LUT
  sites it takes, a shift register one. ``CellCount.lut_memory`` is their share.
- FF: flip-flops and latches.
- BRAM in 18-kbit halves: RAMB18 counts one, RAMB36 two.
- Lattice ECP5: LUT4 count as LUT, a carry cell CCU2C two of them and a distributed RAM
  TRELLIS_DPR16X4 six (two of them its write port); DP16KD (18 kbit) is one BRAM half,
  MULT18X18D one DSP.
- Not counted: carry chains, MUXF7/8/9 and inverters (the slice has them, or they are absorbed
  into the LUT behind them), buffers and constants.

A cell type that is not known here is listed in ``CellCount.unknown``, never dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from adaqat_hw.schema import Resources

# LUT sites of one distributed RAM: UG474 (7-series) and UG574 (UltraScale).
_LUT_MEMORY = {
    "RAM16X1S": 1, "RAM32X1S": 1, "RAM64X1S": 1, "RAM128X1S": 2, "RAM256X1S": 4,
    "RAM512X1S": 8, "RAM16X1D": 2, "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4,
    "RAM256X1D": 8, "RAM32M": 4, "RAM64M": 4, "RAM32M16": 8, "RAM64M8": 8,
    "RAM32X16DR8": 8, "RAM64X8SW": 8,
    "TRELLIS_DPR16X4": 6,
    "SRL16E": 1, "SRLC16E": 1, "SRLC32E": 1, "CFGLUT5": 1,
}  # fmt: skip
_LUT = re.compile(r"LUT[1-6]|LUT6_2")
_CARRY_LUTS = {"CCU2C": 2}
_FF = re.compile(r"(?:FD[RSCP]E|LD[CP]E)(?:_1)?|TRELLIS_FF")
_DSP = re.compile(r"DSP48E[12]|DSP58|MULT18X18D")
_BRAM = {"DP16KD": 1, "RAMB18E1": 1, "RAMB18E2": 1, "RAMB36E1": 2, "RAMB36E2": 2}
_URAM = {"URAM288", "URAM288_BASE"}
_FREE = re.compile(r"INV|CARRY[48]|MUXF[789]|PFUMX|L6MUX21|BUFG|BUF|VCC|GND|\$scopeinfo")


@dataclass(frozen=True)
class CellCount:
    """Resources of a netlist; ``lut_memory`` is the part of its LUTs used as memory."""

    resources: Resources
    lut_memory: int
    unknown: dict[str, int] = field(default_factory=dict)


def count_cells(cells: Mapping[str, int]) -> CellCount:
    """Count cells by type.

    >>> count_cells({"LUT4": 3, "RAM32M": 1, "RAMB36E1": 1, "CARRY4": 9}).resources.lut
    7
    """
    logic = memory = ff = dsp = bram = uram = 0
    unknown: dict[str, int] = {}
    for name, count in sorted(cells.items()):
        if _LUT.fullmatch(name):
            logic += count
        elif name in _CARRY_LUTS:
            logic += _CARRY_LUTS[name] * count
        elif name in _LUT_MEMORY:
            memory += _LUT_MEMORY[name] * count
        elif _FF.fullmatch(name):
            ff += count
        elif _DSP.fullmatch(name):
            dsp += count
        elif name in _BRAM:
            bram += _BRAM[name] * count
        elif name in _URAM:
            uram += count
        elif not _FREE.fullmatch(name):
            unknown[name] = count
    return CellCount(
        Resources(lut=logic + memory, ff=ff, dsp=dsp, bram_18k=bram, uram=uram), memory, unknown
    )

"""Count the cells of a synthesized netlist as FPGA resources, by the weights of the family.

The conventions, so that a number can be compared with a vendor's report:

- LUT: every LUT counts one, whatever its inputs; a primitive of several LUTs counts them.
- LUTs used as memory are LUTs, as in Vivado's "Slice LUTs": a distributed RAM counts the LUT
  sites it takes, a shift register one. ``CellCount.lut_memory`` is their share.
- FF: flip-flops and latches.
- BRAM in 18-kbit halves.
- Not counted: what the slice has beside its LUTs (carry chains, wide multiplexers), what is
  absorbed into the LUT behind it (inverters), buffers and constants.

A cell type that the family does not know is listed in ``CellCount.unknown``, never dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from adaqat_hw.schema import CellWeights, Resources


@dataclass(frozen=True)
class CellCount:
    """Resources of a netlist; ``lut_memory`` is the part of its LUTs used as memory."""

    resources: Resources
    lut_memory: int
    unknown: dict[str, int] = field(default_factory=dict)


def count_cells(cells: Mapping[str, int], weights: CellWeights) -> CellCount:
    """Count cells by type.

    >>> weights = CellWeights(lut={"LUT4": 1}, ff={}, dsp={}, bram_18k={}, free=("CARRY",))
    >>> count_cells({"LUT4": 3, "CARRY": 9, "X": 1}, weights).resources.lut
    3
    """

    def total(table: Mapping[str, int]) -> int:
        return sum(table[name] * count for name, count in cells.items() if name in table)

    tables = (weights.lut, weights.lut_memory, weights.ff, weights.dsp, weights.bram_18k)
    known = {*weights.free, *weights.uram}.union(*tables)
    memory = total(weights.lut_memory)
    return CellCount(
        Resources(
            lut=total(weights.lut) + memory,
            ff=total(weights.ff),
            dsp=total(weights.dsp),
            bram_18k=total(weights.bram_18k),
            uram=total(weights.uram),
        ),
        memory,
        {name: count for name, count in sorted(cells.items()) if name not in known},
    )

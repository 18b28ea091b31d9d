from __future__ import annotations

import pytest

from adaqat_hw.rtl.cells import count_cells
from adaqat_hw.schema import Resources


def test_every_convention_in_one_netlist():
    count = count_cells(
        {
            "LUT1": 1, "LUT2": 2, "LUT3": 4, "LUT4": 8, "LUT5": 16, "LUT6": 32, "LUT6_2": 64,
            "FDRE": 1, "FDSE": 2, "FDCE": 4, "FDPE_1": 8, "LDCE": 16,
            "DSP48E1": 1, "DSP48E2": 2, "RAMB18E1": 1, "RAMB36E2": 2, "URAM288": 3,
            "CARRY4": 100, "CARRY8": 100, "INV": 100, "MUXF7": 100, "MUXF8": 100, "BUFG": 1,
        }
    )  # fmt: skip
    assert count.resources == Resources(lut=127, ff=31, dsp=3, bram_18k=5, uram=3)
    assert count.lut_memory == 0
    assert count.unknown == {}


@pytest.mark.parametrize(
    ("cell", "sites"),
    [("RAM32M", 4), ("RAM64M8", 8), ("RAM32M16", 8), ("RAM128X1D", 4), ("RAM64X1S", 1),
     ("RAM256X1S", 4), ("SRL16E", 1), ("SRLC32E", 1)],
)  # fmt: skip
def test_memory_luts_count_their_sites(cell, sites):
    count = count_cells({cell: 3, "LUT6": 1})
    assert count.lut_memory == 3 * sites
    assert count.resources.lut == 3 * sites + 1


def test_unknown_cells_are_listed_not_dropped():
    count = count_cells({"LUT6": 1, "$mul": 2, "FIFO36E1": 1, "LUT66": 5})
    assert count.unknown == {"$mul": 2, "FIFO36E1": 1, "LUT66": 5}
    assert count.resources.lut == 1


def test_an_empty_netlist_has_nothing_of_everything():
    assert count_cells({}).resources == Resources(lut=0, ff=0, dsp=0, bram_18k=0, uram=0)

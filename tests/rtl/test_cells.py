from __future__ import annotations

import pytest

from adaqat_hw import families
from adaqat_hw.rtl.cells import count_cells
from adaqat_hw.schema import Resources

NETLISTS = {
    "xc7": (
        {
            "LUT1": 1, "LUT2": 2, "LUT3": 4, "LUT4": 8, "LUT5": 16, "LUT6": 32, "LUT6_2": 64,
            "FDRE": 1, "FDSE": 2, "FDCE": 4, "FDPE_1": 8, "LDCE": 16,
            "DSP48E1": 3, "RAMB18E1": 1, "RAMB36E1": 2,
            "CARRY4": 100, "INV": 100, "MUXF7": 100, "MUXF8": 100, "BUFG": 1, "$scopeinfo": 9,
        },
        Resources(lut=127, ff=31, dsp=3, bram_18k=5, uram=0),
    ),
    "xcup": (
        {
            "LUT5": 16, "LUT6_2": 64, "FDRE_1": 1, "LDPE": 2, "DSP48E2": 3, "RAMB18E2": 1,
            "RAMB36E2": 2, "URAM288": 3, "URAM288_BASE": 1, "CARRY8": 100, "CARRY4": 9,
            "MUXF9": 100,
        },
        Resources(lut=80, ff=3, dsp=3, bram_18k=5, uram=4),
    ),
    "ecp5": (
        {
            "LUT4": 8, "CCU2C": 3, "TRELLIS_FF": 5, "MULT18X18D": 2, "DP16KD": 4, "PFUMX": 9,
            "L6MUX21": 9,
        },
        Resources(lut=14, ff=5, dsp=2, bram_18k=4, uram=0),
    ),
}  # fmt: skip


def count(family, cells):
    return count_cells(cells, families.load(family).cells)


@pytest.mark.parametrize("family", NETLISTS)
def test_every_convention_in_one_netlist(family):
    cells, resources = NETLISTS[family]
    counted = count(family, cells)
    assert counted.resources == resources
    assert (counted.lut_memory, counted.unknown) == (0, {})


def test_every_family_has_such_a_netlist():
    assert set(NETLISTS) == set(families.names())


@pytest.mark.parametrize(
    ("family", "cell", "sites"),
    [("xc7", "RAM32M", 4), ("xcup", "RAM64M8", 8), ("xcup", "RAM32M16", 8),
     ("xc7", "RAM128X1D", 4), ("xc7", "RAM64X1S", 1), ("xcup", "RAM256X1S", 4),
     ("xc7", "SRL16E", 1), ("xcup", "SRLC32E", 1), ("ecp5", "TRELLIS_DPR16X4", 6)],
)  # fmt: skip
def test_memory_luts_count_their_sites(family, cell, sites):
    counted = count(family, {cell: 3, "LUT4": 1})
    assert counted.lut_memory == 3 * sites
    assert counted.resources.lut == 3 * sites + 1


@pytest.mark.parametrize("family", families.names())
def test_a_cell_counts_once(family):
    weights = families.load(family).cells
    tables = (weights.lut, weights.lut_memory, weights.ff, weights.dsp, weights.bram_18k)
    listed = [name for table in (*tables, weights.uram, weights.free) for name in table]
    assert len(listed) == len(set(listed))


def test_unknown_cells_are_listed_not_dropped():
    counted = count("xc7", {"LUT6": 1, "$mul": 2, "FIFO36E1": 1, "LUT66": 5, "TRELLIS_FF": 1})
    assert counted.unknown == {"$mul": 2, "FIFO36E1": 1, "LUT66": 5, "TRELLIS_FF": 1}
    assert counted.resources == Resources(lut=1, ff=0, dsp=0, bram_18k=0, uram=0)


def test_an_empty_netlist_has_nothing_of_everything():
    assert count("xcup", {}).resources == Resources(lut=0, ff=0, dsp=0, bram_18k=0, uram=0)

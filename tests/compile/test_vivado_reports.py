"""Vivado's reports: the right numbers, and nothing guessed from a file that is not understood."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from adaqat_hw import families
from adaqat_hw.compile.vivado_reports import (
    read_hierarchy,
    read_power,
    read_timing,
    read_utilization,
)
from adaqat_hw.errors import ReportError
from adaqat_hw.schema import Resources

REPORTS = Path(__file__).parent / "reports"
SERIES7, ULTRASCALE = (families.load(name).vivado.utilization for name in ("xc7", "xcup"))


@pytest.fixture
def changed(tmp_path):
    """Copy a report with one text replaced by another, which must occur."""

    def change(name: str, old: str, new: str, count: int = 1) -> Path:
        text = (REPORTS / name).read_text(encoding="utf-8")
        assert old in text
        path = tmp_path / name
        path.write_text(text.replace(old, new, count), encoding="utf-8")
        return path

    return change


def test_seven_series():
    made = read_utilization(REPORTS / "utilization_7series.rpt", SERIES7)
    assert made.used == Resources(lut=12345, ff=9876, dsp=18, bram_18k=33, uram=None)
    assert made.available == Resources(lut=53200, ff=106400, dsp=220, bram_18k=280, uram=None)
    assert (made.version, made.device, made.state) == ("2023.2", "xc7z020clg400-1", "Routed")


def test_the_report_of_another_family_is_not_understood():
    with pytest.raises(ReportError, match="0 tables in section 'CLB Logic', where there must be"):
        read_utilization(REPORTS / "utilization_7series.rpt", ULTRASCALE)


def test_ultrascale_names_and_the_older_columns():
    made = read_utilization(REPORTS / "utilization_ultrascale.rpt", ULTRASCALE)
    assert made.used == Resources(lut=12345, ff=9876, dsp=18, bram_18k=33, uram=2)
    assert made.version == "2022.2"


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("| Slice LUTs*  ", "| Zlice LUTs*  ", r"line 28: 0 rows 'Slice LUTs' in 'Slice Logic'"),
        ("12345 |", "  ??? |", r"line 30: 'Slice LUTs' is '\?\?\?', which is no count"),
        ("12345 |", "      |", r"line 30: 'Slice LUTs' is '', which is no count"),
        ("|  Used | Fixed |", "| Uzed  | Fixed |", r"line 28: unknown columns \['Site Type', 'Uz"),
        ("| 16.5 |", "| 17.5 |", r"17\.5 block RAM tiles do not agree with 14 RAMB36 and 5 RAMB18"),
        ("3. Memory\n---------", "3. Memories\n-----------", r"0 tables in section 'Memory', "),
        ("report_utilization", "report_clocks", r"line 1: the report is of 'report_clocks -file"),
        ("| Tool Version", "| Zool Version", "this is no Vivado report"),
        ("Vivado v.2023.2", "Vivado vX", "line 1: its head names no Vivado version"),
        ("|          0 |     53200 | 23.20 |", "|", "line 30: 3 cells in a table of 6"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_an_error_with_file_and_line(changed, old, new, text):
    with pytest.raises(ReportError, match=rf"utilization_7series\.rpt', .*{text}"):
        read_utilization(changed("utilization_7series.rpt", old, new), SERIES7)


@pytest.mark.parametrize("name", ["utilization_7series.rpt", "hierarchy.rpt", "power.rpt"])
def test_no_truncation_of_the_table_is_believed(tmp_path, name):
    read = {
        "u": partial(read_utilization, terms=SERIES7),
        "h": partial(read_hierarchy, terms=SERIES7),
        "p": read_power,
    }[name[0]]
    whole = read(REPORTS / name)
    lines = (REPORTS / name).read_text(encoding="utf-8").splitlines(keepends=True)
    path = tmp_path / name
    for count in range(len(lines)):
        path.write_text("".join(lines[:count]), encoding="utf-8")
        try:
            assert read(path) == whole
        except ReportError:
            continue


def test_a_missing_or_empty_report_is_an_error(tmp_path):
    with pytest.raises(ReportError, match=r"gone\.rpt' cannot be read"):
        read_utilization(tmp_path / "gone.rpt", SERIES7)
    (tmp_path / "e.rpt").write_text("")
    with pytest.raises(ReportError, match="no Vivado report"):
        read_power(tmp_path / "e.rpt")


def test_hierarchy_is_a_tree_without_own_logic_rows():
    top = read_hierarchy(REPORTS / "hierarchy.rpt", SERIES7)
    assert (top.name, top.module) == ("accelerator", "(top)")
    assert top.resources == Resources(lut=300, ff=410, dsp=4, bram_18k=3, uram=None)
    assert [child.name for child in top.children] == ["MVAU_rtl_0", "genblk1[0].Threshold"]
    assert [child.name for child in top.children[0].children] == ["core"]
    assert top.children[0].children[0].resources.lut == 195


def test_percentages_in_the_hierarchy_are_left_out(changed):
    path = changed("hierarchy.rpt", "       300 |", "300(0.56%) |")
    assert read_hierarchy(path, SERIES7).resources.lut == 300


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("| DSP Blocks |", "| XYZ Blocks |", r"line 22: unknown columns .*'XYZ Blocks'"),
        ("|     core   ", "|    core    ", r"line 28: an indent of 3 spaces"),
        ("|     core  ", "|       core", r"line 28: an indent that skips a level"),
        ("|   genblk1[0].Threshold  ", "| genblk1[0].Threshold    ", r"line 29: a second top"),
        ("|   300", "|  -300", r"line 24: 'accelerator' is"),
    ],
)
def test_a_hierarchy_that_is_none_is_an_error(changed, old, new, text):
    text_of = (REPORTS / "hierarchy.rpt").read_text()
    if old == "|   300":
        old, new = "       300 |", "      -300 |"
    assert old in text_of
    with pytest.raises(ReportError, match=text):
        read_hierarchy(changed("hierarchy.rpt", old, new), SERIES7)


def test_timing_that_is_missed():
    timing = read_timing(REPORTS / "timing.rpt")
    assert (timing.wns_ns, timing.tns_ns, timing.failing_endpoints) == (-0.312, -2.184, 10)
    assert (timing.whs_ns, timing.ths_ns, timing.met) == (0.033, 0.0, False)


def test_a_slack_of_zero_is_a_slack(changed):
    path = changed("timing.rpt", "-0.312 ", " 0.000 ")
    path.write_text(path.read_text().replace(
        "Timing constraints are not met.", "All user specified timing constraints are met."
    ))  # fmt: skip
    timing = read_timing(path)
    assert timing.wns_ns == 0.0
    assert timing.met is True


def test_na_is_missing_and_no_number(changed):
    path = changed("timing.rpt", "-0.312       -2.184                     10", "NA NA NA")
    path.write_text(path.read_text().replace(
        "Timing constraints are not met.", "There are no user specified timing constraints."
    ))  # fmt: skip
    timing = read_timing(path)
    assert (timing.wns_ns, timing.failing_endpoints, timing.met) == (None, None, None)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("-0.312 ", "fast   ", r"line 28: 'fast' is no number"),
        ("-0.312 ", "nan    ", r"line 28: 'nan' is no number"),
        ("    WNS(ns)", "    WQS(ns)", r"line 26: unknown columns"),
        ("Timing constraints are not met.", "Fine.", "no sentence says whether timing is met"),
        ("| Design Timing Summary", "| Clock Timing", "0 tables 'Design Timing Summary'"),
    ],
)
def test_a_timing_summary_that_is_none_is_an_error(changed, old, new, text):
    with pytest.raises(ReportError, match=text):
        read_timing(changed("timing.rpt", old, new))


def test_power_with_a_remark():
    power = read_power(REPORTS / "power.rpt")
    assert (power.total_w, power.dynamic_w, power.static_w) == (1.795, 1.576, 0.219)
    assert power.confidence == "Low"


def test_power_without_a_row_is_an_error(changed):
    with pytest.raises(ReportError, match=r"no row 'Dynamic \(W\)' in the summary"):
        read_power(changed("power.rpt", "| Dynamic (W) ", "| Dinamic (W) "))

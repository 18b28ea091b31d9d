from __future__ import annotations

import re

import pytest

from adaqat_hw import tools
from adaqat_hw.errors import StageFailed, ToolNotFound
from adaqat_hw.rtl.finn_patches import FINN_PATCHES, patch_file, patch_text
from adaqat_hw.tools import FINN_PLUS_VERSION

# The shortest texts that show each fault; written for the tests.
SAMPLES = {
    "fifo.sv": (
        "module fifo (input logic clk);\n`default_nettype none\n"
        "typedef struct { int unsigned a; } abits_t;\n"
        "typedef struct { int unsigned a; } other_t;\n`default_nettype wire\nendmodule\n"
    ),
    "vpc.sv": "module vpc;\n`default_nettype none\nendmodule\n",
    "skid.sv": '$error("%m: number of %0d FEED_STAGES is wrong.");\n',
    "add_multi.sv": (
        "module m;\n\tif(L < 1) begin : a\n\tend\n\telse begin : b\n"
        "\t\ttypedef int unsigned  leaf_load_t[2];\n\t\tfunction leaf_load_t f();\n"
        "\t\t\treturn 0;\n\t\tendfunction : f\n\t\tlocalparam leaf_load_t X = f();\n\tend\n"
        "endmodule\n"
    ),
    "mvu.sv": "initial begin\n\t#100ns;\n\tDirty <= 0;\nend\nalways Other <= 0;\n",
    "mvu_vvu_axi.sv": "localparam int unsigned  MAX_IN_FLIGHT = CORE_PIPELINE_DEPTH;\n",
    "thresholding.sv": "a = p.ptr[M-1:SN+1] < 4; b = p.ptr[M-1:SN+1];\n",
}


def test_every_rule_has_a_sample_and_says_why_it_exists():
    assert {rule.file for rule in FINN_PATCHES} == set(SAMPLES)
    assert len({rule.name for rule in FINN_PATCHES}) == len(FINN_PATCHES)
    for rule in FINN_PATCHES:
        assert rule.version == FINN_PLUS_VERSION
        assert len(rule.symptom.split()) > 3
        assert len(rule.delete_when.split()) > 2
        assert "," not in rule.name


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_mending_twice_is_mending_once(name):
    once, applied = patch_text(name, SAMPLES[name])
    assert applied == tuple(rule.name for rule in FINN_PATCHES if rule.file == name)
    assert once != SAMPLES[name]
    assert patch_text(name, once) == (once, ())


@pytest.mark.parametrize("rule", FINN_PATCHES, ids=lambda rule: rule.name)
def test_a_rule_that_no_longer_matches_fails_loudly(rule):
    text = re.sub(rule.pattern, "", SAMPLES[rule.file], flags=re.MULTILINE)
    with pytest.raises(StageFailed, match=f"the patch '{rule.name}'.*matches nothing in"):
        patch_text(rule.file, text)


def test_other_files_are_left_alone():
    text = "`default_nettype none\n"
    assert patch_text("other.sv", text) == (text, ())


def test_what_the_mends_change():
    fifo = patch_text("fifo.sv", SAMPLES["fifo.sv"])[0]
    assert "default_nettype" not in fifo
    assert "typedef struct packed { int unsigned a; } abits_t;" in fifo
    assert "typedef struct { int unsigned a; } other_t;" in fifo
    assert 'is wrong.", FEED_STAGES);' in patch_text("skid.sv", SAMPLES["skid.sv"])[0]
    adder = patch_text("add_multi.sv", SAMPLES["add_multi.sv"])[0]
    assert adder.index("endfunction : f") < adder.index("if(L < 1)") < adder.index("X = f()")
    assert adder.count("function leaf_load_t") == 1
    mvu = patch_text("mvu.sv", SAMPLES["mvu.sv"])[0]
    assert "Dirty = 0;" in mvu
    assert "Other <= 0;" in mvu
    bisection = patch_text("thresholding.sv", SAMPLES["thresholding.sv"])[0]
    assert "a = (p.ptr[M-1:0] >> (SN+1)) < 4; b = p.ptr[M-1:SN+1];" in bisection


def test_files_are_mended_in_place_and_marked(tmp_path):
    path = tmp_path / "skid.sv"
    path.write_text(SAMPLES["skid.sv"])
    assert patch_file(path) == ("error-without-argument",)
    assert path.read_text().endswith("// Patched by adaqat-hw: error-without-argument\n")
    assert patch_file(path) == ()
    assert [p.name for p in tmp_path.iterdir()] == ["skid.sv"]


@pytest.mark.finn
def test_the_installed_finn_still_needs_every_mend():
    try:
        python = tools.finn_python()
    except ToolNotFound as exc:
        pytest.skip(str(exc))
    library = sorted(python.parent.parent.glob("lib/python3*/site-packages/finn/finn-rtllib"))
    assert library, "the FINN environment has no finn-rtllib"
    for name in SAMPLES:
        found = [path for path in library[0].rglob(name) if "sim" not in path.parts]
        assert found, name
        for path in found:
            _, applied = patch_text(name, path.read_text(encoding="utf-8"), str(path))
            assert applied == tuple(rule.name for rule in FINN_PATCHES if rule.file == name)

"""Names of layers and nodes, whatever they are, do not become Verilog."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from adaqat_hw.rtl.integer_model import IntegerModel
from adaqat_hw.rtl.packing import pack_words, unpack_words
from adaqat_hw.rtl.sources import SourceIndex
from adaqat_hw.rtl.stitch import stitch
from adaqat_hw.rtl.verilog_names import comment, sanitise
from tests.rtl.stitch_builds import (
    S4,
    S16,
    simulate,
)

HOSTILE = (
    "x; endmodule module evil; initial $display(1",
    'a"); $readmemh("/etc/passwd',
    'layer\n`include "/etc/passwd"\n*/ // synthesis translate_off',
    "\\escaped ",
    "module",
    "ap_clk",
    "in0_V_TDATA",
    "node_fifo",
    "accelerator",
    "",
    "fc1",
    "ä.ö",
    "a" * 500,
)


@settings(deadline=None, max_examples=25,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(
    st.lists(st.sampled_from(HOSTILE) | st.text(max_size=8), min_size=2, max_size=2, unique=True),
    st.sampled_from(HOSTILE) | st.text(max_size=8),
)
def test_names_cannot_become_verilog(build, names, network):
    assume(not {"fifo", "th"} & set(names))
    graph, parameters, folder = build((names[0], names[1]), network=network)
    design = stitch(graph, folder, parameters=parameters)
    made = {unit.module for unit in (*design.nodes.values(), *design.layers.values())}
    assert len(made) == 6
    written = list(design.folder.glob("*.sv"))
    assert {path.stem for path in written} == made | {"accelerator"}
    assert SourceIndex(written).names == made | {"accelerator"}
    for path in written:
        text = path.read_text()
        assert text.isascii()
        assert "`" not in text
        assert "$" not in text
        assert "/*" not in text
        assert "\\" not in text
        for line in re.findall(r"//.*", text):
            assert "synthesis translate" not in line
    for name in design.data_files:
        assert re.fullmatch(r"[A-Za-z0-9_.\-]+", name)


@pytest.mark.rtl
def test_hostile_names_still_simulate(build, verilator):
    graph, parameters, folder = build((HOSTILE[0], "in0_V"), network=HOSTILE[2])
    design = stitch(graph, folder, parameters=parameters)
    frames = np.arange(8).reshape(2, 4) - 4
    run = simulate(design, folder / "sim").run(
        pack_words(frames.reshape(-1, 2), S4), 4, max_cycles=1000
    )
    expected = IntegerModel(graph, parameters).run(frames)
    assert np.array_equal(unpack_words(run.words, 2, S16).reshape(2, 4), expected)


@given(st.text())
def test_sanitised_names_are_identifiers(text):
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", sanitise(text))
    assert re.fullmatch(r"[A-Za-z0-9_.\-/?]*", comment(text))

"""Stitched designs compute what their integer model says: chains, forks, joins."""

from __future__ import annotations

import re

import numpy as np
import pytest

from adaqat_hw.errors import StageFailed
from adaqat_hw.rtl.integer_model import IntegerModel
from adaqat_hw.rtl.packing import pack_words, unpack_words
from adaqat_hw.rtl.stitch import stitch
from adaqat_hw.rtl.verilate import Stall
from adaqat_hw.schema import IntType
from tests.rtl.stitch_builds import (
    HELPER,
    S4,
    S16,
    WIRE,
    make_graph,
    make_node,
    mvau,
    residual,
    simulate,
    stream,
)


@pytest.mark.rtl
def test_a_chain_computes_what_the_model_says(build, verilator):
    graph, parameters, folder = build()
    design = stitch(graph, folder, parameters=parameters)
    frames = np.random.default_rng(5).integers(-8, 8, (40, 4))
    expected = IntegerModel(graph, parameters).run(frames)
    simulator = simulate(design, folder / "sim")
    words = pack_words(frames.reshape(-1, 2), S4)
    for stall in (None, Stall(seed=2)):
        run = simulator.run(words, 80, max_cycles=20_000, stall=stall, drain=50, init_seed=3)
        assert np.array_equal(unpack_words(run.words, 2, S16).reshape(40, 4), expected)


@pytest.mark.rtl
def test_finns_mvau_gets_its_weights_from_this_projects_memory(build, verilator):
    graph, parameters, folder = build()
    (folder / "hdl" / "finn_mvau.sv").write_text(
        "module finn_mvau #(parameter WEIGHT_WIDTH = 9) (\n"
        "  input logic ap_clk, ap_clk2x, ap_rst_n, input logic [7:0] in0_V_TDATA,\n"
        "  input logic in0_V_TVALID, output logic in0_V_TREADY, input logic [7:0] in1_V_TDATA,\n"
        "  input logic in1_V_TVALID, output logic in1_V_TREADY, output logic [15:0] out0_V_TDATA,\n"
        "  output logic out0_V_TVALID, input logic out0_V_TREADY);\n"
        "  // Sends every weight word of one round, then takes one beat.\n"
        "  assign out0_V_TVALID = in1_V_TVALID && in0_V_TVALID;\n"
        "  assign in1_V_TREADY = out0_V_TREADY && in0_V_TVALID;\n"
        "  assign in0_V_TREADY = out0_V_TREADY && in1_V_TVALID;\n"
        "  assign out0_V_TDATA = {8'(WEIGHT_WIDTH), in1_V_TDATA};\n"
        "endmodule\n"
    )
    source, target = stream("in", 2, 2, S4), stream("out", 1, 4, S16)
    node = mvau("m", source, target, 4, 4, generator="finn", impl="dsp", top_module="finn_mvau",
                files=("hdl/finn_mvau.sv", "hdl/memblock.dat"))  # fmt: skip
    graph = make_graph([node], source, target)
    weights = parameters["fc1__weights"]
    design = stitch(graph, folder, parameters={"m__weights": weights})
    simulator = simulate(design, folder / "sim")
    run = simulator.run([0] * 10, 10, max_cycles=100)
    expected = [
        3 << 8 | (int(weights[2 * sf, row]) & 7) | (int(weights[2 * sf + 1, row]) & 7) << 3
        for row in range(4)
        for sf in range(2)
    ]
    assert list(run.words) == (expected * 2)[:10]


@pytest.mark.rtl
def test_streams_may_fork_and_join(tmp_path, verilator):
    ports = "input logic ap_clk, ap_rst_n, input logic [7:0] in0_V_TDATA, input logic in0_V_TVALID,"
    (tmp_path / "fork.sv").write_text(
        f"module forks ({ports} output logic in0_V_TREADY,\n"
        "  output logic [7:0] out0_V_TDATA, out1_V_TDATA, output logic out0_V_TVALID,\n"
        "  output logic out1_V_TVALID, input logic out0_V_TREADY, out1_V_TREADY);\n"
        "  assign out0_V_TDATA = in0_V_TDATA, out1_V_TDATA = in0_V_TDATA + 1;\n"
        "  assign out0_V_TVALID = in0_V_TVALID && out1_V_TREADY;\n"
        "  assign out1_V_TVALID = in0_V_TVALID && out0_V_TREADY;\n"
        "  assign in0_V_TREADY = out0_V_TREADY && out1_V_TREADY;\nendmodule\n"
    )
    (tmp_path / "join.sv").write_text(
        f"module joins ({ports} output logic in0_V_TREADY, in1_V_TREADY,\n"
        "  input logic [7:0] in1_V_TDATA, input logic in1_V_TVALID,\n"
        "  output logic [7:0] out0_V_TDATA, output logic out0_V_TVALID,\n"
        "  input logic out0_V_TREADY);\n"
        "  assign out0_V_TDATA = in0_V_TDATA - in1_V_TDATA - in1_V_TDATA;\n"
        "  assign out0_V_TVALID = in0_V_TVALID && in1_V_TVALID;\n"
        "  assign in0_V_TREADY = out0_V_TREADY && in1_V_TVALID;\n"
        "  assign in1_V_TREADY = out0_V_TREADY && in0_V_TVALID;\nendmodule\n"
    )
    (tmp_path / "wire.sv").write_text(
        HELPER + WIRE.format(name="w0", high=7) + WIRE.format(name="w1", high=7)
    )
    u8 = IntType(bits=8, signed=False)
    s = {name: stream(name, 1, 4, u8) for name in ("x", "p", "q", "p2", "q2", "y")}
    nodes = [
        make_node("split", "StreamingFIFO", [s["x"]], [s["p"], s["q"]], top_module="forks",
                  files=("fork.sv",)),
        # Declared out of order on purpose: streams, not positions, decide.
        make_node("join", "StreamingFIFO", [s["p2"], s["q2"]], [s["y"]], top_module="joins",
                  files=("join.sv",), layer="both"),
        make_node("left", "StreamingFIFO", [s["p"]], [s["p2"]], top_module="w0",
                  files=("wire.sv",), layer="both"),
        make_node("right", "StreamingFIFO", [s["q"]], [s["q2"]], top_module="w1",
                  files=("wire.sv",), layer="both"),
    ]  # fmt: skip
    design = stitch(make_graph(nodes, s["x"], s["y"]), tmp_path, parameters={}, top="dag")
    assert design.without_layer == ("split",)
    layer = (design.folder / "layer_0.sv").read_text()
    assert re.findall(r"(in\d_V|out\d_V)_TDATA(?:,|\n\))", layer.split(");")[0]) == [
        "in0_V", "in1_V", "out0_V",
    ]  # fmt: skip
    run = simulate(design, tmp_path / "sim").run([5, 250, 0], 3, max_cycles=100, drain=10)
    assert list(run.words) == [(x - 2 * (x + 1)) & 255 for x in (5, 250, 0)]


@pytest.mark.rtl
@pytest.mark.parametrize("label", [False, True])
def test_a_fork_two_branches_and_an_addition(tmp_path, verilator, label):
    graph, parameters = residual(16, label=label)
    design = stitch(graph, tmp_path, parameters=parameters)
    assert "adaqat/adq_duplicate.sv" in (design.folder / "files.f").read_text()
    assert set(design.layers["fc"].nodes) == {"add", "fork", "fc"}
    frames = np.random.default_rng(5).integers(-8, 8, (30, 16))
    frames[0], frames[1] = -8, 7
    model = IntegerModel(graph, parameters)
    tensors = model.trace(frames)
    total = frames @ parameters["fc__weights"] + frames
    assert np.array_equal(tensors["sum"].reshape(30, 16), total)
    expected = model.run(frames)
    if label:
        classes = total.reshape(30, 4, 4).sum(axis=1).argmax(axis=1)
        assert expected[:, 0].tolist() == classes.tolist()
        assert len(set(classes.tolist())) > 1
    simulator = simulate(design, tmp_path / "sim")
    words = pack_words(frames.reshape(-1, 2), S4)
    last = graph.output_stream
    for stall in (None, Stall(seed=2), Stall(3, 0.0, 0.9), Stall(4, 0.9, 0.0)):
        run = simulator.run(
            words, 30 * last.beats, max_cycles=50_000, stall=stall, drain=50, init_seed=3
        )
        got = unpack_words(run.words, last.elements, last.dtype)
        assert np.array_equal(got.reshape(expected.shape), expected)
        if stall is None:
            assert run.interval(last.beats) == 64  # the MVAU's own: the joins add no bubble


@pytest.mark.rtl
def test_a_bypass_without_room_is_a_deadlock(tmp_path, verilator):
    graph, parameters = residual(2, label=False)
    simulator = simulate(stitch(graph, tmp_path, parameters=parameters), tmp_path / "sim")
    with pytest.raises(StageFailed, match=r"0 of 8 outputs .* 4 of 16 inputs were accepted"):
        simulator.run([0] * 16, 8, max_cycles=500)

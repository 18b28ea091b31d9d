from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from adaqat_hw.errors import ConfigError, StageFailed
from adaqat_hw.rtl.integer_model import IntegerModel
from adaqat_hw.rtl.packing import pack_words, unpack_words
from adaqat_hw.rtl.sources import SourceIndex
from adaqat_hw.rtl.stitch import StitchedDesign, stitch
from adaqat_hw.rtl.verilate import Simulator, Stall
from adaqat_hw.rtl.verilog_names import comment, sanitise
from adaqat_hw.schema import (
    HardwareGraph,
    HardwareNode,
    IntType,
    Resources,
    SoftwareEnds,
    Stream,
)

U2, S4, S16 = (
    IntType(bits=2, signed=False),
    IntType(bits=4, signed=True),
    IntType(bits=16, signed=True),
)

# Stand-ins for what FINN generates, written for the tests: a register with the same ports.
WIRE = """module {name} (
  input logic ap_clk, input logic ap_rst_n, output logic [7:0] count,
  input logic [{high}:0] in0_V_TDATA, input logic in0_V_TVALID, output logic in0_V_TREADY,
  output logic [{high}:0] out0_V_TDATA, output logic out0_V_TVALID, input logic out0_V_TREADY);
  helper h (.count);
  assign in0_V_TREADY = !out0_V_TVALID || out0_V_TREADY;
  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) out0_V_TVALID <= 0;
    else if (in0_V_TREADY) out0_V_TVALID <= in0_V_TVALID;
    if (in0_V_TREADY) out0_V_TDATA <= in0_V_TDATA;
  end
endmodule
"""
HELPER = "module helper (output logic [7:0] count);\n  assign count = 1;\nendmodule\n"
THRESHOLDING = """module th #(parameter THRESHOLDS_PATH = "./elsewhere/") (
  input logic ap_clk, input logic ap_rst_n,
  input logic s_axilite_AWVALID, s_axilite_WVALID, s_axilite_BREADY, s_axilite_ARVALID,
  input logic s_axilite_RREADY, output logic s_axilite_AWREADY,
  input logic [5:0] s_axilite_AWADDR, s_axilite_ARADDR, input logic [31:0] s_axilite_WDATA,
  input logic [3:0] s_axilite_WSTRB, input logic in1_V_TVALID, input logic [7:0] in1_V_TDATA,
  input logic [15:0] in0_V_TDATA, input logic in0_V_TVALID, output logic in0_V_TREADY,
  output logic [7:0] out0_V_TDATA, output logic out0_V_TVALID, input logic out0_V_TREADY);
  logic [15:0] t [2];
  initial $readmemh($sformatf("%sthreshs_%0d_%0d.dat", THRESHOLDS_PATH, 0, 0), t);
  assign in0_V_TREADY = out0_V_TREADY;
  assign out0_V_TVALID = in0_V_TVALID;
  assign out0_V_TDATA = 8'($signed(in0_V_TDATA) >= $signed(t[0]))
                      + 8'($signed(in0_V_TDATA) >= $signed(t[1]));
endmodule
"""


def stream(name: str, elements: int, beats: int, dtype: IntType) -> Stream:
    return Stream(name=name, dtype=dtype, folded_shape=(1, beats, elements))


def make_node(
    name: str, op: str, inputs: list[Stream], outputs: list[Stream], **more
) -> HardwareNode:
    fields = {"backend": "rtl", "layer": None, "generator": "finn", "attributes": {}} | more
    return HardwareNode(
        name=name, op=op, inputs=tuple(inputs), outputs=tuple(outputs), cycles=1,
        estimate=Resources(), **fields,
    )  # fmt: skip


def mvau(name: str, source: Stream, target: Stream, mw: int, mh: int, **more) -> HardwareNode:
    attributes = {
        "PE": target.elements, "SIMD": source.elements, "MW": mw, "MH": mh,
        "weight_bits": 3, "weight_signed": 1,
    }  # fmt: skip
    fields = {"generator": "adaqat", "impl": "lut", "layer": name} | more
    attributes |= fields.pop("attributes", {})
    return make_node(name, "MVAU", [source], [target], attributes=attributes, **fields)


def make_graph(nodes: list[HardwareNode], first: Stream, last: Stream, **more) -> HardwareGraph:
    ends = SoftwareEnds(
        input_scale=1.0,
        input_dtype=first.dtype,
        input_nchw=False,
        input_shape=(first.beats * first.elements,),
        output_shape=(last.beats * last.elements,),
        output_dtype=last.dtype,
        output_scale=(1.0,),
        output_bias=(0.0,),
    )
    return HardwareGraph(
        network=more.pop("network", "tiny"),
        part="xc7z020",
        clock_ns=5.0,
        nodes=tuple(nodes),
        input_stream=first,
        output_stream=last,
        ends=ends,
        parameters_file="params.npz",
        parameters_sha256="",
        golden_file="golden.npz",
        golden_sha256="",
        cycles_estimated=1,
        fps_estimated=1.0,
        **more,
    )


Build = tuple[HardwareGraph, dict[str, np.ndarray], Path]


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Build]:
    """Return a function that makes a build: fifo, mvau fc1, thresholding, mvau fc2."""

    def make(names: tuple[str, str] = ("fc1", "fc2"), **more) -> Build:
        hdl = tmp_path / "hdl"
        (hdl / "rtllib").mkdir(parents=True, exist_ok=True)
        (hdl / "fifo_wrapper.v").write_text(WIRE.format(name="StreamingFIFO_rtl_0", high=7))
        (hdl / "rtllib" / "helper.sv").write_text(HELPER)
        (hdl / "rtllib" / "spare.sv").write_text("module spare;\nendmodule\n")
        (hdl / "th.v").write_text(THRESHOLDING)
        (hdl / "th_threshs_0_0.dat").write_text("fffe\n0003\n")
        first = stream("in", 2, 2, S4)
        a, b = stream("a", 2, 2, S4), stream("b", 1, 4, S16)
        c, last = stream("c", 1, 4, U2), stream("out", 2, 2, S16)
        rng = np.random.default_rng(3)
        parameters = {
            f"{names[0]}__weights": rng.integers(-4, 4, (4, 4)),
            f"{names[1]}__weights": rng.integers(-4, 4, (4, 4)),
            "th__thresholds": np.array([[-2, 3]] * 4),
        }
        nodes = [
            make_node(
                "fifo", "StreamingFIFO", [first], [a], top_module="StreamingFIFO_rtl_0",
                files=("hdl/fifo_wrapper.v", "hdl/rtllib/helper.sv"), layer=names[0],
            ),
            mvau(names[0], a, b, 4, 4),
            make_node(
                "th", "Thresholding", [b], [c], top_module="th", layer=names[0],
                files=("hdl/th.v", "hdl/th_threshs_0_0.dat"),
            ),
            mvau(names[1], c, last, 4, 4),
        ]  # fmt: skip
        more.setdefault("rtllib_files", ("hdl/rtllib/helper.sv", "hdl/rtllib/spare.sv"))
        return make_graph(nodes, first, last, **more), parameters, tmp_path

    return make


def replaced(graph: HardwareGraph, index: int, **changes) -> HardwareGraph:
    nodes = list(graph.nodes)
    nodes[index] = nodes[index].model_copy(update=changes)
    return graph.model_copy(update={"nodes": tuple(nodes)})


def simulate(design: StitchedDesign, work_dir: Path) -> Simulator:
    return Simulator.build(
        design.sources,
        design.top,
        work_dir=work_dir,
        data_files=design.data_files,
        input_width=design.input_width,
        output_width=design.output_width,
    )


def test_what_is_written(build):
    graph, parameters, folder = build()
    design = stitch(graph, folder, parameters=parameters)
    rtl = folder / "rtl"
    files = sorted(p.relative_to(rtl).as_posix() for p in rtl.rglob("*") if p.is_file())
    assert files == [
        "accelerator.sv",
        "adaqat/adq_adder_tree.sv",
        "adaqat/adq_mvau_lut.sv",
        "data/node_fc1_weights.hex",
        "data/node_fc2_weights.hex",
        "data/th_threshs_0_0.dat",
        "files.f",
        "finn/fifo_wrapper.v",
        "finn/helper.sv",
        "finn/th.v",
        "layer_0.sv",
        "layer_1.sv",
        "node_fc1.sv",
        "node_fc2.sv",
        "node_fifo.sv",
        "node_th.sv",
    ]
    assert (design.input_width, design.output_width) == (8, 32)
    listed = (rtl / "files.f").read_text().split()
    assert [rtl / name for name in listed] == list(design.sources)
    assert listed.index("finn/helper.sv") < listed.index("finn/fifo_wrapper.v")
    assert listed[-1] == "accelerator.sv"
    assert set(design.data_files) == {p.name for p in (rtl / "data").iterdir()}
    text = (rtl / "accelerator.sv").read_text()
    assert "  // MVAU, layer: fc1\n  node_fc1 fc1 (" in text
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []


def test_units_hold_what_they_need_and_no_more(build):
    graph, parameters, folder = build()
    design = stitch(graph, folder, parameters=parameters)
    assert list(design.layers) == ["fc1", "fc2"]
    first, second = design.layers["fc1"], design.layers["fc2"]
    assert first.nodes == ("fifo", "fc1", "th")
    assert set(first.data_files) == {"node_fc1_weights.hex", "th_threshs_0_0.dat"}
    assert {path.name for path in second.sources} == {
        "adq_adder_tree.sv", "adq_mvau_lut.sv", "node_fc2.sv", "layer_1.sv",
    }  # fmt: skip
    fifo = design.nodes["fifo"]
    assert [path.name for path in fifo.sources] == ["helper.sv", "fifo_wrapper.v", "node_fifo.sv"]
    assert (fifo.module, fifo.data_files) == ("node_fifo", {})
    assert design.without_layer == ()
    for unit in (*design.layers.values(), *design.nodes.values()):
        for path in (*unit.sources, *unit.data_files.values()):
            assert path.is_file()


def test_weight_files_hold_the_parameters(build):
    graph, parameters, folder = build()
    design = stitch(graph, folder, parameters=parameters)
    words = [int(x, 16) for x in design.data_files["node_fc2_weights.hex"].read_text().split()]
    w = parameters["fc2__weights"]
    # fc2: PE 2, SIMD 1; word 5 = nf 1, sf 1 holds rows 2 and 3, column 1.
    assert len(words) == 8
    assert words[5] == (int(w[1, 2]) & 7) | (int(w[1, 3]) & 7) << 3


def test_stitching_again_replaces_everything(build):
    graph, parameters, folder = build()
    stitch(graph, folder, parameters=parameters)
    (folder / "rtl" / "stale.sv").write_text("")
    first = (folder / "rtl" / "accelerator.sv").read_text()
    stitch(graph, folder, parameters=parameters)
    assert not (folder / "rtl" / "stale.sv").exists()
    assert (folder / "rtl" / "accelerator.sv").read_text() == first
    with pytest.raises(ConfigError):
        stitch(graph, folder, parameters={})
    assert (folder / "rtl" / "accelerator.sv").read_text() == first


def test_finn_sources_are_mended_in_the_copy_only(build):
    graph, parameters, folder = build()
    helper = folder / "hdl" / "rtllib" / "vpc.sv"
    original = HELPER.replace(";\n", ";\n`default_nettype none\n", 1)
    helper.write_text(original)
    (folder / "hdl" / "rtllib" / "helper.sv").unlink()
    graph = replaced(graph, 0, files=("hdl/fifo_wrapper.v", "hdl/rtllib/vpc.sv"))
    graph = graph.model_copy(update={"rtllib_files": ()})
    stitch(graph, folder, parameters=parameters)
    assert "default_nettype" not in (folder / "rtl" / "finn" / "vpc.sv").read_text()
    assert helper.read_text() == original
    helper.write_text(HELPER)
    with pytest.raises(StageFailed, match="nettype-in-vpc"):
        stitch(graph, folder, parameters=parameters)
    assert "Mended" in (folder / "rtl" / "finn" / "vpc.sv").read_text()
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []


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


S17, U8 = IntType(bits=17, signed=True), IntType(bits=8, signed=False)


def residual(depth: int, *, label: bool) -> tuple[HardwareGraph, dict]:
    """A fork: one way through an MVAU of 16x16, one past it through a FIFO; then an addition.

    With ``label`` a global pool over 4 pixels of 4 channels and a label select follow.
    """
    s = {name: stream(name, 2, 8, S4) for name in ("x", "left", "right", "late")}
    s |= {"y": stream("y", 2, 8, S16), "sum": stream("sum", 2, 8, S17)}
    nodes = [
        # In no order: the streams, not the positions, say what comes first.
        make_node("add", "ElementwiseAdd", [s["y"], s["late"]], [s["sum"]], generator="adaqat",
                  backend="hls", layer="fc"),
        make_node("fork", "DuplicateStreams", [s["x"]], [s["left"], s["right"]],
                  generator="adaqat", backend="hls", layer="fc",
                  attributes={"NumOutputStreams": 2, "NumChannels": 16, "PE": 2}),
        make_node("wait", "StreamingFIFO", [s["right"]], [s["late"]], generator="adaqat",
                  attributes={"depth": depth}),
        mvau("fc", s["left"], s["y"], 16, 16),
    ]  # fmt: skip
    last = s["sum"]
    if label:
        pooled, last = stream("pooled", 2, 2, IntType(bits=19, signed=True)), stream("l", 1, 1, U8)
        nodes += [
            make_node("pool", "GlobalAccPool", [s["sum"]], [pooled], generator="adaqat",
                      backend="hls", attributes={"NumChannels": 4, "PE": 2}),
            make_node("select", "LabelSelect", [pooled], [last], generator="adaqat",
                      backend="hls", attributes={"Labels": 4, "PE": 2, "K": 1}),
        ]  # fmt: skip
    weights = np.random.default_rng(8).integers(-4, 4, (16, 16))
    return make_graph(nodes, s["x"], last), {"fc__weights": weights}


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


def test_a_layer_of_several_streams_shares_no_names_with_its_nodes(tmp_path):
    """Ports 1 and up belong to a layer as much as port 0."""
    graph, parameters = residual(2, label=False)
    nodes = [
        node.model_copy(update={"name": new, "layer": "all"})
        for node, new in zip(
            graph.nodes, ("in1_V_TDATA", "out0_V_TVALID", "in1_V", "fc"), strict=True
        )
    ]
    nodes = [node for node in nodes if node.name != "fc"]
    rest = [n.model_copy(update={"layer": "rest"}) for n in graph.nodes if n.name == "fc"]
    graph = graph.model_copy(update={"nodes": (*nodes, *rest)})
    design = stitch(graph, tmp_path, parameters=parameters)
    text = (design.folder / "layer_0.sv").read_text()
    # in1 is the MVAU's result, which comes from the other layer.
    assert "input  logic in1_V_TVALID" in text
    labels = re.findall(r"^  \w+ (\w+) \($", text, re.MULTILINE)
    assert len(labels) == 3
    ports = re.findall(r"^    (?:input |output) logic (?:\[.*\] )?(\w+)", text, re.MULTILINE)
    assert not set(labels) & set(ports)


def broken(graph: HardwareGraph, what: str) -> HardwareGraph:
    nodes = graph.nodes
    if what == "no producer":
        return replaced(graph, 1, inputs=(stream("z", 2, 2, S4),))
    if what == "no consumer":
        return replaced(graph, 2, inputs=(stream("a", 2, 2, S4),))
    if what == "two producers":
        return replaced(graph, 1, outputs=(stream("a", 2, 2, S4),))
    if what == "elements":
        return replaced(graph, 1, inputs=(stream("a", 4, 1, S4),))
    if what == "bits":
        return replaced(graph, 1, inputs=(stream("a", 2, 2, S16),))
    if what == "node twice":
        return graph.model_copy(update={"nodes": (*nodes, nodes[0])})
    if what == "no nodes":
        return graph.model_copy(update={"nodes": ()})
    if what == "operator":
        return replaced(graph, 0, op="LabelSelect")
    if what == "hls":
        return replaced(graph, 0, backend="hls")
    if what == "own operator":
        return replaced(graph, 0, op="FMPadding", generator="adaqat")
    if what == "no attribute":
        return replaced(
            graph, 1, attributes={"PE": 1, "SIMD": 2, "MW": 4, "weight_bits": 3, "weight_signed": 1}
        )
    if what == "weight width":
        return replaced(graph, 1, attributes={**nodes[1].attributes, "weight_bits": 2})
    if what == "no weight type":
        attributes = {k: v for k, v in nodes[1].attributes.items() if k != "weight_signed"}
        return replaced(graph, 1, attributes=attributes)
    if what == "no type at all":
        attributes = {k: v for k, v in nodes[1].attributes.items() if "weight" not in k}
        return replaced(graph, 1, attributes={**attributes, "weightDataType": "INT3"})
    if what == "xnor":
        return replaced(graph, 1, attributes={**nodes[1].attributes, "binaryXnorMode": 1})
    if what == "folding":
        return replaced(graph, 1, attributes={**nodes[1].attributes, "PE": 2})
    if what == "weights' shape":
        return replaced(graph, 1, attributes={**nodes[1].attributes, "MH": 8})
    if what == "thresholds inside":
        return replaced(graph, 1, parameters={"thresholds": "x"})
    if what == "file outside":
        return replaced(graph, 0, files=("../secret.v",))
    if what == "file missing":
        return replaced(graph, 0, files=("hdl/gone.v",))
    if what == "top module":
        return replaced(graph, 0, top_module="x; endmodule")
    if what == "no top module":
        return replaced(graph, 0, top_module=None)
    if what == "other top module":
        return replaced(graph, 0, top_module="nowhere")
    if what == "no thresholds":
        return replaced(graph, 2, files=("hdl/th.v",))
    return replaced(graph, 1, impl="dsp")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no producer", "'z', consumed by node 'fc1', has no producer"),
        ("no consumer", "'a' is consumed by node 'fc1' and by node 'th'"),
        ("two producers", "'a' is produced by node 'fifo' and by node 'fc1'"),
        ("elements", "'a' leaves node 'fifo' as 2 beats of 2 values of 4 bits and enters"),
        ("bits", "enters node 'fc1' as 2 beats of 2 values of 16 bits"),
        ("node twice", "Two nodes of the hardware graph are named 'fifo'"),
        ("no nodes", "graph of 'tiny' has no nodes"),
        ("operator", r"'fifo' has the operator 'LabelSelect', for which FINN has no RTL"),
        ("hls", r"'fifo' \(StreamingFIFO, hls\) has no RTL from FINN"),
        ("own operator", "operator 'FMPadding', for which hw/rtl has no module"),
        ("no attribute", "'MH' of node 'fc1' is None"),
        ("weight width", "'fc1' cannot be packed: .* outside -2..1"),
        ("no weight type", "'weight_signed' of node 'fc1' are 3, None"),
        ("no type at all", "'weight_bits' and 'weight_signed' of node 'fc1' are None, None"),
        ("xnor", "'fc1' multiplies by XNOR"),
        ("folding", "'b' carries 1 values per beat, which does not match PE 2"),
        ("weights' shape", r"shape \(4, 4\); its MW and MH are \(4, 8\)"),
        ("thresholds inside", "'fc1' has thresholds inside"),
        ("file outside", r"'\.\./secret\.v' of the hardware graph is not in"),
        ("file missing", r"'hdl/gone\.v' of the hardware graph is not in"),
        ("top module", "top module of node 'fifo' is 'x; endmodule'"),
        ("no top module", "'fifo' from FINN names no top module"),
        ("other top module", "No source file declares the module 'nowhere'"),
        ("no thresholds", "'th' hold thresholds of 0 prefixes"),
        ("dsp of ours", "implementation 'dsp' from 'adaqat'"),
    ],
)
def test_a_broken_graph_is_refused_before_anything_is_written(build, what, message):
    graph, parameters, folder = build()
    (folder.parent / "secret.v").write_text("module x;\nendmodule\n")
    with pytest.raises(ConfigError, match=message):
        stitch(broken(graph, what), folder, parameters=parameters)
    assert sorted(p.name for p in folder.iterdir()) == ["hdl"]


def test_missing_weights_and_a_bad_top(build):
    graph, parameters, folder = build()
    some = {"fc1__weights": parameters["fc1__weights"]}
    with pytest.raises(ConfigError, match="Parameter 'fc2__weights' of node 'fc2' is missing"):
        stitch(graph, folder, parameters=some)
    with pytest.raises(ConfigError, match="top module's name is 'module'"):
        stitch(graph, folder, parameters=parameters, top="module")


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


def test_two_files_of_one_name_must_be_equal(tmp_path):
    for part, text in (("a", "module m;\nendmodule\n"), ("b", "module m;\nendmodule\n")):
        (tmp_path / part).mkdir()
        (tmp_path / part / "m.sv").write_text(text)
    files = [tmp_path / "a" / "m.sv", tmp_path / "b" / "m.sv"]
    assert SourceIndex(files).needed_by("m") == files[:1]
    files[1].write_text("module other;\nendmodule\n")
    with pytest.raises(ConfigError, match=r"Two different source files are named 'm\.sv'"):
        SourceIndex(files)
    files[1].rename(tmp_path / "b" / "n.sv")
    (tmp_path / "b" / "n.sv").write_text("module m;\nendmodule\n")
    with pytest.raises(ConfigError, match="module 'm' is declared in"):
        SourceIndex([files[0], tmp_path / "b" / "n.sv"])


def test_comments_and_strings_mention_nothing(tmp_path):
    (tmp_path / "a.sv").write_text(
        '// b here\nmodule a; /* b\n b */\n initial $display("b"); c x();\nendmodule\n'
    )
    (tmp_path / "b.sv").write_text("module b;\nendmodule\n")
    (tmp_path / "c.sv").write_text("import p::*;\nmodule automatic c;\nendmodule\n")
    (tmp_path / "p.sv").write_text("package p;\nendpackage\n")
    index = SourceIndex(sorted(tmp_path.glob("*.sv")))
    assert [path.name for path in index.needed_by("a")] == ["p.sv", "c.sv", "a.sv"]
    assert index.names == {"a", "b", "c", "p"}

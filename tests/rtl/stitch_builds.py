"""Small builds as FINN's flow leaves them, for tests of the stitcher."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adaqat_hw.rtl.stitch import StitchedDesign
from adaqat_hw.rtl.verilate import Simulator
from adaqat_hw.schema import (
    HardwareGraph,
    HardwareNode,
    HostInterface,
    IntType,
    Resources,
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
    host = HostInterface(
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
        host=host,
        parameters_file="params.npz",
        parameters_sha256="",
        golden_file="golden.npz",
        golden_sha256="",
        cycles_estimated=1,
        fps_estimated=1.0,
        **more,
    )


Build = tuple[HardwareGraph, dict[str, np.ndarray], Path]


def write_build(folder: Path, names: tuple[str, str] = ("fc1", "fc2"), **more) -> Build:
    """Write a build: fifo, mvau fc1, thresholding, mvau fc2."""
    hdl = folder / "hdl"
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
    return make_graph(nodes, first, last, **more), parameters, folder


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

"""What goes to a board: the driver packs as the RTL takes it, the adapters lose nothing."""

from __future__ import annotations

import importlib.util
import subprocess

import numpy as np
import pytest

from adaqat_hw.compile import deploy
from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl.packing import pack_words, unpack_words
from adaqat_hw.rtl.verilate import Simulator, Stall
from adaqat_hw.schema import HardwareGraph, HostInterface, IntType, Stream

WIDTHS = (8, 64, 72, 200)


def make_graph(elements=3, bits=5, *, nchw=False):
    given = Stream(
        name="i", dtype=IntType(bits=bits, signed=True), folded_shape=(1, 4, 2, 1, elements)
    )
    made = Stream(name="o", dtype=IntType(bits=17, signed=True), folded_shape=(1, 2, 5))
    host = HostInterface(
        input_scale=0.5, input_dtype=given.dtype, input_narrow=True, input_nchw=nchw,
        input_shape=(4, 2, elements), output_shape=(1, 10), output_dtype=made.dtype,
        output_scale=(0.25,), output_bias=tuple(range(10)),
    )  # fmt: skip
    return HardwareGraph(
        network="n", part="p", clock_ns=10.0, nodes=(), input_stream=given, output_stream=made,
        host=host, parameters_file="p.npz", parameters_sha256="0", golden_file="g.npz",
        golden_sha256="0", cycles_estimated=1, fps_estimated=1.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def driver():
    path = deploy.folder() / deploy.DRIVER
    spec = importlib.util.spec_from_file_location("accelerator_driver", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("elements", "bits"), [(3, 5), (1, 1), (16, 8), (9, 4)])
def test_the_driver_packs_like_the_simulation(driver, elements, bits):
    graph = make_graph(elements, bits)
    stream = graph.input_stream
    low = -(1 << (bits - 1))
    values = np.random.default_rng(0).integers(low, -low, size=(3, 4, 2, elements))
    raw = driver.pack(deploy.design_facts(graph), values)
    words = -(-stream.width // 64)
    assert raw.shape == (3, stream.beats * words * 8)
    beats = raw.reshape(-1, words * 8)
    expected = pack_words(values.reshape(-1, elements), stream.dtype)
    assert [int.from_bytes(row.tobytes(), "little") for row in beats] == expected


def test_the_driver_unpacks_like_the_simulation(driver):
    graph = make_graph()
    stream = graph.output_stream
    values = np.random.default_rng(1).integers(-(1 << 16), 1 << 16, size=(2, 10))
    words = pack_words(values.reshape(-1, 5), stream.dtype)
    size = -(-stream.width // 64) * 8
    raw = np.frombuffer(b"".join(w.to_bytes(size, "little") for w in words), np.uint8)
    got = driver.unpack(deploy.design_facts(graph), raw.reshape(2, -1))
    assert np.array_equal(got, values)
    assert np.array_equal(got.reshape(-1, 5), unpack_words(words, 5, stream.dtype))


def test_the_driver_applies_the_software_ends(driver):
    facts = deploy.design_facts(make_graph(nchw=True))
    images = np.zeros((1, 3, 4, 2))
    images[0, 1, 2, 0], images[0, 2, 3, 1] = 3.2, -100.0
    got = driver.quantize(facts, images)
    assert got.shape == (1, 4, 2, 3)
    assert got[0, 2, 0, 1] == 6
    assert got[0, 3, 1, 2] == -15  # narrow
    assert driver.logits(facts, np.full((1, 10), 4))[0].tolist() == [1.0 + k for k in range(10)]


def test_the_driver_computes_what_lies_before_the_input_quantizer(driver):
    """2x - 1, then the sign; a network that flattens first gets its images in their own order."""
    graph = make_graph(nchw=True)
    steps = ({"op": "mul", "values": (2.0,)}, {"op": "sub", "values": (1.0,)})
    sign = IntType(bits=1, signed=False)
    changes = {"input_steps": steps, "input_bipolar": True, "input_dtype": sign}
    body = graph.host.model_dump() | changes | {"input_narrow": False, "input_shape": (8,)}
    host = HostInterface(**body)
    facts = deploy.design_facts(graph.model_copy(update={"host": host}))
    images = np.full((1, 2, 2, 2), 0.1)
    images[0, 0, 1, 0], images[0, 1, 1, 1] = 0.5, 0.9
    got = driver.quantize(facts, images)
    assert got.reshape(-1).tolist() == [0, 0, 1, 0, 0, 0, 0, 1]


def test_the_driver_takes_constants_per_channel(driver):
    graph = make_graph(nchw=True)
    step = {"op": "add", "values": (1.0, 2.0, 3.0), "shape": (3, 1, 1)}
    host = HostInterface(**(graph.host.model_dump() | {"input_steps": (step,)}))
    facts = deploy.design_facts(graph.model_copy(update={"host": host}))
    got = driver.quantize(facts, np.zeros((1, 3, 4, 2)))
    assert got.shape == (1, 4, 2, 3)
    assert got[0, 3, 1].tolist() == [2, 4, 6]


def test_the_wrapper_refuses_what_is_no_module_name():
    with pytest.raises(ConfigError, match="Verilog identifier"):
        deploy.wrapper(make_graph(), "a; endmodule", dma=True)


@pytest.mark.rtl
@pytest.mark.parametrize("dma", [False, True])
def test_the_wrapper_is_sound_verilog(tmp_path, dma):
    from adaqat_hw.tools import verilator

    graph = make_graph()
    widths = graph.input_stream.width, graph.output_stream.width
    core = (
        f"module accelerator (input ap_clk, input ap_rst_n, input [{widths[0] - 1}:0] in0_V_TDATA,"
        " input in0_V_TVALID, output in0_V_TREADY,"
        f" output [{widths[1] - 1}:0] out0_V_TDATA, output out0_V_TVALID, input out0_V_TREADY);\n"
        "wire unused = &{ap_clk, ap_rst_n, in0_V_TDATA};\n"
        "assign in0_V_TREADY = out0_V_TREADY; assign out0_V_TDATA = 0;\n"
        "assign out0_V_TVALID = in0_V_TVALID & unused; endmodule\n"
    )
    (tmp_path / "accelerator.v").write_text(core)
    (tmp_path / "accelerator_ip.v").write_text(deploy.wrapper(graph, "accelerator", dma=dma))
    sources = [tmp_path / "accelerator_ip.v", tmp_path / "accelerator.v"]
    sources += [deploy.folder() / name for name in deploy.ADAPTERS]
    argv = [verilator(), "--lint-only", "--language", "1364-2005", "--top-module", "accelerator_ip"]
    done = subprocess.run([*argv, *sources], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.fixture(scope="module")
def loop(tmp_path_factory):
    """DMA words in, accelerator words, DMA words out, for several widths side by side."""
    folder = tmp_path_factory.mktemp("adapters")
    parts = ["module bench (input logic ap_clk, input logic ap_rst_n,",
             "  input logic [71:0] in0_V_TDATA, input logic in0_V_TVALID,",
             "  output logic in0_V_TREADY, output logic [71:0] out0_V_TDATA,",
             "  output logic out0_V_TVALID, input logic out0_V_TREADY);",
             f"  logic ready [{len(WIDTHS)}], valid [{len(WIDTHS)}], last [{len(WIDTHS)}];",
             f"  logic [63:0] data [{len(WIDTHS)}]; logic [7:0] which;",
             "  always_ff @(posedge ap_clk) if (!ap_rst_n) which <= '1;",
             "    else if (in0_V_TVALID) which <= in0_V_TDATA[71:64];",
             "  wire [7:0] now = in0_V_TVALID ? in0_V_TDATA[71:64] : which;"]  # fmt: skip
    for k, width in enumerate(WIDTHS):
        parts.append(f"""
  wire [{width - 1}:0] d{k}; wire v{k}, r{k};
  adq_words_in #(.WIDTH({width})) i{k} (.ap_clk, .ap_rst_n, .in0_V_TDATA(in0_V_TDATA[63:0]),
    .in0_V_TVALID(in0_V_TVALID && now == {k}), .in0_V_TREADY(ready[{k}]), .out0_V_TDATA(d{k}),
    .out0_V_TVALID(v{k}), .out0_V_TREADY(r{k}));
  adq_words_out #(.WIDTH({width}), .BEATS(3)) o{k} (.ap_clk, .ap_rst_n, .in0_V_TDATA(d{k}),
    .in0_V_TVALID(v{k}), .in0_V_TREADY(r{k}), .out0_V_TDATA(data[{k}]), .out0_V_TVALID(valid[{k}]),
    .out0_V_TLAST(last[{k}]), .out0_V_TREADY(out0_V_TREADY && now == {k}));""")
    mux = """
  always_comb begin
    in0_V_TREADY = 0; out0_V_TVALID = 0; out0_V_TDATA = 0;
    for (int k = 0; k < COUNT; k++) if (now == 8'(k)) begin
      in0_V_TREADY = ready[k]; out0_V_TVALID = valid[k]; out0_V_TDATA = {7'b0, last[k], data[k]};
    end
  end
endmodule"""
    parts.append(mux.replace("COUNT", str(len(WIDTHS))))
    top = folder / "bench.sv"
    top.write_text("\n".join(parts) + "\n")
    sources = [*(deploy.folder() / name for name in deploy.ADAPTERS), top]
    return Simulator.build(
        sources, "bench", work_dir=folder, data_files={}, input_width=72, output_width=72
    )


@pytest.mark.rtl
@pytest.mark.parametrize("stall", [None, Stall(1, 0.5, 0.5), Stall(2, 0.0, 0.8)])
@pytest.mark.parametrize("k", range(len(WIDTHS)))
def test_words_go_through_both_adapters_unchanged(loop, k, stall):
    width = WIDTHS[k]
    count = -(-width // 64)
    rng = np.random.default_rng(k)
    beats = [int.from_bytes(rng.bytes(width // 8), "little") for _ in range(9)]
    words = [(beat >> (64 * j)) & (2**64 - 1) for beat in beats for j in range(count)]
    run = loop.run([word | k << 64 for word in words], len(words), max_cycles=5000, stall=stall)
    assert [word & (2**64 - 1) for word in run.words] == words
    ends = [j for j, word in enumerate(run.words) if word >> 64]
    assert ends == [3 * count - 1, 6 * count - 1, 9 * count - 1]

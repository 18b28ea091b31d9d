"""Copies of a stream: each goes its own way, none gains or loses a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaqat_hw.rtl.packing import pack_words, padded_width
from adaqat_hw.schema.operators import DUPLICATE
from tests.rtl.bench import Device
from tests.rtl.gated_streams import GATES
from tests.rtl.operator_suite import (
    Case,
    OperatorSuite,
    Sample,
    changed,
    check_yosys,
    extreme_and_random,
    int_type,
    make_node,
    make_stream,
)

S5, U7 = int_type(5, True), int_type(7, False)

BENCH = """
// Every copy goes its own way; the word that leaves holds all of them.
module duplicate_bench #(parameter int PE = 1, WIDTH = 4, N = 2, G0 = 0, G1 = 0, G2 = 0,
  localparam int W = (PE*WIDTH+7)/8*8) (
  input logic ap_clk, ap_rst_n, input logic [W-1:0] in0_V_TDATA, input logic in0_V_TVALID,
  output logic in0_V_TREADY, output logic [N*W-1:0] out0_V_TDATA, output logic out0_V_TVALID,
  input logic out0_V_TREADY);
  logic [W-1:0] data; logic [N-1:0] v, r, qv, dv; logic go;
  logic [N-1:0][W-1:0] qd; logic [N-1:0][W-1:0] dd; logic [N-1:0] dr;
  adq_duplicate #(.PE(PE), .WIDTH(WIDTH), .OUTPUTS(N)) dut (.ap_clk, .ap_rst_n, .in0_V_TDATA,
    .in0_V_TVALID, .in0_V_TREADY, .out_V_TDATA(data), .out_V_TVALID(v), .out_V_TREADY(r));
  for (genvar i = 0; i < N; i++) begin : way
    gate #(W, i == 0 ? G0 : i == 1 ? G1 : G2, 5 + i) g
      (ap_clk, ap_rst_n, data, v[i], r[i], dd[i], dv[i], dr[i]);
    fifo #(W, 3 + i) f (ap_clk, ap_rst_n, dd[i], dv[i], dr[i], qd[i], qv[i], go);
  end
  assign out0_V_TVALID = &qv; assign go = out0_V_TVALID && out0_V_TREADY;
  assign out0_V_TDATA = qd;
endmodule
"""


def _duplicate(pe: int, bits: int, gates: tuple[int, ...]) -> Case:
    dtype = int_type(bits, False)
    width = padded_width(pe, bits)
    words = pack_words(extreme_and_random(pe, (50, pe), dtype), dtype)
    golden = [sum(word << k * width for k in range(len(gates))) for word in words]
    free = not any(gates)
    device = Device(
        "duplicate_bench",
        {"PE": pe, "WIDTH": bits, "N": len(gates)}
        | {f"G{k}": gate for k, gate in enumerate(gates)},
        {"in0": width},
        width * len(gates),
    )
    return Case(
        name=f"pe{pe}-{bits}-{gates}",
        device=device,
        words=words,
        golden=np.array(golden, dtype=object),
        elements=1,
        dtype=dtype,
        interval=1 if free else None,
        latency=2 if free else None,
    )


NODE = make_node(
    DUPLICATE.name, [make_stream("x", 2, 8, S5)],
    [make_stream(f"y{k}", 2, 8, S5) for k in range(3)], NumOutputStreams=3,
)  # fmt: skip


class TestDuplicate(OperatorSuite):
    operator = DUPLICATE
    more_sources = GATES + BENCH
    cases = (
        *(_duplicate(pe, bits, (0,) * n) for pe, bits, n in ((1, 1, 2), (3, 5, 2), (8, 8, 3))),
        *(_duplicate(2, 7, gates) for gates in ((0, 13), (13, 0), (8, 8), (4, 0, 14))),
    )
    samples = (Sample(NODE),)
    refused = (
        (changed(NODE, attributes={"NumOutputStreams": 2}), "1 inputs and 3 outputs; its operator"),
        (changed(NODE, attributes={"NumOutputStreams": 0}), "'NumOutputStreams' .* is 0"),
        (
            changed(NODE, outputs=(*NODE.outputs[:2], make_stream("y", 2, 8, U7))),
            "takes signed values of 5 bits and gives unsigned values of 7 bits",
        ),
    )


@pytest.mark.synth
def test_yosys_makes_logic_of_a_node(tmp_path: Path) -> None:
    check_yosys(Sample(NODE), "xc7", tmp_path)


STUCK = """module stuck (
  input logic ap_clk, ap_rst_n, input logic [7:0] in0_V_TDATA, input logic in0_V_TVALID,
  output logic in0_V_TREADY, output logic [7:0] out0_V_TDATA, output logic out0_V_TVALID,
  input logic out0_V_TREADY);
  // The second consumer takes nothing before the first has got HELD words.
  logic [1:0] valid; int count;
  adq_duplicate #(.PE(2)) dut (.ap_clk, .ap_rst_n, .in0_V_TDATA, .in0_V_TVALID, .in0_V_TREADY,
    .out_V_TDATA(out0_V_TDATA), .out_V_TVALID(valid),
    .out_V_TREADY({count >= HELD, out0_V_TREADY}));
  assign out0_V_TVALID = valid[0];
  always_ff @(posedge ap_clk)
    if (!ap_rst_n) count <= 0; else if (valid[0] && out0_V_TREADY) count <= count + 1;
endmodule
"""


@pytest.mark.rtl
def test_a_copy_leaves_while_another_waits(make_bench: Any, tmp_path: Path) -> None:
    source = tmp_path / "stuck.sv"
    devices = []
    text = ""
    for held in (1, 2):
        text += STUCK.replace("HELD", str(held)).replace("module stuck", f"module stuck{held}")
        devices.append(Device(f"stuck{held}", {}, {"in0": 8}, 8))
    source.write_text(text, encoding="utf-8")
    bench = make_bench(devices, [source])
    words = list(range(1, 9))
    # The first copy of a word leaves alone; the next word needs the second copy gone.
    assert list(bench.run(0, words, 8).words) == words
    assert list(bench.run(1, words, 1, max_cycles=50).words) == [1]

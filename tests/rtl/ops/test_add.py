"""The sum of two streams against its reference, with streams that wait for each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaqat_hw.rtl.ops.add import add
from adaqat_hw.rtl.packing import limits, pack_words, padded_width
from adaqat_hw.schema import IntType
from adaqat_hw.schema.operators import ADD
from tests.rtl.bench import Device
from tests.rtl.gated_streams import GATES
from tests.rtl.operator_suite import (
    Case,
    OperatorSuite,
    Sample,
    changed,
    check_yosys,
    extreme_and_random,
    holds,
    int_type,
    make_node,
    make_stream,
    type_name,
)

U1, U4, U7, S1, S4, S5, S8 = (
    *(int_type(1, False), int_type(4, False), int_type(7, False), int_type(1, True)),
    *(int_type(4, True), int_type(5, True), int_type(8, True)),
)
U8, U12, S12, S32 = (
    int_type(8, False),
    int_type(12, False),
    int_type(12, True),
    int_type(32, True),
)

BENCH = """
// Both operands in one word; each goes its own way to the adder.
module add_bench #(parameter int PE = 1, A = 4, AS = 0, B = 4, BS = 0, O = 5, GA = 0, GB = 0,
  localparam int AW = (PE*A+7)/8*8, BW = (PE*B+7)/8*8, OW = (PE*O+7)/8*8) (
  input logic ap_clk, ap_rst_n, input logic [AW+BW-1:0] in0_V_TDATA, input logic in0_V_TVALID,
  output logic in0_V_TREADY, output logic [OW-1:0] out0_V_TDATA, output logic out0_V_TVALID,
  input logic out0_V_TREADY);
  logic [AW-1:0] ad, ae; logic [BW-1:0] bd, be; logic av, aw, ax, ay, bv, bw, bx, by, ar, br;
  assign in0_V_TREADY = ar && br;
  fifo #(AW) fa (ap_clk, ap_rst_n, in0_V_TDATA[AW-1:0], in0_V_TVALID && br, ar, ad, av, aw);
  fifo #(BW) fb (ap_clk, ap_rst_n, in0_V_TDATA[AW+:BW], in0_V_TVALID && ar, br, bd, bv, bw);
  gate #(AW, GA, 77) ga (ap_clk, ap_rst_n, ad, av, aw, ae, ax, ay);
  gate #(BW, GB, 99) gb (ap_clk, ap_rst_n, bd, bv, bw, be, bx, by);
  adq_add #(.PE(PE), .IN0_WIDTH(A), .IN0_SIGNED(AS), .IN1_WIDTH(B), .IN1_SIGNED(BS),
    .OUT_WIDTH(O)) dut (.ap_clk, .ap_rst_n, .in0_V_TDATA(ae), .in0_V_TVALID(ax),
    .in0_V_TREADY(ay), .in1_V_TDATA(be), .in1_V_TVALID(bx), .in1_V_TREADY(by), .out0_V_TDATA,
    .out0_V_TVALID, .out0_V_TREADY);
endmodule
"""


def _add(pe: int, first: IntType, second: IntType, gates: tuple[int, int], extra: int = 0) -> Case:
    ends = [limits(first), limits(second)]
    narrow = holds(ends[0][0] + ends[1][0], ends[0][1] + ends[1][1])
    target = int_type(narrow.bits + extra, narrow.signed)
    x, y = extreme_and_random(pe, (50, pe), first), extreme_and_random(pe + 1, (50, pe), second)
    y[2:4] = y[1::-1]  # minimum with maximum too
    x[2:4] = x[0:2]
    width = padded_width(pe, first.bits)
    pairs = zip(pack_words(x, first), pack_words(y, second), strict=True)
    free = not any(gates)
    device = Device(
        "add_bench",
        {"PE": pe, "A": first.bits, "AS": int(first.signed), "B": second.bits,
         "BS": int(second.signed), "O": target.bits, "GA": gates[0], "GB": gates[1]},
        {"in0": width + padded_width(pe, second.bits)},
        padded_width(pe, target.bits),
    )  # fmt: skip
    return Case(
        name=f"pe{pe}-{type_name(first)}-{type_name(second)}-{gates}-{extra}",
        device=device,
        words=[a | b << width for a, b in pairs],
        golden=add(x, y, first_type=first, second_type=second, output_type=target),
        elements=pe,
        dtype=target,
        interval=1 if free else None,
        latency=2 if free else None,
    )


NODE = make_node(
    ADD.name, [make_stream("x", 2, 8, S5), make_stream("y", 2, 8, U7)],
    [make_stream("z", 2, 8, S12)],
)  # fmt: skip


class TestAdd(OperatorSuite):
    operator = ADD
    more_sources = GATES + BENCH
    cases = (
        *(_add(pe, a, b, (0, 0)) for pe in (1, 3) for a in (U1, U4, S5) for b in (U7, S1, S8)),
        *(_add(2, U7, S5, gates, extra=2) for gates in ((0, 13), (13, 0), (8, 8))),
    )
    samples = (Sample(NODE), Sample(NODE.model_copy(update={"op": ADD.aliases[0]})))
    refused = (
        (changed(NODE, inputs=NODE.inputs[:1]), "has 1 inputs and 1 outputs"),
        (
            changed(NODE, inputs=(NODE.inputs[0], make_stream("y", 2, 1, U7))),
            "adds 8 and 1 beats to 8; .* nothing is repeated",
        ),
        (changed(NODE, outputs=(make_stream("z", 2, 8, U12),)), "nor lose its sign"),
    )


@pytest.mark.synth
def test_yosys_makes_logic_of_a_node(tmp_path: Path) -> None:
    check_yosys(Sample(NODE), "xcup", tmp_path)


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(1, 40), st.integers(1, 5))
def test_the_reference_is_a_plain_sum(seed: int, pixels: int, channels: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 16, (3, pixels, channels)), rng.integers(-8, 8, (3, pixels, channels))
    added = add(x, y, first_type=U4, second_type=S4, output_type=S32)
    for at in np.ndindex(3, pixels, channels):
        assert added[at] == int(x[at]) + int(y[at])


def test_reference_refuses_what_does_not_fit() -> None:
    x = np.full((1, 4), 15)
    with pytest.raises(ValueError, match=r"Add output holds 30, outside -8\.\.7"):
        add(x, x, first_type=U4, second_type=U4, output_type=S4)
    with pytest.raises(ValueError, match=r"\(1, 4\) and \(1, 3\) cannot be added"):
        add(x, x[:, :3], first_type=U4, second_type=U4, output_type=U8)
    with pytest.raises(ValueError, match="Add input 1 holds 15"):
        add(x, x, first_type=U4, second_type=S4, output_type=U8)

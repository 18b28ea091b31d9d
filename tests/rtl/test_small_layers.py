"""Duplicate, add, pools and label select against their integer models: bit-exact, full rate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaqat_hw import families
from adaqat_hw.errors import ConfigError
from adaqat_hw.resources import hw_dir
from adaqat_hw.rtl import reference
from adaqat_hw.rtl.node_rtl import node_rtl
from adaqat_hw.rtl.packing import IntArray, limits, pack_words, padded_width, unpack_words
from adaqat_hw.rtl.sources import SourceIndex
from adaqat_hw.rtl.synthesize import synthesize
from adaqat_hw.rtl.verilate import Stall
from adaqat_hw.schema import HardwareNode, IntType, Resources, Stream

STALLS = (
    None,
    Stall(1, 0.5, 0.0),
    Stall(2, 0.0, 0.5),
    Stall(3, 0.4, 0.6),
    Stall(4, 0.0, 0.9),  # back-pressure nearly always
    Stall(5, 0.9, 0.0),  # a source that starves it
)

# Streams that wait at random, to give every port of a layer a life of its own.
BENCHES = """
// Lets a stream through, closed CLOSED of 16 cycles.
module gate #(parameter int W = 8, parameter int CLOSED = 0, parameter int SEED = 1) (
  input logic clk, input logic rst_n,
  input logic [W-1:0] id, input logic iv, output logic ir,
  output logic [W-1:0] od, output logic ov, input logic ordy);
  logic [15:0] lfsr; logic held;
  always_ff @(posedge clk)
    if (!rst_n) begin lfsr <= 16'(SEED); held <= 0; end
    else begin
      lfsr <= {lfsr[14:0], lfsr[15] ^ lfsr[13] ^ lfsr[12] ^ lfsr[10]};
      held <= ov && !ordy;
    end
  assign ov = iv && (held || int'(lfsr[3:0]) >= CLOSED);
  assign ir = ordy && ov;
  assign od = id;
endmodule

module fifo #(parameter int W = 8, parameter int DEPTH = 4) (
  input logic clk, input logic rst_n,
  input logic [W-1:0] id, input logic iv, output logic ir,
  output logic [W-1:0] od, output logic ov, input logic ordy);
  logic [W-1:0] slots [DEPTH]; int put, get, fill;
  assign ir = fill < DEPTH; assign ov = fill > 0; assign od = slots[get];
  always_ff @(posedge clk)
    if (!rst_n) begin put <= 0; get <= 0; fill <= 0; end
    else begin
      if (iv && ir) begin slots[put] <= id; put <= (put + 1) % DEPTH; end
      if (ov && ordy) get <= (get + 1) % DEPTH;
      fill <= fill + int'(iv && ir) - int'(ov && ordy);
    end
endmodule

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


def _int(bits: int, signed: bool) -> IntType:
    return IntType(bits=bits, signed=signed)


def _holds(low: int, high: int) -> IntType:
    """The narrowest type that holds both."""
    bits = max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0) + (low < 0)
    return IntType(bits=max(bits, 1), signed=low < 0)


def _values(seed: int, shape: tuple[int, ...], dtype: IntType) -> IntArray:
    """Random rows, the first of all minima, the second of all maxima."""
    low, high = limits(dtype)
    values = np.random.default_rng(seed).integers(low, high + 1, shape)
    values[0], values[1] = low, high
    return values


@dataclass(frozen=True)
class Case:
    """One device, what it is sent, what must come back and how fast."""

    name: str
    module: str
    parameters: dict[str, int]
    words: list[int]
    golden: IntArray
    elements: int
    dtype: IntType
    outputs: int = 1  # per frame
    interval: int | None = None  # cycles per frame, None: not at full rate
    latency: int | None = None
    in_width: int = 0
    out_width: int = 0


def _case(source: tuple[int, IntType], elements: int, dtype: IntType, **fields: Any) -> Case:
    fields.setdefault("in_width", padded_width(source[0], source[1].bits))
    fields.setdefault("out_width", padded_width(elements, dtype.bits))
    return Case(elements=elements, dtype=dtype, **fields)


def _duplicate(pe: int, bits: int, gates: tuple[int, ...]) -> Case:
    dtype = _int(bits, False)
    values = _values(pe, (50, pe), dtype)
    width = padded_width(pe, bits)
    words = pack_words(values, dtype)
    golden = [sum(word << k * width for k in range(len(gates))) for word in words]
    free = not any(gates)
    return _case(
        (pe, dtype), 1, dtype,
        name=f"duplicate-pe{pe}-{bits}-{gates}",
        module="duplicate_bench",
        parameters={"PE": pe, "WIDTH": bits, "N": len(gates)}
        | {f"G{k}": gate for k, gate in enumerate(gates)},
        words=words, golden=np.array(golden, dtype=object),
        interval=1 if free else None, latency=2 if free else None,
        out_width=width * len(gates),
    )  # fmt: skip


def _add(pe: int, first: IntType, second: IntType, gates: tuple[int, int], extra: int = 0) -> Case:
    ends = [limits(first), limits(second)]
    narrow = _holds(ends[0][0] + ends[1][0], ends[0][1] + ends[1][1])
    target = _int(narrow.bits + extra, narrow.signed)
    x, y = _values(pe, (50, pe), first), _values(pe + 1, (50, pe), second)
    y[2:4] = y[1::-1]  # minimum with maximum too
    x[2:4] = x[0:2]
    width = padded_width(pe, first.bits)
    pairs = zip(pack_words(x, first), pack_words(y, second), strict=True)
    free = not any(gates)
    return _case(
        (pe, first), pe, target,
        name=f"add-pe{pe}-{first.bits}{'us'[first.signed]}-{second.bits}{'us'[second.signed]}"
        f"-{gates}-{extra}",
        module="add_bench",
        parameters={"PE": pe, "A": first.bits, "AS": int(first.signed), "B": second.bits,
                    "BS": int(second.signed), "O": target.bits, "GA": gates[0], "GB": gates[1]},
        words=[a | b << width for a, b in pairs],
        golden=reference.add(x, y, first_type=first, second_type=second, output_type=target),
        interval=1 if free else None, latency=2 if free else None,
        in_width=width + padded_width(pe, second.bits),
    )  # fmt: skip


def _global_pool(channels: int, pe: int, pixels: int, dtype: IntType, extra: int = 0) -> Case:
    low, high = limits(dtype)
    narrow = _holds(low * pixels, high * pixels)
    target = _int(narrow.bits + extra, narrow.signed)
    x = _values(channels, (6, pixels, channels), dtype)
    folds = channels // pe
    golden = reference.global_acc_pool(x, input_type=dtype, output_type=target)
    return _case(
        (pe, dtype), pe, target,
        name=f"global-{channels}-pe{pe}-{pixels}px-{dtype.bits}{'us'[dtype.signed]}-{extra}",
        module="adq_global_acc_pool",
        parameters={"CHANNELS": channels, "PE": pe, "PIXELS": pixels, "IN_WIDTH": dtype.bits,
                    "SIGNED": int(dtype.signed), "OUT_WIDTH": target.bits},
        words=pack_words(x.reshape(-1, pe), dtype), golden=golden.reshape(-1, pe),
        outputs=folds, interval=folds * pixels, latency=(pixels - 1) * folds + 1,
    )  # fmt: skip


def _average(pe: int, k: int, dtype: IntType, bits: int, shift: int | None = None) -> Case:
    target = _int(bits, dtype.signed)
    by = reference.quant_avg_shift(dtype.bits, k, bits) if shift is None else shift
    x = _values(k, (12, k * pe), dtype)
    golden = reference.sum_pool(x, k, pe, shift=by, input_type=dtype, output_type=target)
    return _case(
        (pe, dtype), pe, target,
        name=f"average-pe{pe}-k{k}-{dtype.bits}{'us'[dtype.signed]}-{bits}-{shift}",
        module="adq_avgpool",
        parameters={"PE": pe, "K": k, "IN_WIDTH": dtype.bits, "SIGNED": int(dtype.signed),
                    "OUT_WIDTH": bits, "SHIFT": by},
        words=pack_words(x.reshape(-1, pe), dtype), golden=golden, interval=k, latency=k,
    )  # fmt: skip


def _select(labels: int, pe: int, dtype: IntType, bits: int) -> Case:
    target = _int(bits, False)
    x = _values(labels, (40, labels), dtype)  # the two first frames tie everywhere
    x[2:6] = x[2:6] // 2  # ties in some places
    for place in range(labels):  # every label wins once, against its own tie later on
        frame = np.full(labels, limits(dtype)[0])
        frame[place] = frame[-1] = limits(dtype)[1]
        x = np.vstack([x, frame])
    folds = labels // pe
    return _case(
        (pe, dtype), 1, target,
        name=f"select-{labels}-pe{pe}-{dtype.bits}{'us'[dtype.signed]}-{bits}",
        module="adq_label_select",
        parameters={"LABELS": labels, "PE": pe, "WIDTH": dtype.bits,
                    "SIGNED": int(dtype.signed), "OUT_WIDTH": bits},
        words=pack_words(x.reshape(-1, pe), dtype),
        golden=reference.label_select(x, input_type=dtype, output_type=target),
        interval=folds, latency=folds + (pe - 1).bit_length(),
    )  # fmt: skip


U1, U4, U7, S1, S5, S8 = (
    _int(1, False), _int(4, False), _int(7, False), _int(1, True), _int(5, True), _int(8, True),
)  # fmt: skip
CASES = [
    *(_duplicate(pe, bits, (0,) * n) for pe, bits, n in ((1, 1, 2), (3, 5, 2), (8, 8, 3))),
    *(_duplicate(2, 7, g) for g in ((0, 13), (13, 0), (8, 8), (4, 0, 14))),
    *(_add(pe, a, b, (0, 0)) for pe in (1, 3) for a in (U1, U4, S5) for b in (U7, S1, S8)),
    *(_add(2, U7, S5, gates, extra=2) for gates in ((0, 13), (13, 0), (8, 8))),
    *(_global_pool(6, pe, 5, dtype) for pe in (1, 2, 3, 6) for dtype in (U4, S5)),
    _global_pool(4, 4, 1, S1), _global_pool(4, 2, 1, U7, extra=3), _global_pool(40, 1, 2, U1),
    _global_pool(2, 1, 64, S8),
    *(_average(pe, k, dtype, 4) for pe in (1, 3) for k in (1, 4, 9) for dtype in (U4, U7, S5)),
    _average(2, 4, U4, 6, 0), _average(2, 4, S5, 12, 0), _average(1, 9, U1, 2),
    _average(1, 49, S8, 8), _average(3, 2, S1, 2),
    *(_select(10, pe, dtype, 8) for pe in (1, 2, 5, 10) for dtype in (S5, U7)),
    _select(1, 1, U4, 1), _select(7, 7, S8, 3), _select(3, 3, U1, 8), _select(100, 10, S8, 9),
    _select(9, 3, S1, 8),
]  # fmt: skip


@pytest.fixture(scope="session")
def bench(make_bench: Any, device: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All configurations in one model."""
    source: Path = tmp_path_factory.mktemp("benches") / "benches.sv"
    source.write_text(BENCHES, encoding="utf-8")
    devices = [
        device(case.module, dict(case.parameters), {"in0": case.in_width}, case.out_width)
        for case in CASES
    ]
    return make_bench(devices, [source])


def _unpack(case: Case, words: tuple[int, ...]) -> IntArray:
    if case.golden.dtype == object:
        return np.array(words, dtype=object)
    return unpack_words(words, case.elements, case.dtype).reshape(case.golden.shape)


@pytest.mark.rtl
@pytest.mark.parametrize("index", range(len(CASES)), ids=[case.name for case in CASES])
def test_layer_is_bit_exact_and_never_idles(bench: Any, index: int) -> None:
    case = CASES[index]
    expected = case.golden.size // case.elements
    for stall in STALLS:
        run = bench.run(index, case.words, expected, stall=stall)
        np.testing.assert_array_equal(_unpack(case, run.words), case.golden, err_msg=str(stall))
        if stall is None and case.interval is not None:
            assert run.interval(case.outputs) == case.interval, "bubbles"
            assert run.latency == case.latency


@pytest.mark.rtl
def test_one_wrong_value_shows(bench: Any) -> None:
    """The comparison of this file must be able to fail."""
    index = next(k for k, case in enumerate(CASES) if case.module == "adq_avgpool")
    case = CASES[index]
    run = bench.run(index, [case.words[0] ^ 1, *case.words[1:]], len(case.golden))
    assert not np.array_equal(_unpack(case, run.words), case.golden)


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
def test_a_copy_leaves_while_another_waits(make_bench: Any, device: Any, tmp_path: Path) -> None:
    source = tmp_path / "stuck.sv"
    devices = []
    text = ""
    for held in (1, 2):
        text += STUCK.replace("HELD", str(held)).replace("module stuck", f"module stuck{held}")
        devices.append(device(f"stuck{held}", {}, {"in0": 8}, 8))
    source.write_text(text, encoding="utf-8")
    bench = make_bench(devices, [source])
    words = list(range(1, 9))
    # The first copy of a word leaves alone; the next word needs the second copy gone.
    assert list(bench.run(0, words, 8).words) == words
    assert list(bench.run(1, words, 1, max_cycles=50).words) == [1]


def _node(op: str, inputs: list[Stream], outputs: list[Stream], **attributes: Any) -> HardwareNode:
    return HardwareNode(
        name="n", op=op, backend="hls", layer=None, generator="adaqat", inputs=tuple(inputs),
        outputs=tuple(outputs), attributes=attributes, cycles=1, estimate=Resources(),
    )  # fmt: skip


def _stream(name: str, elements: int, beats: int, dtype: IntType) -> Stream:
    return Stream(name=name, dtype=dtype, folded_shape=(1, beats, elements))


U12, S12 = _int(12, False), _int(12, True)
NODES = [
    _node("DuplicateStreams", [_stream("x", 2, 8, S5)],
          [_stream(f"y{k}", 2, 8, S5) for k in range(3)], NumOutputStreams=3),
    _node("ElementwiseAdd", [_stream("x", 2, 8, S5), _stream("y", 2, 8, U7)],
          [_stream("z", 2, 8, S12)]),
    _node("GlobalAccPool", [_stream("x", 2, 64, U4)], [_stream("y", 2, 16, U12)], NumChannels=32),
    _node("Pool", [_stream("x", 2, 36, S5)], [_stream("y", 2, 4, S5)], KernelSize=(3, 3),
          Function="QuantAvgPool", Size=4),
    _node("Pool", [_stream("x", 2, 36, S5)], [_stream("y", 2, 4, S5)], KernelSize=(3, 3)),
    _node("LabelSelect", [_stream("x", 5, 2, S12)], [_stream("y", 1, 1, _int(8, False))],
          Labels=10, K=1),
]  # fmt: skip


@pytest.mark.synth
@pytest.mark.parametrize(
    ("node", "family"),
    [(node, ("xc7", "xcup")[k % 2]) for k, node in enumerate(NODES)] + [(NODES[2], "xcup")],
)
def test_yosys_makes_logic_of_a_node(node: HardwareNode, family: str, tmp_path: Path) -> None:
    written = node_rtl(node, "top", {}, {})
    top = tmp_path / "top.sv"
    top.write_text(written.text, encoding="utf-8")
    index = SourceIndex((hw_dir() / "rtl").glob("*/*.sv"))
    sources = [path for core in written.cores for path in index.needed_by(core)]
    done = synthesize(
        [*sources, top], "top", family=families.load(family), dsp=False, cache=tmp_path
    )
    assert (done.unknown, done.notes) == ({}, ())
    assert done.resources.ff is not None
    assert 5 < done.resources.ff < 150
    assert (done.resources.dsp, done.resources.bram_18k) == (0, 0)
    # The sums of the global pool lie in distributed memory, nothing else has any.
    assert (done.lut_memory > 0) == (node.op == "GlobalAccPool")


def _changed(node: HardwareNode, **changes: Any) -> HardwareNode:
    attributes = {**node.attributes, **changes.pop("attributes", {})}
    return node.model_copy(update={"attributes": attributes, **changes})


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (_changed(NODES[0], attributes={"NumOutputStreams": 2}), "1 inputs and 3 outputs; its RTL"),
        (_changed(NODES[0], attributes={"NumOutputStreams": 0}), "'NumOutputStreams' .* is 0"),
        (_changed(NODES[0], outputs=(*NODES[0].outputs[:2], _stream("y", 2, 8, U7))),
         "takes signed values of 5 bits and gives unsigned values of 7 bits"),
        (_changed(NODES[1], inputs=NODES[1].inputs[:1]), "has 1 inputs and 1 outputs"),
        (_changed(NODES[1], inputs=(NODES[1].inputs[0], _stream("y", 2, 1, U7))),
         "adds 8 and 1 beats to 8; .* nothing is repeated"),
        (_changed(NODES[1], outputs=(_stream("z", 2, 8, U12),)), "nor lose its sign"),
        (_changed(NODES[2], attributes={"NumChannels": 16}), "does not match its 16 channels"),
        (_changed(NODES[2], outputs=(_stream("y", 2, 16, _int(3, False)),)), "not be narrower"),
        (_changed(NODES[3], attributes={"Function": "AvgPool"}), "pools with 'AvgPool'; hw/rtl"),
        (_changed(NODES[3], attributes={"Size": -1}), "'Size' of 'n' is -1"),
        (_changed(NODES[3], attributes={"Size": 9}), "leaves nothing of a value"),
        (_changed(NODES[3], attributes={"KernelSize": 3}), "'KernelSize' of 'n' is 3"),
        (_changed(NODES[3], outputs=(_stream("y", 2, 4, U7),)), "both must be signed or both"),
        (_changed(NODES[4], outputs=(_stream("y", 2, 4, S8),)), "both types must be equal"),
        (_changed(NODES[5], attributes={"K": 2}), "wants the 2 largest values"),
        (_changed(NODES[5], attributes={"Labels": 12}), "5 values per beat, .* 12 labels"),
        (_changed(NODES[5], outputs=(_stream("y", 1, 1, _int(3, False)),)), "of each of 10 labels"),
    ],
)  # fmt: skip
def test_a_node_that_does_not_fit_its_module_is_refused(node: HardwareNode, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        node_rtl(node, "top", {}, {})

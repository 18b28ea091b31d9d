"""FIFO depths: the queue itself, trials, deadlocks and the search, on small graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from adaqat_hw.errors import ConfigError, StageFailed
from adaqat_hw.rtl.fifo_graph import fifo_nodes, with_fifos
from adaqat_hw.rtl.fifo_sizing import check_depths, size_fifos
from adaqat_hw.rtl.fifo_trials import FifoSimulator, Trial, slowest_node
from adaqat_hw.rtl.stitch import stitch
from adaqat_hw.rtl.verilate import Simulator, Stall
from adaqat_hw.schema import (
    HardwareGraph,
    HardwareNode,
    HostInterface,
    IntType,
    Resources,
    Stream,
)
from tests.rtl.bench import Device

U8 = IntType(bits=8, signed=False)
BEATS, BLOCK = 60, 16

# Stand-ins for layers: behavioural, with the ports of generated RTL. A burst layer takes BLOCK
# beats, then gives BLOCK, as a sliding window does that waits for its first rows; a slow one
# needs PACE cycles per beat.
_PORTS = """input logic ap_clk, ap_rst_n,
  input logic [7:0] in0_V_TDATA, input logic in0_V_TVALID, output logic in0_V_TREADY,"""
_OUT = """
  output logic [7:0] out0_V_TDATA, output logic out0_V_TVALID, input logic out0_V_TREADY);
"""
BURST = f"""module burst ({_PORTS}{_OUT}
  logic [7:0] kept [{BLOCK}]; int filled, given;
  logic giving;
  assign in0_V_TREADY = !giving, out0_V_TVALID = giving, out0_V_TDATA = kept[given];
  always_ff @(posedge ap_clk)
    if (!ap_rst_n) begin filled <= 0; given <= 0; giving <= 0; end
    else if (!giving && in0_V_TVALID) begin
      kept[filled] <= in0_V_TDATA;
      filled <= filled == {BLOCK - 1} ? 0 : filled + 1;
      giving <= filled == {BLOCK - 1};
    end else if (giving && out0_V_TREADY) begin
      given <= given == {BLOCK - 1} ? 0 : given + 1;
      giving <= given != {BLOCK - 1};
    end
endmodule
"""
SLOW = f"""module slow ({_PORTS}{_OUT}
  int left;
  assign in0_V_TREADY = left == 0 && (!out0_V_TVALID || out0_V_TREADY);
  always_ff @(posedge ap_clk)
    if (!ap_rst_n) begin left <= 0; out0_V_TVALID <= 0; end
    else begin
      if (left != 0) left <= left - 1;
      if (out0_V_TREADY) out0_V_TVALID <= 0;
      if (in0_V_TREADY && in0_V_TVALID) begin
        left <= 2; out0_V_TVALID <= 1; out0_V_TDATA <= in0_V_TDATA;
      end
    end
endmodule
"""


def stream(name: str, beats: int = BLOCK * BEATS, dtype: IntType = U8) -> Stream:
    return Stream(name=name, dtype=dtype, folded_shape=(1, beats, 1))


def node(name: str, op: str, inputs: Sequence[str], outputs: Sequence[str], **more) -> HardwareNode:
    fields = {"generator": "finn", "attributes": {}, "cycles": 1, "backend": "rtl"} | more
    return HardwareNode(
        name=name, op=op, layer=None, estimate=Resources(),
        inputs=tuple(stream(x) for x in inputs), outputs=tuple(stream(x) for x in outputs),
        **fields,
    )  # fmt: skip


def layer(name: str, source: str, target: str, module: str, cycles: int) -> HardwareNode:
    return node(name, "FMPadding", [source], [target], top_module=module,
                files=(f"{module}.sv",), cycles=cycles)  # fmt: skip


def make_graph(nodes: Sequence[HardwareNode], first: str, last: str) -> HardwareGraph:
    ends = HostInterface(
        input_scale=1.0, input_dtype=U8, input_nchw=False, input_shape=(BLOCK * BEATS,),
        output_shape=(BLOCK * BEATS,), output_dtype=U8, output_scale=(1.0,), output_bias=(0.0,),
    )  # fmt: skip
    return HardwareGraph(
        network="tiny", part="xc7z020", clock_ns=5.0, nodes=tuple(nodes),
        input_stream=stream(first), output_stream=stream(last), host=ends,
        parameters_file="params.npz", parameters_sha256="", golden_file="golden.npz",
        golden_sha256="", cycles_estimated=1, fps_estimated=1.0,
    )  # fmt: skip


CYCLES = 3 * BLOCK * BEATS


@pytest.fixture(scope="session")
def residual() -> HardwareGraph:
    """Fork, a branch of a bursting and a slow layer, a bypass, and their sum modulo 256."""
    return make_graph(
        [
            node("fork", "DuplicateStreams", ["x"], ["a", "bypass"], generator="adaqat",
                 attributes={"NumOutputStreams": 2, "NumChannels": 1, "PE": 1}),
            layer("window", "a", "b", "burst", 2 * BLOCK * BEATS),
            layer("work", "b", "c", "slow", CYCLES),
            node("add", "ElementwiseAdd", ["c", "bypass"], ["y"], generator="adaqat",
                 attributes={"PE": 1}),
        ],
        "x", "y",
    )  # fmt: skip


@pytest.fixture(scope="session")
def chain() -> HardwareGraph:
    """Two bursting layers, which can both be busy only with a queue between them, and a slow."""
    return make_graph(
        [
            layer("one", "x", "a", "burst", 2 * BLOCK * BEATS),
            layer("work", "a", "b", "slow", CYCLES),
            layer("two", "b", "y", "burst", 2 * BLOCK * BEATS),
        ],
        "x", "y",
    )  # fmt: skip


Built = tuple[HardwareGraph, FifoSimulator]


@pytest.fixture(scope="session")
def built(
    verilator: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[HardwareGraph], Built]:
    """Return a function that stitches and verilates a graph; a graph is built once."""
    del verilator
    known: dict[str, Built] = {}

    def make(graph: HardwareGraph) -> Built:
        if graph.digest() not in known:
            folder = tmp_path_factory.mktemp("fifos")
            for name, text in (("burst", BURST), ("slow", SLOW)):
                (folder / f"{name}.sv").write_text(_tied(text), encoding="utf-8")
            own = with_fifos(graph, 2)
            design = stitch(own, folder, parameters={})
            known[graph.digest()] = own, FifoSimulator.build(own, design, folder / "sim")
        return known[graph.digest()]

    return make


def _tied(text: str) -> str:
    """Give a stand-in the ports that the stitcher ties off on a padding node."""
    names = ("AWVALID", "AWADDR", "WVALID", "WDATA", "WSTRB", "BREADY", "ARVALID", "ARADDR",
             "RREADY")  # fmt: skip
    ports = "".join(f"input logic s_axilite_{name}, " for name in names)
    return text.replace("(input logic ap_clk", f"({ports}input logic ap_clk", 1)


# ---- the graph


def test_every_inner_stream_gets_one_queue(residual: HardwareGraph) -> None:
    own = with_fifos(residual, 7)
    fifos = fifo_nodes(own)
    assert [f.name for f in fifos] == ["fifo_a", "fifo_bypass", "fifo_b", "fifo_c"]
    assert {f.attributes["depth"] for f in fifos} == {7}
    assert [f.attributes["fifo_index"] for f in fifos] == [0, 1, 2, 3]
    add = next(n for n in own.nodes if n.name == "add")
    assert [s.name for s in add.inputs] == ["c_queued", "bypass_queued"]
    again = with_fifos(own, {f.name: 3 for f in fifos})
    assert len(fifo_nodes(again)) == 4
    assert {f.attributes["depth"] for f in fifo_nodes(again)} == {3}


def test_finns_queues_become_ours() -> None:
    graph = make_graph(
        [
            node("q", "StreamingFIFO", ["x"], ["a"], top_module="Q", files=("q.v",)),
            layer("work", "a", "y", "slow", 1),
        ],
        "x", "y",
    )  # fmt: skip
    own = with_fifos(graph, {"q": 9})
    assert [n.name for n in own.nodes] == ["q", "work"]
    queue = own.nodes[0]
    assert (queue.generator, queue.files, queue.attributes["depth"]) == ("adaqat", (), 9)


@pytest.mark.parametrize(
    ("depths", "text"),
    [
        (1, "depth of FIFO 'fifo_a' is 1; at least 2"),
        ({"fifo_a": 2}, "FIFO 'fifo_bypass' has no depth in the record"),
        (dict.fromkeys(["fifo_a", "fifo_bypass", "fifo_b", "fifo_c", "x"], 2), "names 'x', which"),
    ],
)
def test_depths_that_do_not_fit_the_graph(residual: HardwareGraph, depths, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        with_fifos(residual, depths)


# ---- the queue


QUEUES = [(2, 257), (3, 257), (5, 257), (16, 257), (5, 3), (8, 3)]  # depth, BLOCK_DEPTH


@pytest.mark.rtl
def test_the_queue_holds_its_depth_and_keeps_order(make_bench) -> None:
    devices = [
        Device(
            "adq_fifo",
            {"DEPTH": depth, "WIDTH": 11, "BLOCK_DEPTH": block, "BLOCK_BITS": 1},
            {"in0": 16},
            16,
        )
        for depth, block in QUEUES
    ]
    bench = make_bench(devices)
    for index, (depth, _) in enumerate(QUEUES):
        words = [int(x) for x in np.random.default_rng(depth).integers(0, 1 << 11, 400)]
        free = bench.run(index, words, 400)
        assert list(free.words) == words
        assert free.latency == 1
        assert free.cycles == 400 + 42  # one beat per cycle, and the bench's 40 cycles of drain
        for stall in (Stall(1), Stall(2, 0.0, 0.9), Stall(3, 0.9, 0.0), Stall(4, 0.1, 0.2)):
            assert list(bench.run(index, words, 400, stall=stall).words) == words
        # Nothing goes out: exactly what it holds goes in.
        with pytest.raises(StageFailed, match=rf"\b{depth} of 400 inputs were accepted"):
            bench.run(index, words, 400, stall=Stall(0, 0.0, 0.9999999), max_cycles=60)


# ---- trials


@pytest.mark.rtl
def test_the_model_of_run_time_depth_keeps_the_cycles_of_the_real_queue(
    built: Callable[[HardwareGraph], Built], chain: HardwareGraph, tmp_path: Path
) -> None:
    own, trials = built(chain)
    assert slowest_node(own) == ("work", CYCLES)
    depths = {"fifo_a": 5, "fifo_b": 17}
    trial = trials.trial(list(depths.values()), frames=5, warm=2)
    for name, text in (("burst", BURST), ("slow", SLOW)):
        (tmp_path / f"{name}.sv").write_text(_tied(text), encoding="utf-8")
    design = stitch(with_fifos(chain, depths), tmp_path, parameters={})
    real = Simulator.build(
        design.sources, design.top, work_dir=tmp_path / "sim", input_width=8, output_width=8
    )
    words = [k & 255 for k in range(7 * BLOCK * BEATS)]
    run = real.run(words, 5 * BLOCK * BEATS, max_cycles=99_999)
    assert list(run.words) == words[: 5 * BLOCK * BEATS]
    ends = run.out_cycles[BLOCK * BEATS - 1 :: BLOCK * BEATS]
    assert np.diff(ends).tolist() == np.diff(trial.ends).tolist()


@pytest.mark.rtl
def test_a_deadlock_on_a_fork_names_the_bypass(
    built: Callable[[HardwareGraph], Built], residual: HardwareGraph
) -> None:
    own, trials = built(residual)
    with pytest.raises(
        StageFailed,
        match=r"fifos failed: deadlock: .*'bypass_queued' into 'add' is full \(2 of 2 beats\) "
        r"while its stream 'c_queued' is empty: the full FIFO needs more depth",
    ):
        check_depths(own, trials.trial, [2] * 4)
    # Found soon after it happened, and no run of the whole allowance.
    assert trials.trial([2] * 4, frames=4, warm=2).cycles < 3 * trials.quiet


# ---- the search


@pytest.mark.rtl
def test_a_residual_graph_runs_at_its_slowest_layers_pace(
    built: Callable[[HardwareGraph], Built], residual: HardwareGraph
) -> None:
    own, trials = built(residual)
    sizing = size_fifos(own, trials.trial)
    assert sizing.proven
    assert (sizing.slowest_node, sizing.slowest_cycles) == ("work", CYCLES)
    assert sizing.interval <= 1.02 * CYCLES
    depths = sizing.depths
    # The window takes BLOCK beats before it gives one; the add holds one more.
    assert BLOCK - 2 <= depths["fifo_bypass"] <= 3 * BLOCK
    assert sum(depths.values()) < 5 * BLOCK
    # One beat less anywhere deadlocks or costs the pace.
    names = list(depths)
    for name in names:
        less = [depths[n] - (n == name) for n in names]
        if min(less) >= 2:
            trial = trials.trial(less, frames=8, warm=2)
            assert trial.interval is None or trial.interval > 1.02 * CYCLES, name


@pytest.mark.rtl
def test_a_chain_gets_queues_only_where_they_help(
    built: Callable[[HardwareGraph], Built], chain: HardwareGraph
) -> None:
    own, trials = built(chain)
    short = trials.trial([2, 2], frames=6, warm=2)
    assert short.interval is not None
    assert short.interval > 1.1 * CYCLES
    sizing = size_fifos(own, trials.trial)
    assert sizing.interval <= 1.02 * CYCLES
    assert sizing.interval_deep <= sizing.interval
    assert sum(sizing.depths.values()) <= 3 * BLOCK


def fake(graph: HardwareGraph, cost: Callable[[Sequence[int]], float]) -> Callable[..., Trial]:
    """Return a runner whose accelerator takes ``cost(depths)`` cycles per frame."""

    def run(depths, *, frames, warm, pace=0, window=0) -> Trial:
        cycles = int(cost(depths))
        ends = tuple(cycles * (k + 1) for k in range(frames))
        slow = bool(window) and cycles * (frames - warm) > window
        zero = (0,) * len(depths)
        return Trial(
            outcome="slow" if slow else "done", cycles=ends[-1], ends=ends[:warm] if slow else ends,
            warm=warm, depths=tuple(depths), most=tuple(min(d, 50) for d in depths),
            blocked=(99,) * len(depths), starved=(99,) * len(depths), held=zero, waits=zero,
        )  # fmt: skip

    return run


def test_the_search_finds_the_one_queue_that_matters(residual: HardwareGraph) -> None:
    own = with_fifos(residual, 2)
    run = fake(own, lambda d: CYCLES * (1.5 if d[1] < 37 else 1.0))
    sizing = size_fifos(own, run)
    assert sizing.depths == {"fifo_a": 2, "fifo_bypass": 37, "fifo_b": 2, "fifo_c": 2}
    assert sizing.proven
    assert sizing.trials < 40


def test_the_search_stops_at_its_limits_with_depths_that_do(residual: HardwareGraph) -> None:
    own = with_fifos(residual, 2)
    run = fake(own, lambda d: CYCLES * (1.5 if d[1] < 37 else 1.0))
    sizing = size_fifos(own, run, max_trials=8)
    assert not sizing.proven
    assert sizing.depths["fifo_bypass"] >= 37


def test_what_no_depth_can_mend_is_measured_and_not_chased(residual: HardwareGraph) -> None:
    own = with_fifos(residual, 2)
    sizing = size_fifos(own, fake(own, lambda d: 2 * CYCLES))
    assert sizing.interval == sizing.interval_deep == 2 * CYCLES
    assert set(sizing.depths.values()) == {2}

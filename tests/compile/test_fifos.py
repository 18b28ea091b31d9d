"""FIFO sizing: depths by simulation into fifos.json, and from there into the design."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adaqat_hw import tools
from adaqat_hw.compile.design import Design
from adaqat_hw.compile.fifos import size_design
from adaqat_hw.compile.simulate import simulate_design
from adaqat_hw.errors import ConfigError, StageFailed, ToolNotFound
from adaqat_hw.report import build_summary
from adaqat_hw.rtl.fifo_graph import fifo_nodes
from adaqat_hw.rtl.integer_model import IntegerModel
from adaqat_hw.run import BuildFolder
from adaqat_hw.schema import (
    FifoDepth,
    FifoSizing,
    HardwareGraph,
    HardwareNode,
    HostInterface,
    IntType,
    Resources,
    SimulationResult,
    Stream,
)

S4, S16, S17 = (IntType(bits=bits, signed=True) for bits in (4, 16, 17))
SIZE, CYCLES = 16, 64


def stream(name: str, dtype: IntType) -> Stream:
    return Stream(name=name, dtype=dtype, folded_shape=(1, SIZE // 2, 2))


def node(name: str, op: str, inputs: list[Stream], outputs: list[Stream], **more) -> HardwareNode:
    fields = {"attributes": {}, "cycles": SIZE // 2} | more
    return HardwareNode(
        name=name, op=op, layer="fc", backend="rtl", generator="adaqat", inputs=tuple(inputs),
        outputs=tuple(outputs), estimate=Resources(), **fields,
    )  # fmt: skip


@pytest.fixture(scope="module")
def graph() -> HardwareGraph:
    """A fork, an MVAU that needs a whole frame before it gives a value, a bypass, their sum."""
    x, left, bypass = (stream(name, S4) for name in ("x", "left", "bypass"))
    y, total = stream("y", S16), stream("sum", S17)
    mvau = {"PE": 2, "SIMD": 2, "MW": SIZE, "MH": SIZE, "weight_bits": 3, "weight_signed": 1}
    fork = {"NumOutputStreams": 2, "NumChannels": SIZE, "PE": 2}
    return HardwareGraph(
        network="tiny", part="xc7z020", clock_ns=5.0,
        nodes=(
            node("fork", "DuplicateStreams", [x], [left, bypass], attributes=fork),
            node("fc", "MVAU", [left], [y], impl="lut", attributes=mvau, cycles=CYCLES),
            node("add", "ElementwiseAdd", [y, bypass], [total]),
        ),
        input_stream=x, output_stream=total,
        host=HostInterface(
            input_scale=1.0, input_dtype=S4, input_nchw=False, input_shape=(SIZE,),
            output_shape=(SIZE,), output_dtype=S17, output_scale=(1.0,), output_bias=(0.0,),
        ),
        parameters_file="params.npz", parameters_sha256="", golden_file="golden.npz",
        golden_sha256="", cycles_estimated=CYCLES, fps_estimated=1.0,
    )  # fmt: skip


@pytest.fixture
def folder(graph: HardwareGraph, tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    parameters = {"fc__weights": rng.integers(-4, 4, (SIZE, SIZE))}
    frames = rng.integers(-8, 8, (12, SIZE))
    graph.write(tmp_path / "hardware.json")
    np.savez(tmp_path / "params.npz", **parameters)
    np.savez(
        tmp_path / "golden.npz",
        inputs=frames,
        outputs=IntegerModel(graph, parameters).run(frames),
        labels=np.full(12, -1),
        kinds=np.array(["real"] * 8 + ["random"] * 4),
    )
    return tmp_path


def read(folder: Path) -> Design:
    return Design.read(BuildFolder(folder))


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    try:
        for find in (tools.cxx, tools.make, tools.verilator):
            find()
    except ToolNotFound as exc:
        pytest.skip(f"simulation tools are missing: {exc}")


@pytest.mark.rtl
def test_depths_are_found_used_and_reported(folder: Path) -> None:
    before = (folder / "hardware.json").read_bytes()
    with pytest.raises(StageFailed, match=r"deadlock: .*'bypass_queued' into 'add' is full"):
        size_design(read(folder), 2, lambda text: None)
    assert not (folder / "fifos.json").exists()

    text, files = size_design(read(folder), None, lambda text: None)
    assert files == ["fifos.json"]
    assert (folder / "hardware.json").read_bytes() == before
    record = FifoSizing.read(folder / "fifos.json")
    assert (record.method, record.slowest_node, record.slowest_cycles) == ("sized", "fc", CYCLES)
    assert {f.name: (f.stream, f.width) for f in record.fifos} == {
        "fifo_left": ("left", 8), "fifo_bypass": ("bypass", 8), "fifo_y": ("y", 32),
    }  # fmt: skip
    assert record.initiation_interval_over_slowest_layer <= 1.02
    assert record.memory_bits == sum(f.depth * f.width for f in record.fifos)
    assert record.depths()["fifo_bypass"] >= SIZE // 2 - 2
    assert "3 FIFOs" in text

    # The design that is simulated has these depths, and takes the cycles that sizing measured.
    own = read(folder).sized()
    assert {n.name: n.attributes["depth"] for n in fifo_nodes(own)} == record.depths()
    simulate_design(read(folder), 8, 4, lambda text: None)
    result = SimulationResult.read(folder / "simulation.json")
    assert result.mismatches == 0
    assert result.passes[0].cycles_per_frame == pytest.approx(record.initiation_interval, rel=0.02)

    summary = build_summary(folder)["fifo"]
    assert summary["depth_total"] == record.depth_total
    assert summary["memory_bits"] == record.memory_bits
    ratio = summary["initiation_interval_over_slowest_layer"]
    assert ratio == record.initiation_interval / CYCLES


@pytest.mark.rtl
def test_a_fixed_depth_is_measured(folder: Path) -> None:
    size_design(read(folder), 20, lambda text: None)
    record = FifoSizing.read(folder / "fifos.json")
    assert (record.method, record.trials, record.depth_total) == ("fixed", 1, 60)


def test_without_a_record_the_graph_stays_as_it_was_made(
    folder: Path, graph: HardwareGraph
) -> None:
    assert read(folder).sized() == graph
    assert build_summary(folder)["fifo"] is None


def test_depths_of_another_graph_are_refused(folder: Path) -> None:
    FifoSizing(
        method="sized", fifos=(FifoDepth(name="fifo_y", stream="y", depth=2, width=32),),
        initiation_interval=64, initiation_interval_deep=64, slowest_node="fc",
        slowest_cycles=64, frames=8, trials=9, complete=True, seconds=1, graph_digest="other",
        sources_digest="",
    ).write(folder / "fifos.json")  # fmt: skip
    with pytest.raises(ConfigError, match="are of graph 'other', not of"):
        read(folder).sized()

"""Simulate a design: the stitched accelerator against the integer model, bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from adaqat_hw.compile.design import Design
from adaqat_hw.errors import StageFailed
from adaqat_hw.rtl.integer_model import IntegerModel
from adaqat_hw.rtl.packing import IntArray, pack_words, unpack_words
from adaqat_hw.rtl.verilate import Simulator, Stall
from adaqat_hw.schema import HardwareGraph, SimulationPass, SimulationResult
from adaqat_hw.tools import package_versions

# A frame that takes this many times longer than estimated will never come.
PATIENCE = 20
STALL_SEED = 1
MOST_STALLED = 0.999


def simulate_design(
    design: Design, frames: int, stall_frames: int, note: Callable[[str], None]
) -> tuple[str, list[str]]:
    """Stitch a design, simulate it, write the record of it.

    Args:
        design: what was compiled.
        frames: real frames to run without stalls.
        stall_frames: frames of each kind (real, random and extreme) to run with each pattern of
            random stalls: both streams now and then, a sink that is slower than the accelerator,
            so that back-pressure reaches every layer, and a source that starves it.

    Raises:
        StageFailed: the integer model and the golden frames differ, the simulation hangs or breaks
            the stream protocol, or any output value differs; the record is written first.
    """
    graph, golden, folder = design.sized(), design.golden(), design.folder
    model = IntegerModel(graph, design.parameters())
    expected = model.run(golden["inputs"])
    _require_equal_to_golden(expected, golden)
    note("integer model equals the golden frames; stitching")
    stitched = design.stitch(graph)
    note("building the simulator with Verilator")
    simulator = Simulator.build(
        stitched.sources,
        stitched.top,
        work_dir=folder.simulator,
        data_files=stitched.data_files,
        defines=("VERILATOR",),
        input_width=stitched.input_width,
        output_width=stitched.output_width,
    )
    kinds = golden["kinds"].astype(str)
    real = np.flatnonzero(kinds == "real")
    other = np.flatnonzero(kinds != "real")
    passes = []
    outputs: IntArray | None = None
    for kind, chosen in (("real", real), ("random and extreme", other)):
        for pattern, stall in (("", None), *stall_patterns(graph)):
            frames_here = chosen[: frames if stall is None else stall_frames]
            if len(frames_here) == 0:
                continue
            note(f"{len(frames_here)} {kind} frames, {pattern or 'no stalls'}")
            simulation, results = _pass(
                simulator,
                graph,
                golden["inputs"][frames_here],
                expected[frames_here],
                stall,
                pattern,
                kind,
            )
            passes.append(simulation)
            if kind == "real" and stall is None:
                outputs = results
    result = SimulationResult(
        reference="adaqat_hw.rtl.IntegerModel, equal to the golden frames",
        passes=tuple(passes),
        frames_real=min(frames, len(real)),
        mismatches=sum(p.mismatches for p in passes),
        accuracy=_accuracy(graph, outputs, golden, real[:frames]),
        tool_versions=package_versions("verilator", "numpy"),
        sources_digest=simulator.digest,
    )
    result.write(folder.simulation)
    total = sum(p.frames for p in passes)
    if result.mismatches:
        raise StageFailed(
            "simulate",
            f"{result.mismatches} of {total} frames differ from the integer model",
            folder.simulation,
        )
    measured = passes[0].cycles_per_frame
    cycles = "one frame" if measured is None else f"{measured:.0f} cycles per frame"
    text = f"{total} frames bit-exact, {cycles} (estimated {graph.cycles_estimated})"
    return text, folder.relative(folder.simulation)


def _require_equal_to_golden(expected: IntArray, golden: dict[str, IntArray]) -> None:
    differs = np.any(
        expected.reshape(len(expected), -1) != golden["outputs"].reshape(len(expected), -1), axis=1
    )
    if differs.any():
        raise StageFailed(
            "simulate",
            f"the integer model and the golden frames differ on {int(differs.sum())} of "
            f"{len(differs)} frames, the first is frame {int(np.argmax(differs))}",
        )


def stall_patterns(graph: HardwareGraph) -> list[tuple[str, Stall]]:
    """Return the stall patterns in words and numbers.

    A stream of few beats per frame must stall long to matter: the slow ones are idle so often
    that a frame takes twice the accelerator's own time on that stream.
    """
    slowest = max(graph.cycles_estimated, graph.input_stream.beats, graph.output_stream.beats)

    def idle(beats: int) -> float:
        return min(max(1 - beats / (2 * slowest), 0.5), MOST_STALLED)

    return [
        ("both streams, half the time", Stall(STALL_SEED, 0.5, 0.5)),
        ("sink twice as slow", Stall(STALL_SEED + 1, 0.0, idle(graph.output_stream.beats))),
        ("source twice as slow", Stall(STALL_SEED + 2, idle(graph.input_stream.beats), 0.0)),
    ]


def _pass(
    simulator: Simulator,
    graph: HardwareGraph,
    inputs: IntArray,
    expected: IntArray,
    stall: Stall | None,
    pattern: str,
    kind: str,
) -> tuple[SimulationPass, IntArray]:
    n = len(inputs)
    source, sink = graph.input_stream, graph.output_stream
    words = pack_words(inputs.reshape(-1, source.elements), source.dtype)
    slowest = max(graph.cycles_estimated, source.beats, sink.beats)
    run = simulator.run(
        words,
        n * sink.beats,
        max_cycles=PATIENCE * slowest * (n + len(graph.nodes)) + 10_000,
        stall=stall,
        drain=slowest,
    )
    results = unpack_words(run.words, sink.elements, sink.dtype).reshape(expected.shape)
    differs = np.any(results.reshape(n, -1) != expected.reshape(n, -1), axis=1)
    simulation = SimulationPass(
        stalls=stall is not None,
        pattern=pattern or None,
        seed=None if stall is None else stall.seed,
        kind=kind,
        frames=n,
        mismatches=int(differs.sum()),
        cycles=run.cycles,
        latency_cycles=None if stall else run.latency_to(sink.beats),
        cycles_per_frame=None if stall else run.interval(sink.beats),
    )
    return simulation, results


def _accuracy(
    graph: HardwareGraph, outputs: IntArray | None, golden: dict[str, IntArray], real: IntArray
) -> float | None:
    if outputs is None:
        return None
    labels = golden["labels"][real]
    if len(labels) == 0 or (labels < 0).any():
        return None
    host = graph.host
    logits = outputs.reshape(len(outputs), -1) * np.array(host.output_scale)
    logits = logits + np.array(host.output_bias)
    return float(np.mean(np.argmax(logits, axis=1) == labels))

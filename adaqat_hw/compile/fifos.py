"""Find the depth of every FIFO of a design by simulation."""

from __future__ import annotations

import time
from collections.abc import Callable

from adaqat_hw.compile.design import Design
from adaqat_hw.rtl.fifo_graph import fifo_nodes, with_fifos
from adaqat_hw.rtl.fifo_sizing import TOLERANCE, Sizing, check_depths, size_fifos
from adaqat_hw.rtl.fifo_trials import FifoSimulator
from adaqat_hw.schema.fifos import FifoDepth, FifoSizing
from adaqat_hw.tools import package_versions


def size_design(
    design: Design, depth: int | None, note: Callable[[str], None]
) -> tuple[str, list[str]]:
    """Size the FIFOs of a design by simulation; write the record of their depths.

    Nothing that the backend made changes: the stitcher takes the depths from the record.

    Args:
        design: what was compiled.
        depth: None to find the depths, or one depth for all FIFOs, which is then only measured.
        note: told about every step.

    Raises:
        StageFailed: the accelerator deadlocks; the stuck streams are named.
    """
    started = time.monotonic()
    graph = with_fifos(design.graph, 2 if depth is None else depth)
    fifos = fifo_nodes(graph)
    stitched = design.stitch(graph)
    note(f"building the simulator of {len(fifos)} FIFOs with Verilator")
    simulator = FifoSimulator.build(graph, stitched, design.folder.simulator)
    if depth is None:
        sizing = size_fifos(graph, simulator.trial, note)
    else:
        sizing = check_depths(graph, simulator.trial, [depth] * len(fifos))
    record = FifoSizing(
        method="sized" if depth is None else "fixed",
        fifos=tuple(
            FifoDepth(
                name=fifo.name,
                stream=fifo.inputs[0].name,
                depth=sizing.depths[fifo.name],
                width=fifo.inputs[0].elements * fifo.inputs[0].dtype.bits,
            )
            for fifo in fifos
        ),
        initiation_interval=sizing.interval,
        initiation_interval_deep=sizing.interval_deep,
        slowest_node=sizing.slowest_node,
        slowest_cycles=sizing.slowest_cycles,
        frames=sizing.frames,
        trials=sizing.trials,
        complete=sizing.proven,
        seconds=round(time.monotonic() - started, 1),
        graph_digest=design.graph.digest(),
        sources_digest=simulator.digest,
        tool_versions=package_versions("verilator"),
    )
    record.write(design.folder.fifos)
    return _summary(record, sizing), design.folder.relative(design.folder.fifos)


def _summary(record: FifoSizing, sizing: Sizing) -> str:
    ratio = record.initiation_interval_over_slowest_layer
    text = (
        f"{len(record.fifos)} FIFOs, {record.depth_total} beats, {record.memory_bits} bits; "
        f"{record.initiation_interval:.0f} cycles per frame, {ratio:.3f} times the slowest node "
        f"{record.slowest_node}; {record.trials} simulations"
    )
    if sizing.interval_deep > record.slowest_cycles * (1 + TOLERANCE):
        text += f" (no FIFO depth is faster than {sizing.interval_deep:.0f} cycles)"
    if not sizing.proven:
        text += " (the search stopped at its limit; smaller ones may do)"
    return text

"""Explain a deadlock: which FIFO is full, and for which stream a join waits."""

from __future__ import annotations

from adaqat_hw.rtl.fifo_graph import fifo_nodes
from adaqat_hw.rtl.fifo_trials import Trial
from adaqat_hw.schema import HardwareGraph, HardwareNode


def full_before_joins(graph: HardwareGraph, trial: Trial) -> list[int]:
    """Return the full FIFOs in front of a node that waits for another input, by index.

    These are what a deadlock on a fork needs deeper: the beats that the join still lacks cannot
    come because the fork cannot send the ones that this FIFO has no room for.
    """
    return [full for full, _, _ in _stuck_joins(graph, trial)]


def explain_deadlock(graph: HardwareGraph, trial: Trial) -> str:
    """Return one sentence that names the stuck streams."""
    fifos = fifo_nodes(graph)
    when = f"no beat moved any more after cycle {trial.cycles}, {len(trial.ends)} frames were done"
    joins = _stuck_joins(graph, trial)
    if joins:
        parts = [
            f"stream {fifos[full].outputs[0].name!r} into {join.name!r} is full "
            f"({trial.held[full]} of {trial.depths[full]} beats) while its stream "
            f"{fifos[empty].outputs[0].name!r} is empty"
            for full, empty, join in joins
        ]
        return f"deadlock: {when}; {'; '.join(parts)}: the full FIFO needs more depth"
    blocked = [fifo for k, fifo in enumerate(fifos) if trial.waits[k] & 1]
    if not blocked:
        return f"deadlock: {when}; no FIFO is full, so a node itself has stopped"
    last = blocked[-1]
    names = ", ".join(repr(fifo.outputs[0].name) for fifo in blocked)
    reader = next((n.name for n in graph.nodes if last.outputs[0].name in _names(n)), None)
    return (
        f"deadlock: {when}; full and waiting are the streams {names}, and {reader or 'the sink'!r} "
        "does not take the last of them"
    )


def _stuck_joins(graph: HardwareGraph, trial: Trial) -> list[tuple[int, int, HardwareNode]]:
    """Return (full FIFO, empty FIFO, join) wherever a join waits beside a full FIFO."""
    index = {fifo.outputs[0].name: k for k, fifo in enumerate(fifo_nodes(graph))}
    stuck = []
    for node in graph.nodes:
        queues = [index[s.name] for s in node.inputs if s.name in index]
        empty = [k for k in queues if trial.held[k] == 0]
        full = [k for k in queues if trial.held[k] >= trial.depths[k]]
        if empty and full:
            stuck += [(k, empty[0], node) for k in full]
    return stuck


def _names(node: HardwareNode) -> set[str]:
    return {stream.name for stream in node.inputs}

"""FifoSimulator: one compiled model of an accelerator in which every FIFO depth is an argument.

The queues of the stitched design are replaced by hw/sim/adq_fifo_probe.sv, the driver is
hw/sim/fifo_driver.cpp; both document what is counted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adaqat_hw.resources import hw_dir
from adaqat_hw.rtl._model_build import build_model, place_data, run_model
from adaqat_hw.rtl.fifo_graph import fifo_nodes
from adaqat_hw.rtl.stitch import StitchedDesign
from adaqat_hw.schema import HardwareGraph

STAGE = "fifos"
# No layer lets this many times its own longest pause pass without moving a beat.
_QUIET_FACTOR, _QUIET_MORE = 16, 4000
_PATIENCE = 20

Outcome = Literal["done", "slow", "deadlock", "timeout"]


@dataclass(frozen=True)
class Trial:
    """What one simulation with given depths showed; arrays go by ``fifo_index``.

    ``ends`` are the cycles in which frames ended, ``warm`` how many of them lie before the
    measured part. In that part ``most`` is the largest number of beats held, ``blocked`` the
    cycles in which a beat waited for room, ``starved`` those in which the consumer waited for
    a beat. ``held`` and ``waits`` (bit 0 blocked, bit 1 starved) are of the last cycle.
    """

    outcome: Outcome
    cycles: int
    ends: tuple[int, ...]
    warm: int
    depths: tuple[int, ...]
    most: tuple[int, ...]
    blocked: tuple[int, ...]
    starved: tuple[int, ...]
    held: tuple[int, ...]
    waits: tuple[int, ...]

    @property
    def interval(self) -> float | None:
        """Mean cycles per frame after the first ``warm`` ones; None where none was measured."""
        measured = len(self.ends) - self.warm
        if self.outcome != "done" or measured < 1:
            return None
        return (self.ends[-1] - self.ends[self.warm - 1]) / measured


@dataclass(frozen=True)
class FifoSimulator:
    """A built model; make one with :meth:`build`."""

    executable: Path
    data_dir: Path
    digest: str
    beats_in: int
    beats_out: int
    quiet: int
    slowest: int

    @classmethod
    def build(cls, graph: HardwareGraph, design: StitchedDesign, work_dir: Path) -> FifoSimulator:
        """Verilate the stitched ``graph``, which :func:`with_fifos` made, or find it built.

        Raises:
            ToolNotFound: no Verilator, C++ compiler or make.
            StageFailed: Verilator or the compiler refused; the log is kept.
        """
        folder = hw_dir() / "sim"
        work_dir = work_dir.resolve()
        executable, digest = build_model(
            [folder / "adq_fifo_probe.sv", *design.sources],
            design.top,
            driver=folder / "fifo_driver.cpp",
            work_dir=work_dir,
            include_dirs=(),
            defines=("VERILATOR", f"ADQ_FIFO_PROBE={len(fifo_nodes(graph))}"),
            parameters={},
            macros={},
        )
        _, slowest = slowest_node(graph)
        return cls(
            executable=executable,
            data_dir=place_data(design.data_files, work_dir),
            digest=digest,
            beats_in=graph.input_stream.beats,
            beats_out=graph.output_stream.beats,
            quiet=min(_QUIET_FACTOR * longest_pause(graph), slowest) + _QUIET_MORE,
            slowest=slowest,
        )

    def trial(
        self,
        depths: Sequence[int],
        *,
        frames: int,
        warm: int,
        pace: int = 0,
        window: int = 0,
    ) -> Trial:
        """Run ``frames`` frames back to back with ``depths`` and return what happened.

        Args:
            depths: beats per FIFO by its index.
            frames: frames to wait for.
            warm: frames before the measured part, at least 1.
            pace: cycles per frame of the source, 0: as fast as the accelerator takes.
            window: give up (``slow``) when the measured part takes longer, 0: never.

        Raises:
            StageFailed: the simulator itself failed.
        """
        allowed = _PATIENCE * (self.slowest + pace) * (frames + 2) + 100 * self.quiet
        with tempfile.TemporaryDirectory(prefix="adaqat-fifos-") as folder:
            listing = Path(folder) / "depths"
            listing.write_text("\n".join(map(str, depths)) + "\n", encoding="utf-8")
            numbers = (frames, warm, self.beats_in, self.beats_out, pace, self.quiet, window)
            _, body = run_model(
                self.executable,
                [str(listing), *map(str, (*numbers, allowed))],
                self.data_dir,
                stage=STAGE,
            )
        arrays = ("ends", "most", "blocked", "starved", "held", "waits")
        return Trial(
            outcome=body["outcome"],
            cycles=int(body["cycles"]),
            warm=warm,
            depths=tuple(depths),
            **{name: tuple(int(x) for x in body[name]) for name in arrays},
        )


def slowest_node(graph: HardwareGraph) -> tuple[str, int]:
    """Return the node that needs most cycles per frame, and the cycles.

    A stream carries one beat per cycle, so a node needs its streams' beats at least.
    """
    name, most = "", 0
    for node in graph.nodes:
        cycles = max([node.cycles, *(s.beats for s in (*node.inputs, *node.outputs))])
        if cycles > most:
            name, most = node.name, cycles
    return name, most


def longest_pause(graph: HardwareGraph) -> int:
    """Return the cycles for which a working node may leave all its streams alone."""
    return max(
        -(-node.cycles // max(s.beats for s in (*node.inputs, *node.outputs)))
        for node in graph.nodes
    )

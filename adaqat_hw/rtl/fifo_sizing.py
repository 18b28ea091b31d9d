"""Find the smallest FIFO depths at which an accelerator runs at its slowest layer's pace.

Every candidate is simulated, on one compiled model (:mod:`adaqat_hw.rtl.fifo_trials`):

1. All FIFOs as deep as two frames: the pace that no depth can beat, and, with a source at the
   wanted pace, the most that each FIFO ever holds, which bounds its depth.
2. From depth 2 (before a join: that bound), grow what helps until the pace is met: after a deadlock
   the full FIFOs before a join, otherwise those that are at times full with a beat waiting and at
   times empty with the consumer waiting. One only ever full, or only ever empty, gains nothing.
3. Shrink what has grown: halve the gap between the depth that is known to do and the one that is
   not, those with most bits to save first. FIFOs of one width at one depth, which repeated blocks
   have, go together; where that costs the pace and there is much to save, each half alone. First
   above the depths of the last growth but one, then all the way down. Room for one beat more than
   a FIFO ever held changes nothing: every success cuts the rest off.
4. Confirm with more frames; where those show more, do 2 and 3 again with as many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from adaqat_hw.errors import StageFailed
from adaqat_hw.rtl.fifo_deadlock import explain_deadlock, full_before_joins
from adaqat_hw.rtl.fifo_graph import capacity, fifo_nodes
from adaqat_hw.rtl.fifo_trials import STAGE, Trial, slowest_node
from adaqat_hw.rtl.ops.fifo import MIN_DEPTH
from adaqat_hw.schema import HardwareGraph, HardwareNode

TOLERANCE = 0.02
_WARM = 2
_FRAMES, _CONFIRM_FRAMES = 4, 8
# A FIFO counts as in the way when both its sides waited for this part of a frame.
_IN_THE_WAY = 0.001
_MAX_GROWTHS = 40
# Saving less than this part of all FIFO bits is not worth another simulation, or in the second
# case, not worth looking for the one of several alike that could not be smaller.
_WORTH = 0.002
_WORTH_A_SPLIT = 0.02
# Where FIFOs are not what holds the accelerator back, they may cost this much, no more.
_NEAREST = 1.005


class TrialRunner(Protocol):
    """What runs a trial: :meth:`adaqat_hw.rtl.fifo_trials.FifoSimulator.trial`."""

    def __call__(
        self, depths: Sequence[int], *, frames: int, warm: int, pace: int = 0, window: int = 0
    ) -> Trial:
        """Run one trial."""


@dataclass(frozen=True)
class Sizing:
    """Depths by FIFO name, and what they were measured to do.

    ``interval`` is in cycles per frame over ``frames`` frames back to back, ``interval_deep`` the
    same with FIFOs of two frames, ``slowest_node`` the node of most ``slowest_cycles``.
    ``proven`` tells whether the search ended by itself and not by its limits.
    """

    depths: dict[str, int]
    interval: float
    interval_deep: float
    slowest_node: str
    slowest_cycles: int
    frames: int
    trials: int
    proven: bool


def size_fifos(
    graph: HardwareGraph,
    run: TrialRunner,
    note: Callable[[str], None] = lambda text: None,
    *,
    max_trials: int = 400,
    max_cycles: int = 60_000_000,
) -> Sizing:
    """Return depths that keep the pace of the slowest layer with as few bits as can be found.

    Args:
        graph: the graph with this project's FIFOs.
        run: runs one trial.
        note: told about every step.
        max_trials: simulations after which shrinking stops.
        max_cycles: simulated cycles after which shrinking stops; not seconds, so that the same
            design gets the same depths on every machine.

    Raises:
        StageFailed: the accelerator deadlocks however deep its FIFOs are.
    """
    return _Search(graph, run, note, max_trials, max_cycles).find()


def check_depths(graph: HardwareGraph, run: TrialRunner, depths: Sequence[int]) -> Sizing:
    """Measure given depths.

    Raises:
        StageFailed: the accelerator deadlocks with them; the stuck streams are named.
    """
    trial = run(depths, frames=_CONFIRM_FRAMES, warm=_WARM)
    interval = _require_interval(graph, trial)
    node, cycles = slowest_node(graph)
    names = [fifo.name for fifo in fifo_nodes(graph)]
    by_name = dict(zip(names, depths, strict=True))
    return Sizing(by_name, interval, interval, node, cycles, _CONFIRM_FRAMES, 1, True)


class _Search:
    def __init__(
        self,
        graph: HardwareGraph,
        run: TrialRunner,
        note: Callable[[str], None],
        max_trials: int,
        max_cycles: int,
    ) -> None:
        self._graph, self._run, self._note = graph, run, note
        self._fifos = fifo_nodes(graph)
        self._bits = [_width(fifo) for fifo in self._fifos]
        self._max_trials, self._max_cycles = max_trials, max_cycles
        self._node, self._slowest = slowest_node(graph)
        self._trials = self._cycles = 0
        self._frames = _FRAMES
        self._goal = 0.0  # cycles per frame that depths must reach
        self._bounds: list[int] = []

    def find(self) -> Sizing:
        deep = [capacity(fifo) for fifo in self._fifos]
        first = self._trial(deep)
        interval_deep = _require_interval(self._graph, first)
        # FINN's estimate of the slowest layer can be off to either side: hold both to account.
        goal = min(self._slowest, interval_deep) * (1 + TOLERANCE)
        self._goal = max(goal, interval_deep * _NEAREST)
        self._note(
            f"{len(self._fifos)} FIFOs as deep as two frames: {interval_deep:.0f} cycles per frame "
            f"({self._node} needs {self._slowest})"
        )
        paced = self._trial(deep, pace=int(self._goal))
        _require_interval(self._graph, paced)
        self._bounds = [max(m, MIN_DEPTH) for m in paced.most]
        depths, proven = self._first_depths(), False
        for frames in (_FRAMES, _CONFIRM_FRAMES):
            self._frames = frames
            depths, before = self._grow(depths)
            self._note(f"fast enough with {self._depths_text(depths)}")
            # What stood before the last growth was too little then: a good place to start from.
            depths, _ = self._shrink(depths, before)
            depths, proven = self._shrink(depths, [MIN_DEPTH - 1] * len(depths))
            last = self._trial(depths, frames=_CONFIRM_FRAMES)
            if self._fast(last):
                break
        interval = _require_interval(self._graph, last)
        self._note(
            f"{self._depths_text(depths)}: {interval:.0f} cycles per frame, "
            f"{self._trials} simulations"
        )
        return Sizing(
            depths={fifo.name: d for fifo, d in zip(self._fifos, depths, strict=True)},
            interval=interval,
            interval_deep=interval_deep,
            slowest_node=self._node,
            slowest_cycles=self._slowest,
            frames=_CONFIRM_FRAMES,
            trials=self._trials,
            proven=proven,
        )

    def _first_depths(self) -> list[int]:
        """Return the least depth everywhere, but before a join for the input that waits longest.

        Its FIFO holds what the other branches still work on; with less they soon deadlock.
        """
        depths = [MIN_DEPTH] * len(self._fifos)
        index = {fifo.outputs[0].name: k for k, fifo in enumerate(self._fifos)}
        for node in self._graph.nodes:
            queues = [index[s.name] for s in node.inputs if s.name in index]
            if len(queues) > 1:
                longest = max(queues, key=self._bounds.__getitem__)
                depths[longest] = self._bounds[longest]
        return depths

    def _trial(
        self, depths: Sequence[int], *, frames: int | None = None, pace: int = 0, window: int = 0
    ) -> Trial:
        frames = frames or self._frames
        trial = self._run(depths, frames=frames, warm=_WARM, pace=pace, window=window)
        self._trials += 1
        self._cycles += trial.cycles
        return trial

    def _fast(self, trial: Trial) -> bool:
        return trial.interval is not None and trial.interval <= self._goal

    def _grow(self, start: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return depths that reach the goal, and those that had not before their last growth."""
        depths = list(start)
        before = [MIN_DEPTH - 1] * len(depths)
        limits = [max(pair) for pair in zip(depths, self._bounds, strict=True)]
        most = [max(d, capacity(fifo)) for d, fifo in zip(depths, self._fifos, strict=True)]
        for _ in range(_MAX_GROWTHS):
            trial = self._trial(depths)
            if self._fast(trial):
                return _trimmed(depths, trial, [MIN_DEPTH] * len(depths)), before
            chosen = self._in_the_way(trial, depths, limits)
            if not chosen:
                # The bounds came from a steady source; under back-pressure more may be needed.
                limits = [min(2 * limit, m) for limit, m in zip(limits, most, strict=True)]
                chosen = self._in_the_way(trial, depths, limits)
            if not chosen:
                break
            deadlock = trial.outcome == "deadlock"
            for k in chosen:
                before[k] = depths[k]
                depths[k] = limits[k] if deadlock else min(2 * depths[k], limits[k])
            self._note(
                f"{self._trial_text(trial)}; {len(chosen)} FIFOs grow, {self._depths_text(depths)}"
            )
        self._note("nothing more is seen to help: shrinking from FIFOs as deep as two frames")
        return most, [MIN_DEPTH - 1] * len(most)

    def _in_the_way(self, trial: Trial, depths: Sequence[int], limits: Sequence[int]) -> list[int]:
        growable = [k for k in range(len(depths)) if depths[k] < limits[k]]
        if trial.outcome != "done":
            joins = set(full_before_joins(self._graph, trial))
            full = [k for k in growable if trial.held[k] >= depths[k]]
            return [k for k in full if k in joins] or full
        least = _IN_THE_WAY * self._slowest * (len(trial.ends) - trial.warm)
        gain = {k: self._gain(trial, k) for k in growable}
        for floor in (least, 0):
            if chosen := [k for k in growable if gain[k] > floor]:
                return chosen
        return [k for k in growable if trial.blocked[k] > 0]

    def _gain(self, trial: Trial, index: int) -> int:
        """Cycles that a deeper FIFO may win. A join shows no want of a beat while it waits."""
        target = self._fifos[index].outputs[0].name
        reader = next((n for n in self._graph.nodes if target in {s.name for s in n.inputs}), None)
        if reader is not None and len(reader.inputs) > 1:
            return trial.blocked[index]
        return min(trial.blocked[index], trial.starved[index])

    def _shrink(self, depths: Sequence[int], above: Sequence[int]) -> tuple[list[int], bool]:
        """Return smaller depths that still reach the goal, and whether no more was to be had.

        Only depths above ``above`` are tried.
        """
        good = list(depths)
        bad = [min(pair) for pair in zip(above, (d - 1 for d in good), strict=True)]
        while True:
            able = [k for k in range(len(good)) if good[k] - bad[k] > 1]
            if self._saving(able, good, bad) <= _WORTH * self._total(good):
                return good, True
            groups = self._alike(able, good, bad)
            for group in sorted(groups, key=lambda g: -self._saving(g, good, bad)):
                if not self._shrink_group(group, good, bad):
                    return good, False
            self._note(f"{self._trials} simulations, {self._depths_text(good)}")

    def _alike(
        self, able: Sequence[int], good: Sequence[int], bad: Sequence[int]
    ) -> list[list[int]]:
        """Return groups of FIFOs in the same state, and one of all that are not worth their own."""
        groups: dict[tuple[int, int, int], list[int]] = {}
        for k in able:
            groups.setdefault((self._bits[k], good[k], bad[k]), []).append(k)
        worth = _WORTH * self._total(good)
        few = [group for group in groups.values() if self._saving(group, good, bad) <= worth]
        single = [group for group in groups.values() if group not in few]
        return [*single, [k for group in few for k in group]] if few else single

    def _shrink_group(self, group: list[int], good: list[int], bad: list[int]) -> bool:
        """Lower ``good`` or raise ``bad`` of every FIFO of the group; False: out of budget."""
        if self._trials >= self._max_trials or self._cycles >= self._max_cycles:
            return False
        if self._saving(group, good, bad) <= _WORTH * self._total(good):
            for k in group:
                bad[k] = good[k] - 1
            return True
        tried = list(good)
        for k in group:
            tried[k] = _between(bad[k], good[k])
        window = int(self._goal * (self._frames - _WARM))
        trial = self._trial(tried, window=window)
        if self._fast(trial):
            good[:] = _trimmed(tried, trial, [b + 1 for b in bad])
            return True
        if len(group) == 1 or self._saving(group, good, bad) <= _WORTH_A_SPLIT * self._total(good):
            for k in group:
                bad[k] = tried[k]
            return True
        half = len(group) // 2
        return self._shrink_group(group[:half], good, bad) and self._shrink_group(
            group[half:], good, bad
        )

    def _saving(self, group: Sequence[int], good: Sequence[int], bad: Sequence[int]) -> int:
        """Bits that shrinking can save at most."""
        return sum((good[k] - bad[k] - 1) * self._bits[k] for k in group)

    def _total(self, depths: Sequence[int]) -> int:
        return sum(d * bits for d, bits in zip(depths, self._bits, strict=True))

    def _depths_text(self, depths: Sequence[int]) -> str:
        return f"{sum(depths)} beats, {self._total(depths)} bits in all"

    def _trial_text(self, trial: Trial) -> str:
        if trial.interval is None:
            return explain_deadlock(self._graph, trial)
        return f"{trial.interval:.0f} cycles per frame"


def _trimmed(depths: Sequence[int], trial: Trial, least: Sequence[int]) -> list[int]:
    """Return depths with which ``trial`` runs the same, but none below ``least``.

    A queue that has room after every cycle never delays a beat, however much more there is.
    """
    return [
        min(depth, max(most + 1, floor, MIN_DEPTH))
        for depth, most, floor in zip(depths, trial.most, least, strict=True)
    ]


def _between(bad: int, good: int) -> int:
    """Return a depth between one that will not do and one that does; far apart, nearer the first.

    Most FIFOs need far less than what is known to do.
    """
    if bad < MIN_DEPTH:
        return MIN_DEPTH
    if good > 4 * bad:
        return max(int((bad * good) ** 0.5), bad + 1)
    return (bad + good) // 2


def _width(fifo: HardwareNode) -> int:
    stream = fifo.inputs[0]
    return stream.elements * stream.dtype.bits


def _require_interval(graph: HardwareGraph, trial: Trial) -> float:
    interval = trial.interval
    if interval is not None:
        return interval
    if trial.outcome == "deadlock":
        raise StageFailed(STAGE, explain_deadlock(graph, trial))
    raise StageFailed(
        STAGE,
        f"{len(trial.ends)} frames ended within {trial.cycles} cycles; the accelerator is far "
        "slower than its estimate",
    )

"""Which widths a step probes, and how many steps a probe stands for. Pure Python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class ProbeScheduler:
    """Probe some widths in each step: those first that have waited longest.

    A width that is probed once in ``n`` steps moves with ``n`` times its learning rate, so that
    it is as fast, in expectation, as one that is probed in every step.

    Args:
        names: the widths in the order of their first probes.
        every: training steps between two probing steps.
        per_step: widths per probing step; None for all.
    """

    def __init__(self, names: Iterable[str], every: int = 1, per_step: int | None = None) -> None:
        self._probed: dict[str, int | None] = dict.fromkeys(names)
        self._every = every
        self._per_step = per_step
        self._start: int | None = None

    def next(self, free: Sequence[str]) -> list[str]:
        """Return the widths of ``free`` to probe now, in the order of ``free``."""
        if self._per_step is None or self._per_step >= len(free):
            return list(free)
        waiting = sorted(free, key=self._last)  # stable: equal waits keep the order
        longest = set(waiting[: self._per_step])
        return [name for name in free if name in longest]

    def scales(self, names: Iterable[str], at_step: int) -> dict[str, int]:
        """Return the training steps that a probe at ``at_step`` stands for, and note it."""
        if self._start is None:
            self._start = at_step
        scales = {}
        for name in names:
            last = self._probed[name]
            since = at_step - (self._start - self._every if last is None else last)
            scales[name] = max(1, since)
            self._probed[name] = at_step
        return scales

    def state_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        return {"start": self._start, "probed": dict(self._probed)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._start = state["start"]
        self._probed = dict(state["probed"])

    def _last(self, name: str) -> int:
        last = self._probed[name]
        return -1 if last is None else last

"""SimulationResult: the stitched accelerator against its integer model."""

from __future__ import annotations

from adaqat_hw.schema._base import Record


class SimulationPass(Record):
    """One pass over ``frames`` frames, with or without random stalls on both streams.

    ``pattern`` says in words how the streams stalled (None: not at all).
    ``mismatches`` counts frames with any differing output value. ``latency_cycles`` is from
    the first accepted input beat to the last output beat of the first frame,
    ``cycles_per_frame`` the steady-state distance between the last beats of consecutive
    frames (None under stalls or with fewer than three frames).
    """

    stalls: bool
    pattern: str | None = None
    seed: int | None
    kind: str
    frames: int
    mismatches: int
    cycles: int
    latency_cycles: int | None
    cycles_per_frame: float | None


class SimulationResult(Record):
    """All passes of one simulation, against the integer model named ``reference``."""

    reference: str
    passes: tuple[SimulationPass, ...]
    frames_real: int
    mismatches: int
    accuracy: float | None
    tool_versions: dict[str, str]
    sources_digest: str

"""TrainResult: what training ended with."""

from __future__ import annotations

from adaqat_hw.schema._base import Record


class TrainResult(Record):
    """Outcome of one training.

    Accuracies are top-1 fractions on the test split after batch-norm recalibration.
    ``plan`` is the plan's file name beside this record (None for full precision),
    ``checkpoint`` the final weights. ``frozen_at`` maps a width's name to the step at which
    it froze (None: not frozen before the end). ``log`` is the JSONL trajectory.
    """

    network: str
    dataset: str
    mode: str
    config_digest: str
    seed: int
    epochs: int
    steps: int
    accuracy: float
    accuracy_before_recalibration: float | None
    test_samples: int
    plan: str | None
    plan_digest: str | None
    checkpoint: str
    log: str
    frozen_at: dict[str, int | None]
    seconds: float
    tool_versions: dict[str, str]

"""TrainResult: what training ended with."""

from __future__ import annotations

from typing import Literal

from adaqat_hw.schema._base import Record

# Where and how a training runs: a change of these asks for no new training.
PASSIVE_KEYS: dict[str, set[str]] = {"train": {"device", "tensorboard"}, "data": {"workers"}}


class BudgetResult(Record):
    """How a training to a budget ended.

    ``kind`` says what ``budget`` and ``reached`` count: BitOPs of the network per sample (at most
    the budget), or 32-bit weights over the plan's (at least the budget).
    """

    kind: Literal["bitops", "compression"]
    budget: float
    reached: float
    met: bool
    sentence: str


class TrainResult(Record):
    """Outcome of one training.

    Accuracies are top-1 fractions on the test split. ``accuracy_before_recalibration`` is there
    where widths froze at the very end only, so that batch norm was recalibrated for them.
    ``plan`` is the plan's file name beside this record (None for full precision),
    ``checkpoint`` the final weights. ``frozen_at`` maps a width's name to the step at which
    it froze (None: not frozen before the end). ``log`` is the JSONL trajectory. ``budget`` is
    there when widths were learned to a budget; weights and plan are the final ones then too.
    ``accuracy_top5`` is measured with more than ten classes. ``device`` is where it trained
    last (``cpu`` or ``cuda``), in ``processes`` processes.
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
    accuracy_top5: float | None = None
    budget: BudgetResult | None = None
    device: str | None = None
    processes: int | None = None

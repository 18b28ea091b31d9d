"""TrainResult: what training ended with."""

from __future__ import annotations

from typing import ClassVar

from adaqat_hw.schema._base import Record


class BudgetResult(Record):
    """How a training to a budget ended, in the cost's own words.

    ``title`` names what was limited (``BitOPs``, ``weight compression``). ``asked`` and
    ``reached`` are in ``unit`` (``x``: a ratio); ``met`` says whether the plan keeps within what
    was asked, ``sentence`` all of it.
    """

    title: str
    unit: str
    asked: float
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

    Version 2: ``budget`` records unit, what was asked and what was reached for any cost.
    """

    schema_version: ClassVar[int] = 2

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

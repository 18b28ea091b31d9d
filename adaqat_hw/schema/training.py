"""TrainResult: what training ended with."""

from __future__ import annotations

from typing import ClassVar, Literal

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


class FreezeChoice(Record):
    """Which plan the widths of a training to a budget froze at, and why.

    ``live`` are the widths before, ``learned`` the plan that the probes ask for, ``uniform`` the
    uniform plan of the same budget; ``learned_cost`` and ``uniform_cost`` are in ``unit``. Both
    were measured on the same ``batches``: ``difference`` is the mean of learned minus uniform
    loss, ``standard_error`` that of this mean; both None where nothing was measured. ``chosen``
    is ``same`` where the two plans are one. ``far`` maps the widths that froze more than one bit
    from where they were to (before, after). ``sentence`` says all of it.
    """

    step: int
    live: dict[str, int]
    learned: dict[str, int]
    uniform: dict[str, int]
    unit: str
    learned_cost: float
    uniform_cost: float
    batches: int
    difference: float | None
    standard_error: float | None
    chosen: Literal["learned", "uniform", "same"]
    far: dict[str, tuple[int, int]]
    sentence: str

    @property
    def bits(self) -> dict[str, int]:
        """The plan that was chosen."""
        return self.uniform if self.chosen == "uniform" else self.learned


class TrainResult(Record):
    """Outcome of one training.

    Accuracies are top-1 fractions on the test split, None with a loss of one's own: then
    ``test_loss`` is the mean of the loss ``loss_name`` over the test split, and ``metric`` that of
    ``metric_name``. ``accuracy_before_recalibration`` is there where widths froze at the very end
    only or weights were averaged, so that batch norm was recalibrated for them.
    ``plan`` is the plan's file name beside this record (None for full precision),
    ``checkpoint`` the final weights. ``frozen_at`` maps a width's name to the step at which
    it froze (None: not frozen before the end). ``log`` is the JSONL trajectory. ``budget`` is
    there when widths were learned to a budget; weights and plan are the final ones then too.
    ``freeze_choice`` is there with it.
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
    accuracy: float | None
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
    freeze_choice: FreezeChoice | None = None
    device: str | None = None
    processes: int | None = None
    loss_name: str | None = None
    test_loss: float | None = None
    metric_name: str | None = None
    metric: float | None = None

    @property
    def reached(self) -> str:
        """What was measured, in words."""
        if self.accuracy is not None:
            return f"top-1 {100 * self.accuracy:.2f} %"
        measured = ((self.metric_name, self.metric), (self.loss_name, self.test_loss))
        return ", ".join(f"{name} {value:.4g}" for name, value in measured if value is not None)

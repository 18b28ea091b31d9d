"""Time series from a training log: widths, their gradients and flips, the controller's cost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeGuard

Row = dict[str, Any]


@dataclass(frozen=True)
class Series:
    """Values over training steps, in order of the steps."""

    steps: tuple[int, ...] = ()
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Pull:
    """The two parts of a width's gradient at one step: of the task loss and of the hardware's.

    Both are per bit. ``task`` is usually negative (a bit more lowers the loss), ``hardware`` is
    what that bit costs, lambda included.
    """

    step: int
    task: float
    hardware: float


@dataclass(frozen=True)
class WidthPath:
    """Trajectory of one learned width: real values, integer widths, where it froze.

    ``flips`` are the steps at which its integer changed; None where the log counts none at all.
    """

    name: str
    steps: tuple[int, ...]
    real: tuple[float, ...]
    bits: tuple[int | None, ...]
    frozen_at: int | None = None
    frozen_by: str | None = None
    flips: tuple[int, ...] | None = None
    pulls: tuple[Pull, ...] = ()

    @property
    def operand(self) -> str:
        """``activations`` or ``weights``."""
        return "weights" if self.name.partition(":")[0] == "weights" else "activations"

    @property
    def label(self) -> str:
        """Layer or quantizer; the whole name where the network has one width."""
        return self.name.partition(":")[2] or self.name


@dataclass(frozen=True)
class BudgetCourse:
    """What a budget limits, what it asks for, and what the widths of each step come to."""

    title: str
    asked: float
    reached: Series


@dataclass(frozen=True)
class History:
    """Courses of a training; a series that the log lacks is empty.

    ``hard_loss`` is the hardware part of the loss without lambda, ``target`` what a budget wants
    it to be by then, ``bitops`` per sample. ``budget`` is None for a fixed lambda.
    """

    train_loss: Series = Series()
    accuracy: Series = Series()
    hard_loss: Series = Series()
    hardware_lambda: Series = Series()
    bitops: Series = Series()
    target: Series = Series()
    budget: BudgetCourse | None = None


def history(rows: list[Row]) -> History:
    """Return the courses that the log holds; rows without a number are left out."""
    epochs = [row for row in rows if row.get("event") == "epoch"]
    budgets = [
        {**budget, "step": row.get("step")}
        for row in rows
        if isinstance(budget := row.get("budget"), dict)
    ]
    return History(
        train_loss=_series(epochs, "train_loss"),
        accuracy=_series(epochs, "accuracy"),
        hard_loss=_series(rows, "hard_loss"),
        hardware_lambda=_series(rows, "hardware_lambda"),
        bitops=_series(rows, "bitops"),
        target=_series(budgets, "target_hard_loss"),
        budget=_budget(budgets),
    )


def _budget(budgets: list[Row]) -> BudgetCourse | None:
    for budget in reversed(budgets):
        title, limit = budget.get("title"), budget.get("asked")
        if isinstance(title, str) and is_number(limit):
            return BudgetCourse(title, float(limit), _series(budgets, "reached"))
    return None


def _series(rows: list[Row], key: str) -> Series:
    points = {}
    for row in rows:
        step, value = row.get("step"), row.get(key)
        if is_number(step) and is_number(value):
            points[int(step)] = float(value)
    ordered = sorted(points.items())
    return Series(tuple(step for step, _ in ordered), tuple(value for _, value in ordered))


@dataclass
class _Course:
    points: dict[int, tuple[float, int | None]] = field(default_factory=dict)
    flips: list[int] = field(default_factory=list)
    pulls: list[Pull] = field(default_factory=list)
    freeze: tuple[int, str | None] | None = None


def width_paths(rows: list[Row], frozen_at: dict[str, int | None]) -> tuple[WidthPath, ...]:
    """Return the trajectory of every width in the log, in order of appearance.

    ``frozen_at`` is the training's own record; the log adds the reason of a freeze, and the
    step where the record has none.
    """
    courses: dict[str, _Course] = {}
    for row in rows:
        if not is_number(row.get("step")):
            continue
        step = int(row["step"])
        real, bits = row.get("real"), row.get("bits")
        for name, value in real.items() if isinstance(real, dict) else ():
            if is_number(value):
                width = bits.get(name) if isinstance(bits, dict) else None
                known = int(width) if is_number(width) else None
                courses.setdefault(name, _Course()).points[step] = (float(value), known)
        _events(row, step, courses)
    counted = any(isinstance(row.get("flips"), list) for row in rows)
    return tuple(
        _path(name, course, frozen_at.get(name), counted)
        for name, course in courses.items()
        if course.points
    )


def _events(row: Row, step: int, courses: dict[str, _Course]) -> None:
    for event in _named(row.get("gradients")):
        task, hardware = event.get("task"), event.get("hardware")
        if is_number(task) and is_number(hardware):
            pull = Pull(step, float(task), float(hardware))
            courses.setdefault(event["name"], _Course()).pulls.append(pull)
    for event in _named(row.get("flips")):
        courses.setdefault(event["name"], _Course()).flips.append(step)
    for event in _named(row.get("freezes")):
        reason = event.get("reason")
        text = reason if isinstance(reason, str) else None
        courses.setdefault(event["name"], _Course()).freeze = (step, text)


def _named(listed: Any) -> Iterator[Row]:
    for event in listed if isinstance(listed, list) else ():
        if isinstance(event, dict) and isinstance(event.get("name"), str):
            yield event


def _path(name: str, course: _Course, recorded: int | None, counted: bool) -> WidthPath:
    ordered = sorted(course.points.items())
    logged = course.freeze
    return WidthPath(
        name=name,
        steps=tuple(step for step, _ in ordered),
        real=tuple(real for _, (real, _) in ordered),
        bits=tuple(bits for _, (_, bits) in ordered),
        frozen_at=recorded if recorded is not None or logged is None else logged[0],
        frozen_by=logged[1] if logged else None,
        flips=tuple(course.flips) if counted else None,
        pulls=tuple(sorted(course.pulls, key=lambda pull: pull.step)),
    )


def is_number(value: Any) -> TypeGuard[int | float]:
    """Tell whether ``value`` is a finite number and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

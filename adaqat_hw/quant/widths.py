"""Records of the controller: learned widths and what a step did to them. Pure Python."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from adaqat_hw.errors import ConfigError


@dataclass(frozen=True)
class Width:
    """One learned width: its start, its bounds (both included) and its learning rate."""

    name: str
    initial: float
    minimum: int
    maximum: int
    lr: float

    def __post_init__(self) -> None:
        if self.minimum > self.maximum:
            raise ConfigError(
                f"Width {self.name!r} has minimum {self.minimum!r} above maximum "
                f"{self.maximum!r}; swap them."
            )
        if not self.minimum <= self.initial <= self.maximum:
            raise ConfigError(
                f"Width {self.name!r} starts at {self.initial!r}; it must start between "
                f"{self.minimum!r} and {self.maximum!r}."
            )
        if not self.lr > 0:
            raise ConfigError(
                f"Width {self.name!r} has learning rate {self.lr!r}; it must be above 0."
            )


@dataclass(frozen=True)
class Gradient:
    """Gradient of one width: task and hardware part of this step, and what was applied.

    ``applied`` is ``task + hardware``, with the task part averaged over steps where
    ``gradient_ema`` is set.
    """

    name: str
    task: float
    hardware: float
    applied: float


@dataclass(frozen=True)
class Flip:
    """A width moved to another integer; ``count`` flips between these two so far."""

    name: str
    before: int
    after: int
    count: int


@dataclass(frozen=True)
class Freeze:
    """A width stopped moving at ``bits``; ``reason``: ``oscillation``, ``schedule`` or ``budget``.

    ``budget``: at the end of the learning phase, at the integer of the plan chosen to meet it.
    """

    name: str
    bits: int
    reason: str


@dataclass(frozen=True)
class StepEvents:
    """What one step did, for the log."""

    step: int
    gradients: tuple[Gradient, ...] = ()
    flips: tuple[Flip, ...] = ()
    freezes: tuple[Freeze, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able dictionaries."""
        return asdict(self)

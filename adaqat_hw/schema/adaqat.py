"""Configuration of how bit-widths are learned: ``[adaqat]``."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema._base import Record
from adaqat_hw.schema.plan import parse_bits

# Keys of releases up to 0.1, when [adaqat] was flat.
_MOVED = {
    "probe_every": "probing.every",
    "probes_per_step": "probing.per_step",
    "probe_samples": "probing.samples",
    "gradient_ema": "probing.gradient_ema",
    "freeze_at": "freeze.at",
    "oscillations": "freeze.oscillations",
    "dwell": "freeze.dwell",
    "budget_bitops": "budget.bitops",
    "budget_compression": "budget.compression",
}
_MOVED_VALUES = {"marginal": "better"}


class ProbingConfig(Record):
    """When task losses at neighbouring widths are measured, and how they are averaged.

    Probes run in every ``every``-th training step, with learning rates of the widths scaled by
    it: of ``per_step`` widths (None: all), those first that waited longest, on the first
    ``samples`` samples of the batch (None: all). ``gradient_ema`` is the share of the old value in
    the average of the task gradient; the price is added to it as it is.
    """

    every: int = Field(default=1, gt=0)
    per_step: int | None = Field(default=None, gt=0)
    samples: int | None = Field(default=None, gt=1)
    gradient_ema: float = Field(default=0.0, ge=0, lt=1)


class FreezeConfig(Record):
    """When widths stop moving, and where.

    ``at`` is the fraction of the schedule after which every width is frozen, whatever it does.
    Before that a width freezes that flipped ``oscillations`` times between the same two integers,
    over at least ``dwell`` training steps (not under a budget): with ``to`` ``larger`` to the
    larger one (the paper), with ``better`` to the one that its averaged probes and the price of
    the bit ask for.

    Under a budget the learned plan is held against the uniform one on up to ``compare_batches``
    training batches (as many as one epoch has) before it is frozen; 0 takes it unseen.
    """

    at: float = Field(default=0.7, gt=0, le=1)
    to: Literal["larger", "better"] = "larger"
    oscillations: int = Field(default=10, gt=0)
    dwell: int = Field(default=20, ge=0)
    compare_batches: int = Field(default=32, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _refuse_moved_values(cls, body: Any) -> Any:
        value = body.get("to") if isinstance(body, dict) else None
        if isinstance(value, str) and value in _MOVED_VALUES:
            raise ConfigError(f"adaqat.freeze.to = {value!r} is now {_MOVED_VALUES[value]!r}.")
        return body


class AllocationConfig(Record):
    """How the rule ``allocation`` chooses widths under a budget.

    In each of ``rounds``, spread evenly between the end of ``warmup_epochs`` and ``freeze.at``,
    widths are scored on ``batches`` training batches, of which ``samples`` samples each are used
    (None: all). ``score`` is what a network is scored by: ``divergence`` of its outputs from the
    teacher's, or without a teacher from its own at 8 bits; or the training ``loss``.
    """

    rounds: int = Field(default=3, gt=0)
    batches: int = Field(default=8, ge=2)
    samples: int | None = Field(default=None, gt=1)
    score: Literal["divergence", "loss"] = "divergence"


class BudgetConfig(Record):
    """What the learned plan may cost: one limit, or none.

    ``bitops`` of the whole network for one sample, at most; ``compression``: 32-bit weights over
    the plan's, all layers, at least. With a budget ``adaqat.hardware_lambda`` is only the start of
    a lambda that is controlled until the frozen plan meets the budget.
    """

    bitops: float | None = Field(default=None, gt=0)
    compression: float | None = Field(default=None, gt=1)

    @property
    def limited(self) -> bool:
        """Whether there is a limit."""
        return any(value is not None for _, value in self)

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        limits = {name: value for name, value in self if value is not None}
        if len(limits) > 1:
            text = " and ".join(f"{name} = {value!r}" for name, value in limits.items())
            raise ValueError(f"{text} exclude each other; give one of them")
        return self


class AdaqatConfig(Record):
    """The AdaQAT controller (arXiv 2404.16876; defaults as documented in docs/adaqat.md).

    ``granularity``: one pair of widths for the network (the paper), one per layer, or one per
    entry of ``groups``, which maps a group's name to patterns of layer names (this project's
    extensions). Layers that match none of ``learn`` keep ``other_bits``. Widths start at
    ``initial_bits``, move with ``lr_weights`` and ``lr_acts`` between their minimum and
    ``max_bits``, and not during ``warmup_epochs``; one takes another integer only ``hysteresis``
    beyond the boundary. ``hardware_lambda`` is the weight of the hard loss.

    ``rule`` is how widths move: ``gradient`` (AdaQAT's; probes and a price), or ``allocation``
    (this project's; needs a budget, starts at its uniform plan instead of ``initial_bits``). None
    is ``allocation`` for widths of layers or groups under a budget, else ``gradient``.

    Raises:
        ConfigError: a key of an earlier release, with its name of today.
    """

    granularity: Literal["network", "layer", "group"] = "network"
    rule: Literal["gradient", "allocation"] | None = None
    groups: dict[str, tuple[str, ...]] = {}
    learn: tuple[str, ...] = ("*",)
    other_bits: str = "8/8"
    initial_bits: float = Field(default=8.0, ge=1, le=8)
    min_weight_bits: int = Field(default=2, ge=2, le=8)
    min_act_bits: int = Field(default=2, ge=1, le=8)
    max_bits: int = Field(default=8, ge=2, le=8)
    lr_weights: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    lr_acts: float = Field(default=5e-4, gt=0, allow_inf_nan=False)
    hysteresis: float = Field(default=0.0, ge=0, lt=0.5)
    hardware_lambda: float = Field(default=0.15, ge=0, allow_inf_nan=False)
    warmup_epochs: int = Field(default=0, ge=0)
    probing: ProbingConfig = ProbingConfig()
    allocation: AllocationConfig = AllocationConfig()
    freeze: FreezeConfig = FreezeConfig()
    budget: BudgetConfig = BudgetConfig()

    @model_validator(mode="before")
    @classmethod
    def _refuse_moved_keys(cls, body: Any) -> Any:
        refuse_moved_keys(body)
        return body

    @field_validator("other_bits")
    @classmethod
    def _pair(cls, value: str) -> str:
        parse_bits(value)
        return value

    @model_validator(mode="after")
    def _groups_belong_to_group(self) -> Self:
        if (self.granularity == "group") != bool(self.groups):
            raise ValueError(
                f"granularity {self.granularity!r} with groups {sorted(self.groups)!r}: groups "
                "belong to granularity 'group', and it needs at least one"
            )
        return self

    @property
    def allocates(self) -> bool:
        """Whether widths move by the rule ``allocation``."""
        if self.rule is None:
            return self.granularity != "network" and self.budget.limited
        return self.rule == "allocation"

    @model_validator(mode="after")
    def _allocation_has_a_budget(self) -> Self:
        if self.rule == "allocation" and not self.budget.limited:
            raise ValueError(
                "rule 'allocation' spends a budget, and there is none; set one key of "
                "adaqat.budget, or rule = 'gradient'"
            )
        return self

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if max(self.min_weight_bits, self.min_act_bits) > self.max_bits:
            raise ValueError(
                f"min_weight_bits {self.min_weight_bits} and min_act_bits {self.min_act_bits} "
                f"must not exceed max_bits {self.max_bits}"
            )
        if self.initial_bits > self.max_bits:
            raise ValueError(
                f"initial_bits {self.initial_bits} must not exceed max_bits {self.max_bits}"
            )
        return self


def refuse_moved_keys(body: Any) -> None:
    """Refuse keys of ``[adaqat]`` that have another place today.

    Raises:
        ConfigError: names each with its new place.
    """
    if not isinstance(body, dict):
        return
    moved = [f"adaqat.{old} is now adaqat.{new}" for old, new in _MOVED.items() if old in body]
    if isinstance(value := body.get("freeze"), str):
        today = _MOVED_VALUES.get(value, value)
        moved.append(f"adaqat.freeze = {value!r} is now adaqat.freeze.to = {today!r}")
    if moved:
        raise ConfigError(f"{'; '.join(moved)}.")

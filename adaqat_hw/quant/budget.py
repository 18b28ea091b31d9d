"""A hard limit on what a plan may cost, in BitOPs or in weight bits. Pure Python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant.hardware_loss import HardCost
from adaqat_hw.quant.widths import Width

_FLOAT_BITS = 32

Kind = Literal["bitops", "compression"]


@dataclass(frozen=True)
class BudgetOutcome:
    """Whether a plan meets its budget; ``budget`` and ``reached`` are BitOPs or a compression."""

    met: bool
    kind: Kind
    budget: float
    reached: float
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-able dictionary."""
        return asdict(self)


@dataclass(frozen=True)
class Budget:
    """A limit on the cost of a plan.

    Attributes:
        kind: ``bitops`` of the whole network per sample, or ``compression``: the size of all
            weights at 32 bits over their size in the plan.
        value: BitOPs not to be exceeded, or the compression to reach.
        cost: of integer widths, fixed layers included: BitOPs, or bits of all weights.
        weights: number of weights of the network.
    """

    kind: Kind
    value: float
    cost: HardCost
    weights: int

    @property
    def limit(self) -> float:
        """The cost not to be exceeded, in the unit of ``cost``."""
        if self.kind == "bitops":
            return self.value
        return self.weights * _FLOAT_BITS / self.value

    def reached(self, bits: Mapping[str, float]) -> float:
        """Return what ``bits`` reach, in the unit of ``value``."""
        cost = self.cost(bits)
        return cost if self.kind == "bitops" else self.weights * _FLOAT_BITS / cost

    def check(self, widths: Iterable[Width], initial: Mapping[str, int], network: str) -> None:
        """Refuse a budget that no plan can meet, and one that the initial widths meet already.

        Raises:
            ConfigError: names the budget and the range that is possible.
        """
        lowest = {w.name: w.minimum for w in widths}
        key = f"adaqat.budget_{self.kind}"
        edge, start = (self._text(self.reached(bits)) for bits in (lowest, initial))
        if self.cost(lowest) > self.limit:
            raise ConfigError(
                f"{key} = {self.value!r} is out of reach for {network!r}: with all learned widths "
                f"at their minimum it still comes to {edge}, and it starts at {start}; choose a "
                "budget between these two, or lower min_weight_bits or min_act_bits."
            )
        if self.cost(initial) < self.limit:
            raise ConfigError(
                f"{key} = {self.value!r} asks for nothing: {network!r} starts at {start} and can "
                f"come to {edge}; choose a budget between these two, or raise initial_bits."
            )

    def outcome(self, bits: Mapping[str, int]) -> BudgetOutcome:
        """Compare ``bits`` with the budget."""
        reached, met = self.reached(bits), self.cost(bits) <= self.limit
        share = 100 * self.cost(bits) / self.limit
        sentence = (
            f"The plan {'meets' if met else 'misses'} the budget of {self._text(self.value)} with "
            f"{self._text(reached)}: {share:.1f} % of what it allows."
        )
        return BudgetOutcome(met, self.kind, self.value, reached, sentence)

    def _text(self, value: float) -> str:
        if self.kind == "bitops":
            return f"{value:,.0f} BitOPs"
        return f"{value:.2f}x weight compression"

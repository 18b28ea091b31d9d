"""Check a budget before training, and compare a plan with it. Pure Python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from adaqat_hw.cost import HardwareCost
from adaqat_hw.errors import ConfigError
from adaqat_hw.quant.widths import Width
from adaqat_hw.schema import BudgetResult


def check_budget(
    cost: HardwareCost, widths: Iterable[Width], initial: Mapping[str, int], network: str
) -> None:
    """Refuse a limit that no plan can meet, and one that the initial widths stay below.

    Raises:
        ConfigError: names the limit and the range that is possible.
    """
    assert cost.limit is not None
    lowest = {width.name: width.minimum for width in widths}
    key = f"adaqat.budget.{cost.name} = {cost.asked!r}"
    least, start = (cost.describe(cost.reached(bits)) for bits in (lowest, initial))
    if cost.value(lowest) > cost.limit:
        raise ConfigError(
            f"{key} is out of reach for {network!r}: with all learned widths at their minimum it "
            f"still comes to {least}, and it starts at {start}; choose a budget between these two, "
            "or lower adaqat.min_weight_bits or adaqat.min_act_bits."
        )
    if cost.value(initial) < cost.limit:
        raise ConfigError(
            f"{key} asks for nothing: {network!r} starts at {start} and can come to {least}; "
            "choose a budget between these two, or raise adaqat.initial_bits."
        )


def budget_result(cost: HardwareCost, bits: Mapping[str, int]) -> BudgetResult | None:
    """Compare ``bits`` with the cost's limit; None where there is none."""
    limit, asked = cost.limit, cost.asked
    if limit is None or asked is None:
        return None
    value, reached = cost.value(bits), cost.reached(bits)
    met = value <= limit
    sentence = (
        f"The plan {'meets' if met else 'misses'} the budget of {cost.describe(asked)} with "
        f"{cost.describe(reached)}: {100 * value / limit:.1f} % of what it allows."
    )
    return BudgetResult(
        title=cost.title, unit=cost.unit, asked=asked, reached=reached, met=met, sentence=sentence
    )

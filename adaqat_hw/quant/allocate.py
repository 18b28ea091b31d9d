"""Integer widths that fit a hard limit and lose as little as possible. Pure Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from adaqat_hw.quant.widths import Width

Cost = Callable[[Mapping[str, int]], float]
Worth = Callable[[str, int], float]


def allocate(
    bits: Mapping[str, int], widths: Iterable[Width], cost: Cost, limit: float, worth: Worth
) -> dict[str, int]:
    """Choose integers near ``bits`` whose cost is at most ``limit``.

    While over the limit, lower the bit that loses least per unit of cost saved. Then raise the bit
    that gains most per unit of cost while it still fits. Then exchange: raise one, lower others
    until it fits again, while that gains in sum. A bit worth nothing is never raised.

    Args:
        bits: integers to start from.
        widths: their bounds; those with equal bounds are left.
        cost: of a set of integers; it grows with each of them.
        limit: not to be exceeded; all widths at their minimum must fit.
        worth: ``(name, bit)`` to the loss that this bit saves, at least 0.
    """
    plan = _Plan(dict(bits), {w.name: w for w in widths}, cost, limit, worth)
    plan.lower_to_fit()
    plan.fill()
    while (better := plan.exchanged()) is not None:
        plan = better
    return plan.bits


class _Plan:
    def __init__(
        self,
        bits: dict[str, int],
        widths: Mapping[str, Width],
        cost: Cost,
        limit: float,
        worth: Worth,
    ) -> None:
        self.bits, self._widths = bits, widths
        self._cost, self._limit, self._worth = cost, limit, worth
        self.gain = 0.0  # loss saved against the start

    def lower_to_fit(self, keep: str | None = None) -> bool:
        """Lower the cheapest bits until the plan fits; False where ``keep`` makes it impossible."""
        while (cost := self._cost(self.bits)) > self._limit:
            open_ = [n for n, w in self._widths.items() if self.bits[n] > w.minimum and n != keep]
            saved = {n: cost - self._cost(self._with(n, -1)) for n in open_}
            paying = [n for n in open_ if saved[n] > 0]
            if not paying:
                return False
            # Among bits worth nothing, the one that saves most.
            price = {n: (self._worth(n, self.bits[n]) / saved[n], -saved[n]) for n in paying}
            self._move(min(paying, key=lambda n: price[n]), -1)
        return True

    def fill(self) -> None:
        """Raise the bits with the best gain per cost while they fit."""
        while True:
            cost = self._cost(self.bits)
            rates = {}
            for name, width in self._widths.items():
                gain = self._worth(name, self.bits[name] + 1)
                if self.bits[name] >= width.maximum or gain <= 0:
                    continue
                then = self._cost(self._with(name, 1))
                if then <= self._limit and then > cost:
                    rates[name] = gain / (then - cost)
            if not rates:
                return
            self._move(max(rates, key=lambda n: rates[n]), 1)

    def exchanged(self) -> _Plan | None:
        """Return the best plan that raises one bit and lowers others, or None without gain."""
        best: _Plan | None = None
        for name, width in self._widths.items():
            if self.bits[name] >= width.maximum:
                continue
            other = _Plan(dict(self.bits), self._widths, self._cost, self._limit, self._worth)
            other.gain = self.gain
            other._move(name, 1)
            if not other.lower_to_fit(keep=name):
                continue
            other.fill()
            # A hair more than equal, so that rounding cannot make two plans alternate for ever.
            least = (self.gain if best is None else best.gain) + 1e-9 * (1 + abs(self.gain))
            if other.gain > least:
                best = other
        return best

    def _with(self, name: str, change: int) -> dict[str, int]:
        return {**self.bits, name: self.bits[name] + change}

    def _move(self, name: str, change: int) -> None:
        bit = self.bits[name] + (change > 0)
        self.gain += change * self._worth(name, bit)
        self.bits[name] += change

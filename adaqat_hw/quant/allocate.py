"""Integer widths that fit a hard limit and lose as little as possible. Pure Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import product

from adaqat_hw.quant.widths import Width

Cost = Callable[[Mapping[str, int]], float]
Worth = Callable[[str, int], float]

_NOISE_RATIO = 4.0  # of the noise powers of neighbouring widths
_WIDEST = 33


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


def allocate_near(
    live: Mapping[str, int], widths: Iterable[Width], cost: Cost, limit: float, worth: Worth
) -> dict[str, int]:
    """Choose integers as :func:`allocate` does, none more than one bit from ``live``.

    Weights and clips were trained at the live widths, and worths were measured next to them. Where
    no plan within one bit fits, all widths go as far below it as the limit asks for, each as far
    as the others or one bit less; what is left of the limit is then spent.
    """
    listed = list(widths)

    def lowered(by: int) -> dict[str, int]:
        return {**live, **{w.name: max(w.minimum, live[w.name] - by) for w in listed}}

    reach = 1
    while cost(lowered(reach)) > limit and lowered(reach) != lowered(reach + 1):
        reach += 1
    low, rise = lowered(reach), 1 if reach == 1 else 1 - reach
    high = {w.name: max(w.minimum, min(w.maximum, live[w.name] + rise)) for w in listed}
    start = {**live, **{name: min(live[name], bits) for name, bits in high.items()}}
    plan = allocate(start, _between(listed, low, high), cost, limit, worth)
    if reach > 1:
        high = {w.name: min(w.maximum, live[w.name] + 1) for w in listed}
        plan = allocate(plan, _between(listed, plan, high), cost, limit, worth)
    return plan


def _between(
    widths: Iterable[Width], low: Mapping[str, int], high: Mapping[str, int]
) -> list[Width]:
    return [
        replace(w, initial=float(low[w.name]), minimum=low[w.name], maximum=high[w.name])
        for w in widths
    ]


def uniform_bits(widths: Iterable[Width], cost: Cost, limit: float, worth: Worth) -> dict[str, int]:
    """Return the uniform plan that fits and should lose least: one integer for each kind.

    Widths whose names agree up to a colon are of one kind; each keeps its bounds. Which pair loses
    least is judged without measurements, by the noise of a uniform quantizer, ``4^-bits`` for each
    kind, so that it does not share the faults of a learned plan; ``worth`` decides between equals.
    Where none fits, the narrowest.
    """
    listed = list(widths)
    kinds = list(dict.fromkeys(_kind(w) for w in listed))
    spans = [
        range(
            min(w.minimum for w in listed if _kind(w) == kind),
            max(w.maximum for w in listed if _kind(w) == kind) + 1,
        )
        for kind in kinds
    ]

    def plan(bits: tuple[int, ...]) -> dict[str, int]:
        of_kind = dict(zip(kinds, bits, strict=True))
        return {w.name: min(max(of_kind[_kind(w)], w.minimum), w.maximum) for w in listed}

    def loss(bits: tuple[int, ...]) -> tuple[float, float]:
        lost = (worth(n, k) for n, b in plan(bits).items() for k in range(b + 1, _WIDEST))
        return sum(_NOISE_RATIO**-b for b in bits), sum(lost)

    fitting = [bits for bits in product(*spans) if cost(plan(bits)) <= limit]
    return plan(min(fitting, key=loss, default=tuple(span[0] for span in spans)))


def _kind(width: Width) -> str:
    return width.name.partition(":")[0]


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

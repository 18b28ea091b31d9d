"""Sensitivity of the loss to each bit of each width: averages over noisy probes. Pure Python.

The worth of bit ``k`` of a width is ``L(k - 1) - L(k)``, the loss that its last bit saves. One
probe measures it with noise as large as itself, so it is averaged, separately for each ``k``, and
widths of one kind (weights, activations) share what they have in common:

- the shape: how much more a bit is worth than the next one, from widths that were probed at both;
  4 by default, the noise power of a uniform quantizer;
- the scale: a width's own sensitivity, shrunk towards the mean of its kind by as much as its
  probes are noisy (ridge regression), and never negative, so that bad luck in few probes does not
  cost a layer its bits.

Where probes measure noise alone, the mean of a kind may come out negative and its estimate 0,
which says nothing of its bits. Decisions are made on :meth:`SensitivityTracker.floored`: under
every worth lies a share of what all widths together, of both kinds, let one expect.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_WINDOW = 64  # probes that an average remembers: the weights under it keep changing
_RATIO = 4.0
_RATIOS = (2.0, 8.0)  # of neighbouring bits, whatever was measured
_MISFIT = 0.5  # how far, of itself, a bit's worth may lie from the shape
_TOP = 33  # widths end at 32 bits
_FLOOR = 0.25  # of the expected worth
_TINY = 1e-12


@dataclass(frozen=True)
class _Row:
    """Average, variance and number of the probes of one bit."""

    mean: float = 0.0
    variance: float = 0.0
    count: int = 0

    def add(self, value: float) -> _Row:
        count = min(self.count + 1, _WINDOW)
        off = value - self.mean
        mean = self.mean + off / count
        return _Row(mean, self.variance + (off * (value - mean) - self.variance) / count, count)


_Rows = dict[int, _Row]


class SensitivityEstimate:
    """Estimated worth of every bit of every width: at least 0, and never more with more bits."""

    def __init__(self, table: Mapping[str, Mapping[int, float]]) -> None:
        self._table = table

    def __call__(self, name: str, bit: int) -> float:
        """Return the loss that bit ``bit`` (1 to 33) of a width saves."""
        return self._table[name][bit]


class SensitivityTracker:
    """Measured worths. Widths whose names agree up to a colon are of one kind."""

    def __init__(self, names: Iterable[str]) -> None:
        self._rows: dict[str, _Rows] = {name: {} for name in names}

    def add(self, name: str, bit: int, worth: float) -> None:
        """Take in one measurement of ``L(bit - 1) - L(bit)`` (a difference of losses)."""
        self._rows[name][bit] = self._rows[name].get(bit, _Row()).add(worth)

    def mean(self, name: str, bit: int) -> float | None:
        """Return the plain average of one bit; None where it was never probed."""
        row = self._rows[name].get(bit)
        return None if row is None else row.mean

    def fit(self) -> SensitivityEstimate:
        """Return the present estimates: of the gradient that a step may expect."""
        table: dict[str, dict[int, float]] = {}
        for members in self._kinds():
            table.update(_fit(members))
        return SensitivityEstimate(table)

    def floored(self) -> SensitivityEstimate:
        """Return the present estimates to choose widths by: all above 0.

        None is below a quarter of the expected worth; a kind that was never probed has all of
        it. Without any probe the expected worth alone decides.
        """
        kinds = [_with_noise(members) for members in self._kinds()]
        expected = _expected([rows for members in kinds for rows in members.values()])
        table: dict[str, dict[int, float]] = {}
        for members in self._kinds():
            share = _FLOOR if any(members.values()) else 1.0
            for name, worths in _fit(members).items():
                table[name] = {k: max(worth, share * expected[k]) for k, worth in worths.items()}
        return SensitivityEstimate(table)

    def _kinds(self) -> list[dict[str, _Rows]]:
        kinds: dict[str, dict[str, _Rows]] = {}
        for name, rows in self._rows.items():
            kinds.setdefault(name.partition(":")[0], {})[name] = rows
        return list(kinds.values())

    def state_dict(self) -> dict[str, Any]:
        """Return JSON-able values: (bit, mean, variance, probes) of each width."""
        return {
            name: [[bit, row.mean, row.variance, row.count] for bit, row in rows.items()]
            for name, rows in self._rows.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._rows = {
            name: {int(bit): _Row(float(m), float(v), int(n)) for bit, m, v, n in rows}
            for name, rows in state.items()
        }


def _expected(widths: list[_Rows]) -> dict[int, float]:
    """Return what a bit of any width is expected to be worth, above 0: ``scale * 4^-k``.

    The scale is the mean over all probes, positive by the part of its distribution that is.
    """
    top = max((bit for rows in widths for bit in rows), default=_TOP)
    shape = {bit: _RATIO ** (top - bit) for bit in range(1, _TOP + 1)}
    probed = [(shape[k], row) for rows in widths for k, row in rows.items()]
    certainty = sum(row.count * x**2 / row.variance for x, row in probed)
    if not certainty:
        return shape
    mean = sum(row.count * x * row.mean / row.variance for x, row in probed) / certainty
    scale = _positive(mean, 1 / math.sqrt(certainty))
    return {bit: scale * x for bit, x in shape.items()}


def _fit(members: Mapping[str, _Rows]) -> dict[str, dict[int, float]]:
    noisy = _with_noise(members)
    shape = _shape(noisy)
    sums = {}
    for name, rows in noisy.items():
        signal = sum(r.count * shape[k] * r.mean / r.variance for k, r in rows.items())
        sums[name] = signal, sum(r.count * shape[k] ** 2 / r.variance for k, r in rows.items())
    common = _common(list(sums.values()))
    table = {}
    for name, rows in noisy.items():
        signal, certainty = sums[name]
        scale = 0.0
        if common:
            precision = certainty + 1 / common**2
            scale = _positive((signal + 1 / common) / precision, 1 / math.sqrt(precision))
        table[name] = _worths(rows, {k: scale * x for k, x in shape.items()})
    return table


def _positive(mean: float, deviation: float) -> float:
    """Return the mean of a normal distribution of which only the positive half is possible."""
    z = mean / deviation
    if z < -6:
        return -deviation / z
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return mean + deviation * density / (0.5 * math.erfc(-z / math.sqrt(2)))


def _with_noise(members: Mapping[str, _Rows]) -> dict[str, _Rows]:
    """Steady each variance by that of the bit in all widths, and by noise as large as the mean."""
    by_bit: dict[int, list[_Row]] = {}
    for rows in members.values():
        for bit, row in rows.items():
            by_bit.setdefault(bit, []).append(row)
    pooled = {
        k: sum(r.count * r.variance for r in x) / sum(r.count for r in x) for k, x in by_bit.items()
    }
    return {
        name: {k: _Row(r.mean, _steadied(r, pooled[k]), r.count) for k, r in rows.items()}
        for name, rows in members.items()
    }


def _steadied(row: _Row, pooled: float) -> float:
    return (row.count * row.variance + 4 * pooled + 2 * row.mean**2) / (row.count + 6) + _TINY


def _shape(members: Mapping[str, _Rows]) -> dict[int, float]:
    """Return the relative worth of the bits, 1 at the top one that was probed."""
    top = max((bit for rows in members.values() for bit in rows), default=_TOP)
    shape = {bit: _RATIO ** (top - bit) for bit in range(top, _TOP + 1)}
    for bit in range(top - 1, 0, -1):
        shape[bit] = shape[bit + 1] * _ratio(members, bit)
    return shape


def _ratio(members: Mapping[str, _Rows], bit: int) -> float:
    """Return the worth of ``bit`` over that of the next one, in widths probed at both."""
    both = [(r[bit], r[bit + 1]) for r in members.values() if bit in r and bit + 1 in r]
    counts = [min(lower.count, upper.count) for lower, upper in both]
    lower = sum(n * x.mean for n, (x, _) in zip(counts, both, strict=True))
    upper = sum(n * x.mean for n, (_, x) in zip(counts, both, strict=True))
    noise = math.sqrt(sum(n * x.variance for n, (_, x) in zip(counts, both, strict=True)))
    if upper <= 3 * noise:  # too little is known of the denominator
        return _RATIO
    return min(max(lower / upper, _RATIOS[0]), _RATIOS[1])


def _common(sums: list[tuple[float, float]]) -> float:
    """Return the mean scale of a kind, widths of which more is known counting more; at least 0."""
    certainty = sum(c for _, c in sums)
    first = sum(s for s, _ in sums) / certainty if certainty else 0.0
    if first <= _TINY:
        return 0.0
    shares = [(s / c, c / (c + 1 / first**2)) for s, c in sums if c]
    mean = sum(scale * w for scale, w in shares) / sum(w for _, w in shares)
    return mean if mean > _TINY else 0.0


def _worths(rows: _Rows, prior: Mapping[int, float]) -> dict[int, float]:
    """Weigh each bit's own average against the fit; keep the result falling with the bits."""
    worths: dict[int, float] = {}
    above = 0.0
    for bit in range(_TOP, 0, -1):
        expected, row = prior[bit], rows.get(bit)
        if row is not None and expected > 0:
            own, fit = row.count / row.variance, 1 / (_MISFIT * expected) ** 2
            expected = (own * row.mean + fit * expected) / (own + fit)
        above = worths[bit] = max(above, expected)
    return worths

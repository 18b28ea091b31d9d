"""Fit resources against hardware features, with the statistics that say what the fit is worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import Record

Method = Literal["lstsq", "nnls"]
_Array = NDArray[np.float64]


class CostFit(Record):
    """A linear fit ``target = intercept + sum(coefficient x feature)`` and its quality.

    ``coefficients`` and their 95 % bootstrap intervals go by feature name. Errors are in the
    target's unit (``mae``) or fractions of the true value (``mape``, None where a true value is
    0). ``loo_*`` predict each row, or each group of rows, by a fit to all the others; None
    where such a fit is not determined. ``spearman`` is the rank correlation between true
    values and this fit's, None for constant values. ``bootstrap_samples`` counts the resamples that
    determined a fit; intervals are None with fewer than 100.
    """

    target: str
    features: tuple[str, ...]
    method: Method
    n: int
    dropped: int
    intercept: float
    coefficients: dict[str, float]
    r2: float | None
    mae: float
    mape: float | None
    loo_mae: float | None
    loo_mape: float | None
    spearman: float | None
    intercept_interval: tuple[float, float] | None
    coefficient_intervals: dict[str, tuple[float, float]] | None
    bootstrap_samples: int

    def predict(self, **features: float) -> float:
        """Return the fitted target for one row of features, given by name.

        Raises:
            ConfigError: the names are not the fit's.
        """
        if set(features) != set(self.features):
            raise ConfigError(
                f"The fit of {self.target!r} takes the features {list(self.features)!r}, "
                f"not {sorted(features)!r}."
            )
        return self.intercept + sum(self.coefficients[k] * v for k, v in features.items())


@dataclass(frozen=True)
class FitOutcome:
    """A fit, or None and the reason in one sentence."""

    fit: CostFit | None
    reason: str | None


def fit_cost(
    features: dict[str, Sequence[float | None]],
    values: Sequence[float | None],
    *,
    target: str = "lut",
    method: Method = "lstsq",
    groups: Sequence[str] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> FitOutcome:
    """Fit ``values`` against ``features`` with an intercept.

    Rows with a missing (None) feature or value are dropped and counted. ``nnls`` keeps the
    coefficients, not the intercept, from being negative. ``groups`` (one name per row, such as
    the network it comes from) makes leave-one-out leave a whole group out, and the bootstrap
    draw whole groups, because rows of one network are not independent.

    Returns:
        The fit, or the reason why the rows do not determine one.

    Raises:
        ConfigError: lengths differ, no feature, or a value is not finite.
    """
    x, y, labels = _table(features, values, groups)
    keep = ~np.isnan(x).any(axis=1) & ~np.isnan(y)
    dropped = int((~keep).sum())
    x, y, labels = x[keep], y[keep], labels[keep]
    reason = _refusal(x, tuple(features), target, dropped)
    if reason is not None:
        return FitOutcome(None, reason)
    solve = _solver(method)
    solution = solve(x, y)
    assert solution is not None
    fitted = solution[0] + x @ solution[1:]
    held_out = _held_out(x, y, labels, solve)
    draws = _bootstrap(x, y, labels, solve, bootstrap, seed)
    bounds = np.percentile(draws, [2.5, 97.5], axis=0).T if len(draws) >= 100 else None
    pairs = None if bounds is None else [(float(low), float(high)) for low, high in bounds]
    names = tuple(features)
    fit = CostFit(
        target=target,
        features=names,
        method=method,
        n=len(y),
        dropped=dropped,
        intercept=float(solution[0]),
        coefficients=dict(zip(names, map(float, solution[1:]), strict=True)),
        r2=_r2(y, fitted),
        mae=float(np.abs(y - fitted).mean()),
        mape=_mape(y, fitted),
        loo_mae=None if held_out is None else float(np.abs(y - held_out).mean()),
        loo_mape=None if held_out is None else _mape(y, held_out),
        spearman=_spearman(y, fitted),
        intercept_interval=None if pairs is None else pairs[0],
        coefficient_intervals=None if pairs is None else dict(zip(names, pairs[1:], strict=True)),
        bootstrap_samples=len(draws),
    )
    return FitOutcome(fit, None)


def _table(
    features: dict[str, Sequence[float | None]],
    values: Sequence[float | None],
    groups: Sequence[str] | None,
) -> tuple[_Array, _Array, NDArray[np.str_]]:
    if not features:
        raise ConfigError("A cost model needs at least one feature; none was given.")
    for name, column in {**features, "groups": groups or values}.items():
        if len(column) != len(values):
            raise ConfigError(
                f"{name!r} has {len(column)} rows and the values have {len(values)}; "
                "give one per row."
            )
    for name, column in {**features, "values": values}.items():
        wrong = [v for v in column if v is not None and not math.isfinite(v)]
        if wrong:
            raise ConfigError(f"{name!r} holds {wrong[0]!r}; give finite numbers, or None.")
    x = np.array([[math.nan if v is None else v for v in c] for c in features.values()]).T
    y = np.array([math.nan if v is None else v for v in values])
    labels = groups if groups is not None else [str(i) for i in range(len(values))]
    return x.astype(float), y.astype(float), np.array(labels, dtype=str)


def _refusal(x: _Array, names: tuple[str, ...], target: str, dropped: int) -> str | None:
    n, k = x.shape
    needed = max(3, k + 2)
    if n < needed:
        lost = f" ({dropped} more have missing values)" if dropped else ""
        return (
            f"{n} rows{lost} are too few to fit {target} against {k} feature"
            f"{'s' if k > 1 else ''}: at least {needed} are needed."
        )
    for name, column in zip(names, x.T, strict=True):
        if np.ptp(column) == 0:
            return f"{name!r} is {column[0]:g} in all {n} rows, so {target} cannot be fitted to it."
    if not _determined(x):
        return f"The features {list(names)!r} are proportional to each other in all {n} rows."
    return None


def _determined(x: _Array) -> bool:
    centred = x - x.mean(axis=0)
    scale = np.abs(centred).max(axis=0, initial=0.0)
    if len(x) < x.shape[1] + 1 or not (scale > 0).all():
        return False
    return bool(np.linalg.matrix_rank(centred / scale, tol=1e-9 * len(x)) == x.shape[1])


_Solver = Callable[[_Array, _Array], _Array | None]


def _solver(method: Method) -> _Solver:
    """Return a function giving (intercept, coefficients...), or None when undetermined.

    Centring makes the intercept free of the constraint of nnls; scaling conditions both.
    """
    if method not in ("lstsq", "nnls"):
        raise ConfigError(f"Unknown fitting method {method!r}; choose 'lstsq' or 'nnls'.")
    from scipy import optimize  # training imports this package and fits nothing

    def solve(x: _Array, y: _Array) -> _Array | None:
        if not _determined(x):
            return None
        centre, mean = x.mean(axis=0), float(y.mean())
        scale = np.abs(x - centre).max(axis=0)
        a, b = (x - centre) / scale, y - mean
        solution = optimize.nnls(a, b)[0] if method == "nnls" else np.linalg.lstsq(a, b)[0]
        slopes = solution / scale
        return np.concatenate([[mean - centre @ slopes], slopes])

    return solve


def _held_out(x: _Array, y: _Array, labels: NDArray[np.str_], solve: _Solver) -> _Array | None:
    predicted = np.empty_like(y)
    for label in np.unique(labels):
        out = labels == label
        solution = solve(x[~out], y[~out])
        if solution is None:
            return None
        predicted[out] = solution[0] + x[out] @ solution[1:]
    return predicted


def _bootstrap(
    x: _Array, y: _Array, labels: NDArray[np.str_], solve: _Solver, count: int, seed: int
) -> _Array:
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    draws = []
    for _ in range(count):
        chosen = rng.integers(len(members), size=len(members))
        rows = np.concatenate([members[i] for i in chosen])
        solution = solve(x[rows], y[rows])
        if solution is not None:
            draws.append(solution)
    return np.array(draws).reshape(len(draws), x.shape[1] + 1)


def _r2(y: _Array, fitted: _Array) -> float | None:
    spread = float(((y - y.mean()) ** 2).sum())
    return None if spread == 0 else 1 - float(((y - fitted) ** 2).sum()) / spread


def _mape(y: _Array, fitted: _Array) -> float | None:
    return None if (y == 0).any() else float(np.abs((y - fitted) / y).mean())


def _spearman(y: _Array, fitted: _Array) -> float | None:
    if np.ptp(y) == 0 or np.ptp(fitted) <= 1e-12 * max(1.0, float(np.abs(fitted).max())):
        return None
    from scipy import stats

    return float(stats.spearmanr(y, fitted).statistic)

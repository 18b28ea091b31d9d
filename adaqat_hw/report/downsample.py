"""Reduce the points of a curve in a figure without changing how it looks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def envelope(
    steps: Sequence[int], values: Sequence[float], most: int
) -> tuple[list[int], list[float]]:
    """Return the smallest and the largest point of each of ``most`` stretches, in order.

    The first and the last point stay, and so does every peak.
    """
    n = len(steps)
    if n <= 2 * most:
        return list(steps), list(values)
    indices = {0, n - 1}
    for rows in _stretches(n, most):
        indices |= {min(rows, key=values.__getitem__), max(rows, key=values.__getitem__)}
    order = sorted(indices)
    return [steps[i] for i in order], [values[i] for i in order]


def averages(
    steps: Sequence[int], values: Sequence[float], most: int
) -> tuple[list[float], list[float]]:
    """Return the mean step and the mean value of each of ``most`` stretches."""
    means: list[tuple[float, float]] = []
    for rows in _stretches(len(steps), most):
        n = len(rows)
        means.append((sum(steps[i] for i in rows) / n, sum(values[i] for i in rows) / n))
    return [step for step, _ in means], [value for _, value in means]


def sampled(points: Sequence[tuple[int, int]], most: int) -> Iterator[tuple[int, int]]:
    """Yield about ``most`` of the points, evenly spaced, with the first and the last."""
    every = max(1, len(points) // most)
    for i, point in enumerate(points):
        if i % every == 0 or i == len(points) - 1:
            yield point


def _stretches(n: int, most: int) -> Iterator[range]:
    parts = min(n, most)
    for i in range(parts):
        yield range(i * n // parts, (i + 1) * n // parts)

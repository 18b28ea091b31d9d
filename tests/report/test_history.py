from __future__ import annotations

import pytest

from adaqat_hw.report.downsample import averages, envelope, sampled
from adaqat_hw.report.history import BudgetCourse, Pull, Series, history, width_paths

ROWS = [
    {
        "event": "widths",
        "step": 4,
        "real": {"weights": 7.9},
        "bits": {"weights": 8},
        "hard_loss": 64.0,
        "hardware_lambda": 0.1,
        "bitops": 6400,
        "budget": {"title": "LUT", "asked": 100.0, "reached": 640, "target_hard_loss": 60.0},
        "gradients": [{"name": "weights", "task": -0.5, "hardware": 0.8, "applied": 0.3}],
        "flips": [],
    },
    {
        "event": "widths",
        "step": 8,
        "real": {"weights": 6.9},
        "bits": {"weights": 7},
        "hard_loss": 56.0,
        "hardware_lambda": 0.2,
        "bitops": 5600,
        "gradients": [{"name": "weights", "task": None, "hardware": 0.8}, {"name": 3}, None],
        "flips": [{"name": "weights", "before": 8, "after": 7, "count": 1}],
        "freezes": [{"name": "weights", "bits": 7, "reason": "budget"}],
    },
    {"event": "epoch", "step": 8, "train_loss": 1.5, "accuracy": 0.25},
]


def test_a_log_tells_gradients_flips_and_freezes():
    (path,) = width_paths(ROWS, {})
    assert path.pulls == (Pull(4, -0.5, 0.8),)
    assert path.flips == (8,)
    assert (path.frozen_at, path.frozen_by, path.bits) == (8, "budget", (8, 7))
    assert (path.operand, path.label) == ("weights", "weights")


def test_a_log_that_counts_no_flips_is_not_one_without_flips():
    (path,) = width_paths([{"step": 1, "real": {"acts:relu1": 3.0}}], {})
    assert path.flips is None
    assert (path.operand, path.label) == ("activations", "relu1")


def test_courses_are_series_over_steps():
    made = history(ROWS)
    assert made.hard_loss == Series((4, 8), (64.0, 56.0))
    assert made.hardware_lambda.values == (0.1, 0.2)
    assert made.bitops.values == (6400.0, 5600.0)
    assert made.target == Series((4,), (60.0,))
    assert made.budget == BudgetCourse("LUT", 100.0, Series((4,), (640.0,)))
    assert (made.train_loss.values, made.accuracy.values) == ((1.5,), (0.25,))


@pytest.mark.parametrize("rows", [[], [{"event": "epoch"}], [{"step": 1, "budget": 3}]])
def test_what_the_log_lacks_is_empty(rows):
    made = history(rows)
    assert made.bitops == made.accuracy == made.target == Series()
    assert made.budget is None


def test_an_envelope_keeps_ends_and_peaks():
    steps = list(range(10_000))
    values = [float(step % 7) for step in steps]
    values[4321], values[8765] = 99.0, -99.0
    few, shown = envelope(steps, values, 50)
    assert len(few) <= 102
    assert few == sorted(few)
    assert (few[0], few[-1]) == (0, 9999)
    assert {99.0, -99.0} <= set(shown)
    assert envelope([1, 2], [3.0, 4.0], 50) == ([1, 2], [3.0, 4.0])


def test_averages_are_of_neighbours():
    assert averages([0, 1, 2, 3], [1.0, 3.0, 5.0, 7.0], 2) == ([0.5, 2.5], [2.0, 6.0])
    assert averages([], [], 5) == ([], [])


def test_samples_keep_the_last_point():
    points = [(step, step % 3) for step in range(1000)]
    kept = list(sampled(points, 100))
    assert len(kept) <= 101
    assert (kept[0], kept[-1]) == (points[0], points[-1])

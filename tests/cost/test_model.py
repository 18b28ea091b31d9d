import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaqat_hw.cost import CostFit, fit_cost
from adaqat_hw.errors import ConfigError

# LUTs of a LUT-based MVU with 16 MACs per cycle (PE 4, SIMD 4), Yosys 0.70, UltraScale+;
# rows are weight bits, columns activation bits.
WIDTHS = (2, 3, 4, 5, 6, 8)
LUTS = (
    (160, 192, 240, 288, 336, 432),
    (192, 224, 320, 416, 576, 864),
    (256, 304, 548, 668, 764, 1024),
    (304, 465, 621, 840, 990, 1251),
    (352, 528, 820, 959, 1237, 1522),
    (448, 703, 1095, 1402, 1768, 2050),
)


@pytest.fixture(scope="module")
def measured():
    x = [16.0 * w * a for w in WIDTHS for a in WIDTHS]
    y = [float(lut) for row in LUTS for lut in row]
    return x, y


def fit(x, y, **kwargs):
    outcome = fit_cost({"bitops_per_cycle": x}, y, **kwargs)
    assert outcome.reason is None, outcome.reason
    return outcome.fit


def test_measured_mvus_follow_bit_operations_per_cycle(measured):
    found = fit(*measured)
    assert found.n == 36
    assert found.coefficients["bitops_per_cycle"] * 16 == pytest.approx(34.2, abs=0.1)
    assert found.intercept == pytest.approx(-46, abs=1)
    assert found.r2 == pytest.approx(0.986, abs=0.001)
    assert found.spearman > 0.95
    assert found.loo_mae > found.mae
    low, high = found.coefficient_intervals["bitops_per_cycle"]
    assert low < found.coefficients["bitops_per_cycle"] < high
    line = np.polynomial.Polynomial.fit(*measured, 1)(np.array(measured[0]))
    assert found.mape == pytest.approx(np.mean(np.abs(line - measured[1]) / measured[1]))


def test_r2_and_spearman_agree_with_a_hand_calculation():
    found = fit([0.0, 1.0, 2.0, 3.0], [0.0, 2.0, 1.0, 3.0])
    assert found.coefficients["bitops_per_cycle"] == pytest.approx(0.8)
    assert found.intercept == pytest.approx(0.3)
    assert found.r2 == pytest.approx(0.64)
    assert found.spearman == pytest.approx(0.8)
    assert found.mae == pytest.approx((0.3 + 0.9 + 0.9 + 0.3) / 4)
    assert found.mape is None  # a true value is 0


def test_leave_one_out_is_what_refitting_by_hand_gives():
    x, y = np.array([1.0, 2.0, 4.0, 7.0]), np.array([3.0, 4.0, 9.0, 11.0])
    errors = []
    for i in range(4):
        slope, intercept = np.polyfit(np.delete(x, i), np.delete(y, i), 1)
        errors.append(abs(y[i] - intercept - slope * x[i]))
    assert fit(list(x), list(y)).loo_mae == pytest.approx(np.mean(errors))


def test_groups_are_left_out_as_a_whole():
    x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    y = [1.0, 2.0, 3.0, 14.0, 15.0, 16.0]
    together = fit(x, y, groups=["a", "a", "a", "b", "b", "b"])
    assert together.loo_mae == pytest.approx(10.0)
    assert together.loo_mae > fit(x, y).loo_mae


@settings(max_examples=25, deadline=None)
@given(
    slope=st.floats(0.1, 50),
    intercept=st.floats(-500, 500),
    x=st.lists(st.integers(1, 4000), min_size=4, max_size=12, unique=True),
    method=st.sampled_from(["lstsq", "nnls"]),
)
def test_an_exact_line_is_found_again(slope, intercept, x, method):
    y = [intercept + slope * v for v in x]
    outcome = fit_cost({"x": x}, y, method=method, bootstrap=0)
    found = outcome.fit
    assert found.coefficients["x"] == pytest.approx(slope, rel=1e-6)
    assert found.intercept == pytest.approx(intercept, abs=1e-6 * slope * 4000)
    assert found.r2 == pytest.approx(1)
    assert found.spearman == pytest.approx(1)
    assert found.predict(x=10.0) == pytest.approx(intercept + 10 * slope, abs=1e-4 * slope)
    assert found.intercept_interval is None


def test_two_features_are_told_apart():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(1, 100, 30), rng.uniform(1, 100, 30)
    y = 7 + 2.5 * a + 0.5 * b + rng.normal(0, 0.5, 30)
    outcome = fit_cost({"mvau": list(a), "thresholds": list(b)}, list(y), target="dsp")
    found = outcome.fit
    assert found.target == "dsp"
    assert found.coefficients["mvau"] == pytest.approx(2.5, abs=0.02)
    assert found.coefficients["thresholds"] == pytest.approx(0.5, abs=0.02)
    low, high = found.coefficient_intervals["thresholds"]
    assert low < 0.5 < high
    assert high - low < 0.1


def test_nnls_keeps_slopes_from_being_negative_and_leaves_the_intercept_free():
    falling = fit([1.0, 2.0, 3.0, 4.0], [8.0, 6.0, 4.0, 2.0], method="nnls")
    assert falling.coefficients["bitops_per_cycle"] == 0.0
    assert falling.intercept == pytest.approx(5.0)
    assert falling.spearman is None
    rising = fit([1.0, 2.0, 3.0, 4.0], [-8.0, -6.0, -4.0, -2.0], method="nnls")
    assert rising.intercept == pytest.approx(-10.0)


def test_missing_values_are_dropped_and_counted():
    found = fit([1.0, 2.0, None, 4.0, 5.0], [2.0, 4.0, 6.0, 8.0, None])
    assert (found.n, found.dropped) == (3, 2)
    assert found.coefficients["bitops_per_cycle"] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        ([], [], ["0 rows are too few", "at least 3"]),
        ([1.0, 2.0], [1.0, 2.0], ["2 rows are too few"]),
        ([1.0, 2.0, 3.0], [1.0, None, 2.0], ["2 rows (1 more have missing values)"]),
        ([5.0] * 4, [1.0, 2.0, 3.0, 4.0], ["'bitops_per_cycle' is 5 in all 4 rows"]),
    ],
)
def test_too_little_gives_no_fit_but_a_reason(x, y, words):
    outcome = fit_cost({"bitops_per_cycle": x}, y)
    assert outcome.fit is None
    for word in words:
        assert word in outcome.reason


def test_proportional_features_give_no_fit():
    a = [1.0, 2.0, 3.0, 5.0]
    outcome = fit_cost({"a": a, "b": [3 * v for v in a]}, [1.0, 2.0, 3.0, 4.0])
    assert outcome.fit is None
    assert "proportional" in outcome.reason


def test_few_rows_leave_what_is_not_determined_empty():
    found = fit([1.0, 1.0, 2.0], [3.0, 5.0, 8.0])
    assert found.loo_mae is None  # without the third row the slope is open
    assert found.loo_mape is None
    constant = fit([1.0, 2.0, 3.0], [4.0, 4.0, 4.0])
    assert constant.r2 is None
    assert constant.spearman is None
    assert constant.mae == 0.0


def test_the_same_seed_gives_the_same_intervals(measured):
    assert fit(*measured, bootstrap=200) == fit(*measured, bootstrap=200)
    other = fit(*measured, bootstrap=200, seed=1)
    assert other.intercept_interval != fit(*measured, bootstrap=200).intercept_interval


def test_a_fit_survives_writing_and_reading(measured, tmp_path):
    found = fit(*measured, bootstrap=200)
    assert CostFit.read(found.write(tmp_path / "fit.json")) == found


@pytest.mark.parametrize(
    ("features", "values", "kwargs", "words"),
    [
        ({}, [1.0], {}, ["at least one feature"]),
        ({"x": [1.0]}, [1.0, 2.0], {}, ["'x' has 1 rows", "2"]),
        ({"x": [1.0, 2.0]}, [1.0, 2.0], {"groups": ["a"]}, ["'groups' has 1 rows"]),
        ({"x": [1.0, float("inf")]}, [1.0, 2.0], {}, ["'x' holds inf"]),
        ({"x": [1.0, 2.0, 3.0]}, [1.0, 2.0, 3.0], {"method": "ridge"}, ["'ridge'", "'nnls'"]),
    ],
)
def test_wrong_input_is_refused(features, values, kwargs, words):
    with pytest.raises(ConfigError) as caught:
        fit_cost(features, values, **kwargs)
    for word in words:
        assert word in str(caught.value)


def test_predict_refuses_other_features(measured):
    with pytest.raises(ConfigError, match=r"takes the features \['bitops_per_cycle'\]"):
        fit(*measured, bootstrap=0).predict(luts=3.0)

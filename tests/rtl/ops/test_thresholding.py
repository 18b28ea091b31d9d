"""Thresholds: the reference, its range, and FINN's module around them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaqat_hw.rtl.ops.thresholding import thresholding
from adaqat_hw.schema.operators import THRESHOLDING
from tests.rtl.operator_suite import (
    OperatorSuite,
    Sample,
    finn_node,
    int_type,
    make_stream,
)

U4, S4, S32 = int_type(4, False), int_type(4, True), int_type(32, True)


def _random(seed: int, shape: tuple[int, ...], low: int = 0, high: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, shape)


def _threshold_sample(rows: int, bias: int) -> Sample:
    streams = [make_stream("x", 2, 2, int_type(6, True))], [make_stream("y", 2, 2, S4)]
    node = finn_node(THRESHOLDING, *streams, NumChannels=4, PE=2, numSteps=7, out_bias=bias)
    thresholds = np.sort(_random(rows, (rows, 7), -30, 30), axis=1)
    return Sample(node, {"n__thresholds": thresholds})


class TestThresholding(OperatorSuite):
    operator = THRESHOLDING
    samples = (_threshold_sample(4, -4), _threshold_sample(1, 0))
    refused = (
        (samples[0].node, "hold thresholds of 0 prefixes"),
        (samples[0].node.model_copy(update={"backend": "hls"}), "has no RTL from FINN"),
    )


@settings(deadline=None)
@given(st.integers(0, 99), st.booleans(), st.integers(-8, 1))
def test_thresholding_counts_thresholds_reached(seed: int, shared: bool, bias: int) -> None:
    x = _random(seed, (3, 2, 5), -50, 50)
    t = np.sort(_random(seed + 1, (1 if shared else 5, 6), -50, 50), axis=1)
    y = thresholding(x, t, input_type=S32, output_type=S4, out_bias=bias)
    naive = (x[..., None] >= t[None, None, :, :]).sum(axis=-1) + bias
    np.testing.assert_array_equal(y, naive)


def test_a_value_equal_to_a_threshold_has_reached_it() -> None:
    y = thresholding([[-1], [0], [1]], [[0]], input_type=S32, output_type=U4)
    assert y[:, 0].tolist() == [0, 1, 1]


def test_thresholding_refusals() -> None:
    with pytest.raises(ValueError, match="ascend"):
        thresholding([[0]], [[3, 1]], input_type=S32, output_type=U4)
    with pytest.raises(ValueError, match=r"\(2, 1\) do not match 3 channels"):
        thresholding([[0, 0, 0]], [[1], [1]], input_type=S32, output_type=U4)
    with pytest.raises(ValueError, match="output holds -1"):
        thresholding([[0]], [[5]], input_type=S32, output_type=U4, out_bias=-1)

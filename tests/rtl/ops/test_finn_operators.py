"""Operators whose RTL FINN generates: references and ranges (their RTL is simulated in builds)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaqat_hw.rtl.ops.padding import pad
from adaqat_hw.rtl.ops.sliding_window import windows
from adaqat_hw.rtl.ops.thresholding import thresholding
from adaqat_hw.schema import Stream
from adaqat_hw.schema.operators import PADDING, SLIDING_WINDOW, THRESHOLDING, WIDTH_CONVERTER
from tests.rtl.operator_suite import (
    OperatorSuite,
    Sample,
    int_type,
    make_node,
    make_stream,
)

U4, S4, U8, S32 = (int_type(4, False), int_type(4, True), int_type(8, False), int_type(32, True))


def _random(seed: int, shape: tuple[int, ...], low: int = 0, high: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, shape)


def _node(record, inputs, outputs, **attributes):
    return make_node(record.name, inputs, outputs, generator="finn", backend="rtl", **attributes)


def _image(name: str, height: int, width: int, dtype=S4) -> Stream:
    return Stream(name=name, dtype=dtype, folded_shape=(1, height, width, 2, 2))


def _threshold_sample(rows: int, bias: int) -> Sample:
    streams = [make_stream("x", 2, 2, int_type(6, True))], [make_stream("y", 2, 2, S4)]
    node = _node(THRESHOLDING, *streams, NumChannels=4, PE=2, numSteps=7, out_bias=bias)
    thresholds = np.sort(_random(rows, (rows, 7), -30, 30), axis=1)
    return Sample(node, {"n__thresholds": thresholds})


class TestThresholding(OperatorSuite):
    operator = THRESHOLDING
    samples = (_threshold_sample(4, -4), _threshold_sample(1, 0))
    refused = (
        (samples[0].node, "hold thresholds of 0 prefixes"),
        (
            samples[0].node.model_copy(update={"generator": "adaqat"}),
            "operator 'Thresholding', for which hw/rtl has no module; .* MVAU",
        ),
        (samples[0].node.model_copy(update={"backend": "hls"}), "has no RTL from FINN"),
    )


class TestPadding(OperatorSuite):
    operator = PADDING
    samples = tuple(
        Sample(
            _node(
                PADDING,
                [_image("x", 3, 4)],
                [_image("y", 3 + sides[0] + sides[2], 4)],
                NumChannels=4,
                SIMD=2,
                Padding=sides,
            )
        )
        for sides in ((1, 0, 2, 0), (0, 0, 0, 0))
    )


class TestSlidingWindow(OperatorSuite):
    operator = SLIDING_WINDOW
    samples = tuple(
        Sample(
            _node(
                SLIDING_WINDOW,
                [_image("x", 5, 5)],
                [_image("y", 3, 3)],
                IFMChannels=4,
                SIMD=2,
                IFMDim=(5, 5),
                OFMDim=(3, 3),
                ConvKernelDim=(3, 3),
                Stride=(1, 1),
                Dilation=(1, 1),
                depthwise=order,
            )
        )
        for order in (0, 1)
    )


class TestWidthConverter(OperatorSuite):
    operator = WIDTH_CONVERTER
    samples = (
        Sample(_node(WIDTH_CONVERTER, [make_stream("x", 2, 6, S4)], [make_stream("y", 4, 3, S4)])),
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


@settings(deadline=None)
@given(
    st.integers(0, 99),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 2)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
)
def test_windows_are_ordered_row_column_channel(
    seed: int, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> None:
    x = _random(seed, (2, 6, 7, 4))
    y = windows(x, kernel, dtype=U4, stride=stride, dilation=dilation)
    lanes = windows(x, kernel, dtype=U4, stride=stride, dilation=dilation, depthwise_simd=2)
    assert y.shape == lanes.shape
    for frame, row, col in np.ndindex(*y.shape[:3]):
        pixels = [
            [
                x[frame, row * stride[0] + kh * dilation[0], col * stride[1] + kw * dilation[1]]
                for kw in range(kernel[1])
            ]
            for kh in range(kernel[0])
        ]
        window = np.array(pixels)  # (KH, KW, C)
        assert y[frame, row, col].tolist() == window.reshape(-1).tolist()
        halves = [window[:, :, :2].reshape(-1), window[:, :, 2:].reshape(-1)]
        assert lanes[frame, row, col].tolist() == np.concatenate(halves).tolist()


def test_padding_is_top_left_bottom_right() -> None:
    y = pad(np.ones((1, 1, 1, 1), dtype=np.int64), (1, 2, 3, 4), dtype=U4)
    assert y.shape == (1, 5, 7, 1)
    assert y.sum() == 1
    assert y[0, 1, 2, 0] == 1


def test_shape_refusals() -> None:
    x = np.zeros((1, 2, 2, 3), dtype=np.int64)
    with pytest.raises(ValueError, match="does not fit 2 pixels"):
        windows(x, (3, 1), dtype=U8)
    with pytest.raises(ValueError, match="SIMD 2 does not divide 3 channels"):
        windows(x, (1, 1), dtype=U8, depthwise_simd=2)
    with pytest.raises(ValueError, match="negative"):
        pad(x, (0, 0, -1, 0), dtype=U8)

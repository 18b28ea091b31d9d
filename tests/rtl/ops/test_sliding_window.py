"""Windows of a feature map: their order in the reference, and its range."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaqat_hw.rtl.ops.sliding_window import windows
from adaqat_hw.schema.operators import SLIDING_WINDOW
from tests.rtl.operator_suite import OperatorSuite, Sample, finn_node, image, int_type

U4, U8 = int_type(4, False), int_type(8, False)


class TestSlidingWindow(OperatorSuite):
    operator = SLIDING_WINDOW
    samples = tuple(
        Sample(
            finn_node(
                SLIDING_WINDOW,
                [image("x", 5, 5)],
                [image("y", 3, 3)],
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
    x = np.random.default_rng(seed).integers(0, 16, (2, 6, 7, 4))
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


def test_shape_refusals() -> None:
    x = np.zeros((1, 2, 2, 3), dtype=np.int64)
    with pytest.raises(ValueError, match="does not fit 2 pixels"):
        windows(x, (3, 1), dtype=U8)
    with pytest.raises(ValueError, match="SIMD 2 does not divide 3 channels"):
        windows(x, (1, 1), dtype=U8, depthwise_simd=2)

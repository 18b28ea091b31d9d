"""Zeros around a feature map: the reference and its range."""

from __future__ import annotations

import numpy as np
import pytest

from adaqat_hw.rtl.ops.padding import pad
from adaqat_hw.schema.operators import PADDING
from tests.rtl.operator_suite import OperatorSuite, Sample, finn_node, image, int_type

U4, U8 = int_type(4, False), int_type(8, False)


class TestPadding(OperatorSuite):
    operator = PADDING
    samples = tuple(
        Sample(
            finn_node(
                PADDING,
                [image("x", 3, 4)],
                [image("y", 3 + sides[0] + sides[2], 4)],
                NumChannels=4,
                SIMD=2,
                Padding=sides,
            )
        )
        for sides in ((1, 0, 2, 0), (0, 0, 0, 0))
    )


def test_padding_is_top_left_bottom_right() -> None:
    y = pad(np.ones((1, 1, 1, 1), dtype=np.int64), (1, 2, 3, 4), dtype=U4)
    assert y.shape == (1, 5, 7, 1)
    assert y.sum() == 1
    assert y[0, 1, 2, 0] == 1


def test_a_negative_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        pad(np.zeros((1, 2, 2, 3), dtype=np.int64), (0, 0, -1, 0), dtype=U8)

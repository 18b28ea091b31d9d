from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaqat_hw.rtl import reference
from adaqat_hw.schema import IntType

U4, S4, U8 = (
    IntType(bits=4, signed=False),
    IntType(bits=4, signed=True),
    IntType(bits=8, signed=False),
)
S32 = IntType(bits=32, signed=True)


def _random(seed: int, shape: tuple[int, ...], low: int = 0, high: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, shape)


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(1, 5), st.integers(1, 6), st.integers(1, 4))
def test_mvau_is_a_sum_of_products(seed: int, n: int, mw: int, mh: int) -> None:
    x, w = _random(seed, (n, mw)), _random(seed + 1, (mw, mh), -8, 8)
    y = reference.mvau(x, w, input_type=U4, weight_type=S4, output_type=S32)
    for i in range(n):
        for row in range(mh):
            assert y[i, row] == sum(int(x[i, k]) * int(w[k, row]) for k in range(mw))


def test_mvau_is_exact_where_doubles_are_not() -> None:
    wide = IntType(bits=40, signed=True)
    x, w = np.array([[2**39 - 1, 1]]), np.array([[2**20 + 1], [1]])
    y = reference.mvau(
        x, w, input_type=wide, weight_type=wide, output_type=IntType(bits=63, signed=True)
    )
    assert int(y[0, 0]) == (2**39 - 1) * (2**20 + 1) + 1


def test_mvau_refuses_what_does_not_fit() -> None:
    x, w = np.full((1, 4), 15), np.full((4, 1), 7)
    with pytest.raises(ValueError, match=r"MVAU output holds 420, outside -128..127"):
        reference.mvau(
            x, w, input_type=U4, weight_type=S4, output_type=IntType(bits=8, signed=True)
        )
    with pytest.raises(ValueError, match="MVAU weights holds 7"):
        reference.mvau(
            x, w, input_type=U4, weight_type=IntType(bits=3, signed=True), output_type=S32
        )
    with pytest.raises(ValueError, match="must equal MW"):
        reference.mvau(x, w[:3], input_type=U4, weight_type=S4, output_type=S32)


@settings(deadline=None)
@given(st.integers(0, 99), st.booleans(), st.integers(-8, 1))
def test_thresholding_counts_thresholds_reached(seed: int, shared: bool, bias: int) -> None:
    x = _random(seed, (3, 2, 5), -50, 50)
    t = np.sort(_random(seed + 1, (1 if shared else 5, 6), -50, 50), axis=1)
    y = reference.thresholding(x, t, input_type=S32, output_type=S4, out_bias=bias)
    naive = (x[..., None] >= t[None, None, :, :]).sum(axis=-1) + bias
    np.testing.assert_array_equal(y, naive)


def test_a_value_equal_to_a_threshold_has_reached_it() -> None:
    y = reference.thresholding([[-1], [0], [1]], [[0]], input_type=S32, output_type=U4)
    assert y[:, 0].tolist() == [0, 1, 1]


def test_thresholding_refusals() -> None:
    with pytest.raises(ValueError, match="ascend"):
        reference.thresholding([[0]], [[3, 1]], input_type=S32, output_type=U4)
    with pytest.raises(ValueError, match=r"\(2, 1\) do not match 3 channels"):
        reference.thresholding([[0, 0, 0]], [[1], [1]], input_type=S32, output_type=U4)
    with pytest.raises(ValueError, match="output holds -1"):
        reference.thresholding([[0]], [[5]], input_type=S32, output_type=U4, out_bias=-1)


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
    y = reference.sliding_window(x, kernel, dtype=U4, stride=stride, dilation=dilation)
    lanes = reference.sliding_window(
        x, kernel, dtype=U4, stride=stride, dilation=dilation, depthwise_simd=2
    )
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


@pytest.mark.parametrize("pe", [1, 2, 4])
def test_max_pool_takes_windows_in_depthwise_order(pe: int) -> None:
    x = _random(3, (2, 6, 6, 4))
    windows = reference.sliding_window(x, (2, 3), dtype=U4, stride=(2, 3), depthwise_simd=pe)
    y = reference.max_pool(windows, 6, pe, dtype=U4)
    naive = x.reshape(2, 3, 2, 2, 3, 4).max(axis=(2, 4))
    np.testing.assert_array_equal(y, naive)


def test_padding_is_top_left_bottom_right() -> None:
    y = reference.pad(np.ones((1, 1, 1, 1), dtype=np.int64), (1, 2, 3, 4), dtype=U4)
    assert y.shape == (1, 5, 7, 1)
    assert y.sum() == 1
    assert y[0, 1, 2, 0] == 1


def test_shape_refusals() -> None:
    x = np.zeros((1, 2, 2, 3), dtype=np.int64)
    with pytest.raises(ValueError, match="does not fit 2 pixels"):
        reference.sliding_window(x, (3, 1), dtype=U8)
    with pytest.raises(ValueError, match="SIMD 2 does not divide 3 channels"):
        reference.sliding_window(x, (1, 1), dtype=U8, depthwise_simd=2)
    with pytest.raises(ValueError, match="does not divide 3 values"):
        reference.max_pool(x, 2, 1, dtype=U8)
    with pytest.raises(ValueError, match="negative"):
        reference.pad(x, (0, 0, -1, 0), dtype=U8)


@settings(deadline=None)
@given(
    st.integers(0, 99),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 5),
)
def test_a_sum_pool_shifts_like_floor_division(
    seed: int, pe: int, kernel_h: int, kernel_w: int, signed: bool, shift: int
) -> None:
    dtype = IntType(bits=4, signed=signed)
    low = -8 * signed
    x = _random(seed, (2, 4, 4, 4), low, low + 16)
    kernel = (kernel_h, kernel_w)
    windows = reference.sliding_window(x, kernel, dtype=dtype, depthwise_simd=pe)
    y = reference.sum_pool(
        windows, kernel_h * kernel_w, pe, shift=shift, input_type=dtype, output_type=S32
    )
    for frame, row, col, channel in np.ndindex(*y.shape):
        total = sum(
            int(x[frame, row + r, col + c, channel])
            for r in range(kernel_h)
            for c in range(kernel_w)
        )
        assert y[frame, row, col, channel] == total // 2**shift


@settings(deadline=None)
@given(st.integers(1, 16), st.integers(1, 400), st.integers(2, 32))
def test_an_average_pools_shift_leaves_just_the_output_bits(
    input_bits: int, window: int, output_bits: int
) -> None:
    shift = reference.quant_avg_shift(input_bits, window, output_bits)
    largest = (2**input_bits - 1) * window
    assert largest >> shift < 2**output_bits
    assert shift == 0 or largest >> (shift - 1) >= 2**output_bits


@pytest.mark.parametrize(
    ("bits", "out_bits", "kernel", "signed"),
    [(4, 4, 4, False), (4, 4, 3, True), (2, 8, 2, False), (8, 5, 2, True), (3, 2, 4, False)],
)
def test_an_average_pool_is_qonnxs(bits: int, out_bits: int, kernel: int, signed: bool) -> None:
    """FINN's QuantAvgPool comes from QONNX's node, whose own execution is the definition."""
    from onnx import helper
    from qonnx.custom_op.general.quantavgpool2d import QuantAvgPool2d

    node = helper.make_node(
        "QuantAvgPool2d", ["x"], ["y"], domain="qonnx.custom_op.general", stride=kernel,
        kernel=kernel, ibits=bits, obits=out_bits, signed=int(signed), data_layout="NHWC",
    )  # fmt: skip
    dtype, target = (IntType(bits=b, signed=signed) for b in (bits, out_bits))
    low = -(2 ** (bits - 1)) * signed
    x = _random(bits, (1, 3 * kernel, 3 * kernel, 4), low, low + 2**bits)
    x[0, :kernel, :kernel], x[0, kernel : 2 * kernel, :kernel] = low, low + 2**bits - 1
    context = {"x": x.astype(np.float32), "y": np.zeros((1, 3, 3, 4), dtype=np.float32)}
    QuantAvgPool2d(node).execute_node(context, None)
    shift = reference.quant_avg_shift(bits, kernel**2, out_bits)
    assert shift == QuantAvgPool2d(node).get_shifts()
    windows = reference.sliding_window(
        x, (kernel, kernel), dtype=dtype, stride=(kernel, kernel), depthwise_simd=2
    )
    y = reference.sum_pool(windows, kernel**2, 2, shift=shift, input_type=dtype, output_type=target)
    np.testing.assert_array_equal(y, context["y"])


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(1, 40), st.integers(1, 5))
def test_global_pool_and_add_are_plain_sums(seed: int, pixels: int, channels: int) -> None:
    x, y = _random(seed, (3, pixels, channels)), _random(seed + 1, (3, pixels, channels), -8, 8)
    pooled = reference.global_acc_pool(x, input_type=U4, output_type=S32)
    added = reference.add(x, y, first_type=U4, second_type=S4, output_type=S32)
    assert pooled.shape == (3, channels)
    for frame, channel in np.ndindex(3, channels):
        assert pooled[frame, channel] == sum(int(v) for v in x[frame, :, channel])
        for pixel in range(pixels):
            at = (frame, pixel, channel)
            assert added[at] == int(x[at]) + int(y[at])


@settings(deadline=None)
@given(st.lists(st.integers(-8, 7), min_size=1, max_size=20))
def test_label_select_finds_the_first_of_the_largest(values: list[int]) -> None:
    y = reference.label_select([values], input_type=S4, output_type=U8)
    assert y.tolist() == [[values.index(max(values))]]


def test_small_layer_refusals() -> None:
    x = np.full((1, 4), 15)
    with pytest.raises(ValueError, match=r"Add output holds 30, outside -8\.\.7"):
        reference.add(x, x, first_type=U4, second_type=U4, output_type=S4)
    with pytest.raises(ValueError, match=r"\(1, 4\) and \(1, 3\) cannot be added"):
        reference.add(x, x[:, :3], first_type=U4, second_type=U4, output_type=U8)
    with pytest.raises(ValueError, match="Add input 1 holds 15"):
        reference.add(x, x, first_type=U4, second_type=S4, output_type=U8)
    with pytest.raises(ValueError, match="Global pool output holds 60"):
        reference.global_acc_pool(x.reshape(1, 4, 1), input_type=U4, output_type=U4)
    with pytest.raises(ValueError, match="Average pool output holds 30"):
        reference.sum_pool(x, 4, 1, shift=1, input_type=U4, output_type=U4)
    with pytest.raises(ValueError, match="shift is -1"):
        reference.sum_pool(x, 4, 1, shift=-1, input_type=U4, output_type=U8)
    with pytest.raises(ValueError, match=r"beats of 3 values does not divide 4"):
        reference.sum_pool(x, 1, 3, shift=0, input_type=U4, output_type=U8)
    with pytest.raises(ValueError, match=r"Label select output holds 2, outside 0\.\.1"):
        reference.label_select(
            [[0, 0, 1]], input_type=U4, output_type=IntType(bits=1, signed=False)
        )
    with pytest.raises(ValueError, match="needs"):
        reference.label_select(np.zeros((1, 0), dtype=np.int64), input_type=U4, output_type=U4)
    with pytest.raises(ValueError, match="needs"):
        reference.global_acc_pool([1], input_type=U4, output_type=U4)

"""Integer reference models of the hardware layers: numpy int64, vectorised over frames.

They say what the RTL must compute, bit for bit. Activations are NHWC. Each function raises
ValueError when a value leaves its declared type: nothing wraps silently.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from adaqat_hw.rtl.packing import IntArray, require_range
from adaqat_hw.schema import IntType


def _window_count(size: int, kernel: int, stride: int, dilation: int) -> int:
    reach = dilation * (kernel - 1) + 1
    if min(kernel, stride, dilation) < 1 or reach > size:
        raise ValueError(
            f"A window of {kernel!r} with dilation {dilation!r} and stride {stride!r} does not "
            f"fit {size!r} pixels."
        )
    return (size - reach) // stride + 1


def mvau(
    inputs: ArrayLike,
    weights: ArrayLike,
    *,
    input_type: IntType,
    weight_type: IntType,
    output_type: IntType,
) -> IntArray:
    """Multiply vectors (..., MW) with weights (MW, MH) to (..., MH).

    The RTL (hw/rtl/mvau_lut, FINN's MVAU) accumulates modulo 2**bits of ``output_type``, which
    is exact whenever the result fits.
    """
    x = require_range(inputs, input_type, "MVAU input")
    w = require_range(weights, weight_type, "MVAU weights")
    if w.ndim != 2 or x.shape[-1] != w.shape[0]:
        raise ValueError(
            f"Inputs of shape {x.shape!r} do not match weights of shape {w.shape!r}: "
            "the last dimension must equal MW."
        )
    low, high = int(np.abs(x).max(initial=0)), int(np.abs(w).max(initial=0))
    # Products of doubles are exact below 2**53, and BLAS is far faster than int64 loops.
    if low * high * w.shape[0] < 1 << 53:
        result = np.rint(x.astype(np.float64) @ w.astype(np.float64)).astype(np.int64)
    else:
        result = np.asarray(x @ w, dtype=np.int64)
    return require_range(result, output_type, "MVAU output")


def thresholding(
    inputs: ArrayLike,
    thresholds: ArrayLike,
    *,
    input_type: IntType,
    output_type: IntType,
    out_bias: int = 0,
) -> IntArray:
    """Return out_bias + count(x >= t) for inputs (..., channels).

    Args:
        inputs: integers (..., channels).
        thresholds: (channels, steps) or (1, steps), ascending along the steps.
        input_type: type of the inputs.
        output_type: type of the result.
        out_bias: value below the first threshold (FINN's ActVal).
    """
    x = require_range(inputs, input_type, "Thresholding input")
    t = np.asarray(thresholds)
    if t.dtype.kind not in "iu":
        raise ValueError(f"Thresholds must be integers, not {t.dtype.name!r}.")
    channels = x.shape[-1]
    if t.ndim != 2 or t.shape[0] not in (1, channels):
        raise ValueError(
            f"Thresholds of shape {t.shape!r} do not match {channels!r} channels: "
            "they must be (channels, steps) or (1, steps)."
        )
    if np.any(np.diff(t, axis=1) < 0):
        # The hardware searches by bisection, which needs order.
        raise ValueError("Thresholds must ascend along the steps.")
    flat = x.reshape(-1, channels)
    counts = np.empty_like(flat)
    for channel in range(channels):
        row = t[channel if t.shape[0] > 1 else 0]
        counts[:, channel] = np.searchsorted(row, flat[:, channel], side="right")
    return require_range(counts.reshape(x.shape) + out_bias, output_type, "Thresholding output")


def pad(inputs: ArrayLike, padding: tuple[int, int, int, int], *, dtype: IntType) -> IntArray:
    """Pad (n, H, W, C) with zeros: ``padding`` is (top, left, bottom, right), FINN's order."""
    x = require_range(inputs, dtype, "Padding input")
    if x.ndim != 4:
        raise ValueError(f"Padding needs (n, H, W, C), not shape {x.shape!r}.")
    if min(padding) < 0:
        raise ValueError(f"Padding {padding!r} must not be negative.")
    top, left, bottom, right = padding
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))


def sliding_window(
    inputs: ArrayLike,
    kernel: tuple[int, int],
    *,
    dtype: IntType,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    depthwise_simd: int | None = None,
) -> IntArray:
    """Lower (n, H, W, C) to windows (n, OH, OW, KH*KW*C) in the order of FINN's generator.

    Args:
        inputs: feature maps.
        kernel: window height and width.
        dtype: type of the values.
        stride: vertical and horizontal.
        dilation: vertical and horizontal.
        depthwise_simd: None orders a window (kernel h, kernel w, channel), as a convolution
            takes it. A number S orders it (channel // S, kernel h, kernel w, channel % S), as
            a pool of S lanes takes it.
    """
    x = require_range(inputs, dtype, "Sliding window input")
    if x.ndim != 4:
        raise ValueError(f"A sliding window needs (n, H, W, C), not shape {x.shape!r}.")
    n, height, width, channels = x.shape
    out_h = _window_count(height, kernel[0], stride[0], dilation[0])
    out_w = _window_count(width, kernel[1], stride[1], dilation[1])
    rows = np.arange(out_h)[:, None] * stride[0] + np.arange(kernel[0])[None, :] * dilation[0]
    cols = np.arange(out_w)[:, None] * stride[1] + np.arange(kernel[1])[None, :] * dilation[1]
    # (n, OH, KH, OW, KW, C)
    gathered = x[:, rows[:, :, None, None], cols[None, None, :, :], :]
    windows = gathered.transpose(0, 1, 3, 2, 4, 5)
    if depthwise_simd is not None:
        if depthwise_simd < 1 or channels % depthwise_simd:
            raise ValueError(f"SIMD {depthwise_simd!r} does not divide {channels!r} channels.")
        lanes = windows.reshape(
            n, out_h, out_w, *kernel, channels // depthwise_simd, depthwise_simd
        )
        windows = lanes.transpose(0, 1, 2, 5, 3, 4, 6)
    return windows.reshape(n, out_h, out_w, -1)


def max_pool(inputs: ArrayLike, window: int, pe: int, *, dtype: IntType) -> IntArray:
    """Reduce windows (..., window*C) in depthwise order of ``pe`` lanes to (..., C).

    This is hw/rtl/maxpool: of ``window`` consecutive beats of ``pe`` values, the maxima.
    """
    x = require_range(inputs, dtype, "Max pool input")
    maxima = np.asarray(_depthwise(x, window, pe).max(axis=-2))
    return maxima.reshape(*x.shape[:-1], x.shape[-1] // window)


def quant_avg_shift(input_bits: int, window: int, output_bits: int) -> int:
    """Return by how much FINN's QuantAvgPool shifts a sum over ``window`` values.

    The bits of the largest unsigned sum less those of the output, for signed values too.

    >>> quant_avg_shift(4, 16, 4), quant_avg_shift(2, 9, 8)
    (4, 0)
    """
    return max(0, (((1 << input_bits) - 1) * window).bit_length() - output_bits)


def sum_pool(
    inputs: ArrayLike,
    window: int,
    pe: int,
    *,
    shift: int,
    input_type: IntType,
    output_type: IntType,
) -> IntArray:
    """Sum windows (..., window*C) in depthwise order of ``pe`` lanes to (..., C), then shift.

    This is hw/rtl/avgpool, FINN's QuantAvgPool: the sum is shifted right by ``shift`` bits,
    which rounds towards minus infinity.
    """
    x = require_range(inputs, input_type, "Average pool input")
    if shift < 0:
        raise ValueError(f"The shift is {shift!r}; it must not be negative.")
    sums = _depthwise(x, window, pe).sum(axis=-2) >> shift
    result = require_range(sums, output_type, "Average pool output")
    return result.reshape(*x.shape[:-1], x.shape[-1] // window)


def add(
    first: ArrayLike,
    second: ArrayLike,
    *,
    first_type: IntType,
    second_type: IntType,
    output_type: IntType,
) -> IntArray:
    """Add two arrays of one shape: hw/rtl/add."""
    x = require_range(first, first_type, "Add input 0")
    y = require_range(second, second_type, "Add input 1")
    if x.shape != y.shape:
        raise ValueError(f"Shapes {x.shape!r} and {y.shape!r} cannot be added: they must be equal.")
    return require_range(x + y, output_type, "Add output")


def global_acc_pool(inputs: ArrayLike, *, input_type: IntType, output_type: IntType) -> IntArray:
    """Sum (n, ..., channels) over everything between to (n, channels): hw/rtl/global_acc_pool."""
    x = require_range(inputs, input_type, "Global pool input")
    if x.ndim < 2:
        raise ValueError(f"A global pool needs (n, ..., channels), not shape {x.shape!r}.")
    sums = x.sum(axis=tuple(range(1, x.ndim - 1)))
    return require_range(sums, output_type, "Global pool output")


def label_select(inputs: ArrayLike, *, input_type: IntType, output_type: IntType) -> IntArray:
    """Return the index of the largest of (..., labels) as (..., 1): hw/rtl/label_select.

    Of equal values the one of the lowest index wins.
    """
    x = require_range(inputs, input_type, "Label select input")
    if x.ndim < 1 or not x.shape[-1]:
        raise ValueError(f"A label select needs (..., labels), not shape {x.shape!r}.")
    return require_range(x.argmax(axis=-1)[..., None], output_type, "Label select output")


def _depthwise(x: IntArray, window: int, pe: int) -> IntArray:
    """Return windows (..., window*C) in depthwise order as (..., C // pe, window, pe)."""
    if window < 1 or pe < 1 or x.shape[-1] % (window * pe):
        raise ValueError(
            f"A window of {window!r} beats of {pe!r} values does not divide {x.shape[-1]!r} values."
        )
    return x.reshape(*x.shape[:-1], x.shape[-1] // (window * pe), window, pe)

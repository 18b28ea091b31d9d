"""Maximum and average pools against their references: bit-exact, under stalls, at full rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaqat_hw.rtl.ops.pool import max_pool, quant_avg_shift, sum_pool
from adaqat_hw.rtl.ops.sliding_window import windows
from adaqat_hw.rtl.packing import limits, pack_words, padded_width
from adaqat_hw.schema import IntType
from adaqat_hw.schema.operators import POOL
from tests.rtl.bench import Device
from tests.rtl.operator_suite import (
    Case,
    OperatorSuite,
    Sample,
    changed,
    check_yosys,
    extreme_and_random,
    holds,
    int_type,
    make_node,
    make_stream,
    type_name,
)

U1, U4, U7, S1, S5, S8 = (
    *(int_type(1, False), int_type(4, False), int_type(7, False)),
    *(int_type(1, True), int_type(5, True), int_type(8, True)),
)
U8, S32 = int_type(8, False), int_type(32, True)


def _maximum(seed: int, pe: int, dtype: IntType, k: int) -> Case:
    low, high = limits(dtype)
    values = np.random.default_rng(seed).integers(low, high + 1, (20, k * pe))
    values[1], values[2] = low, high
    width = padded_width(pe, dtype.bits)
    parameters = {"PE": pe, "WIDTH": dtype.bits, "SIGNED": int(dtype.signed), "K": k}
    return Case(
        name=f"max-pe{pe}-k{k}-{type_name(dtype)}",
        device=Device("adq_maxpool", parameters, {"in0": width}, width),
        words=pack_words(values.reshape(-1, pe), dtype),
        golden=max_pool(values, k, pe, dtype=dtype),
        elements=pe,
        dtype=dtype,
        interval=k,
        latency=k,
    )


def _average(pe: int, k: int, dtype: IntType, bits: int, shift: int | None = None) -> Case:
    target = int_type(bits, dtype.signed)
    by = quant_avg_shift(dtype.bits, k, bits) if shift is None else shift
    x = extreme_and_random(k, (12, k * pe), dtype)
    device = Device(
        "adq_avgpool",
        {"PE": pe, "K": k, "IN_WIDTH": dtype.bits, "SIGNED": int(dtype.signed),
         "OUT_WIDTH": bits, "SHIFT": by},
        {"in0": padded_width(pe, dtype.bits)},
        padded_width(pe, bits),
    )  # fmt: skip
    return Case(
        name=f"average-pe{pe}-k{k}-{type_name(dtype)}-{bits}-{shift}",
        device=device,
        words=pack_words(x.reshape(-1, pe), dtype),
        golden=sum_pool(x, k, pe, shift=by, input_type=dtype, output_type=target),
        elements=pe,
        dtype=target,
        interval=k,
        latency=k,
    )


AVERAGE = make_node(
    POOL.name, [make_stream("x", 2, 36, S5)], [make_stream("y", 2, 4, S5)], KernelSize=(3, 3),
    Function="QuantAvgPool", Size=4,
)  # fmt: skip
MAXIMUM = make_node(
    POOL.name, [make_stream("x", 2, 36, S5)], [make_stream("y", 2, 4, S5)], KernelSize=(3, 3)
)
SUM = changed(
    AVERAGE,
    attributes={"Function": "AccPool"},
    outputs=(make_stream("y", 2, 4, holds(-16 * 9, 15 * 9)),),
)


class TestPool(OperatorSuite):
    operator = POOL
    cases = (
        *(_average(pe, k, t, 4) for pe in (1, 3) for k in (1, 4, 9) for t in (U4, U7, S5)),
        *(_average(2, 4, U4, 6, 0), _average(2, 4, S5, 12, 0)),
        *(_average(1, 9, U1, 2), _average(1, 49, S8, 8), _average(3, 2, S1, 2)),
        *(
            _maximum(seed, pe, int_type(bits, signed), k)
            for seed, (pe, bits, signed, k) in enumerate(
                (pe, bits, signed, k)
                for pe, bits, signed in (
                    *((1, 1, False), (1, 4, True), (3, 2, False), (4, 8, True), (5, 7, True)),
                )
                for k in (1, 2, 4, 9)
            )
        ),
    )
    samples = (Sample(AVERAGE), Sample(MAXIMUM), Sample(SUM))
    refused = (
        (changed(AVERAGE, attributes={"Function": "AvgPool"}), "pools with 'AvgPool'; hw/rtl"),
        (changed(AVERAGE, attributes={"Size": -1}), "'Size' of node 'n' is -1"),
        (changed(AVERAGE, attributes={"Size": 9}), "leaves nothing of a value"),
        (changed(AVERAGE, attributes={"KernelSize": 3}), "'KernelSize' of node 'n' is 3"),
        (
            changed(AVERAGE, outputs=(make_stream("y", 2, 4, U7),)),
            "both must be signed or both",
        ),
        (changed(MAXIMUM, outputs=(make_stream("y", 2, 4, S8),)), "both types must be equal"),
    )


@pytest.mark.synth
@pytest.mark.parametrize(("node", "family"), [(AVERAGE, "xcup"), (MAXIMUM, "xc7")])
def test_yosys_makes_logic_of_a_node(node: Any, family: str, tmp_path: Path) -> None:
    check_yosys(Sample(node), family, tmp_path)


@pytest.mark.parametrize("pe", [1, 2, 4])
def test_max_pool_takes_windows_in_depthwise_order(pe: int) -> None:
    x = np.random.default_rng(3).integers(0, 16, (2, 6, 6, 4))
    lowered = windows(x, (2, 3), dtype=U4, stride=(2, 3), depthwise_simd=pe)
    y = max_pool(lowered, 6, pe, dtype=U4)
    naive = x.reshape(2, 3, 2, 2, 3, 4).max(axis=(2, 4))
    np.testing.assert_array_equal(y, naive)


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
    dtype = int_type(4, signed)
    low = -8 * signed
    x = np.random.default_rng(seed).integers(low, low + 16, (2, 4, 4, 4))
    lowered = windows(x, (kernel_h, kernel_w), dtype=dtype, depthwise_simd=pe)
    y = sum_pool(
        lowered, kernel_h * kernel_w, pe, shift=shift, input_type=dtype, output_type=S32
    )  # fmt: skip
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
    shift = quant_avg_shift(input_bits, window, output_bits)
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
    dtype, target = (int_type(b, signed) for b in (bits, out_bits))
    low = -(2 ** (bits - 1)) * signed
    x = np.random.default_rng(bits).integers(low, low + 2**bits, (1, 3 * kernel, 3 * kernel, 4))
    x[0, :kernel, :kernel], x[0, kernel : 2 * kernel, :kernel] = low, low + 2**bits - 1
    context = {"x": x.astype(np.float32), "y": np.zeros((1, 3, 3, 4), dtype=np.float32)}
    QuantAvgPool2d(node).execute_node(context, None)
    shift = quant_avg_shift(bits, kernel**2, out_bits)
    assert shift == QuantAvgPool2d(node).get_shifts()
    lowered = windows(x, (kernel, kernel), dtype=dtype, stride=(kernel, kernel), depthwise_simd=2)
    y = sum_pool(lowered, kernel**2, 2, shift=shift, input_type=dtype, output_type=target)
    np.testing.assert_array_equal(y, context["y"])


def test_reference_refuses_what_does_not_fit() -> None:
    x = np.full((1, 4), 15)
    with pytest.raises(ValueError, match="does not divide 3 values"):
        max_pool(np.zeros((1, 2, 2, 3), dtype=np.int64), 2, 1, dtype=U8)
    with pytest.raises(ValueError, match="Average pool output holds 30"):
        sum_pool(x, 4, 1, shift=1, input_type=U4, output_type=U4)
    with pytest.raises(ValueError, match="shift is -1"):
        sum_pool(x, 4, 1, shift=-1, input_type=U4, output_type=U8)
    with pytest.raises(ValueError, match=r"beats of 3 values does not divide 4"):
        sum_pool(x, 1, 3, shift=0, input_type=U4, output_type=U8)

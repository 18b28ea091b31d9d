"""The sum over all pixels against its reference: bit-exact, under stalls, at full rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaqat_hw.rtl.ops.global_pool import global_sum
from adaqat_hw.rtl.packing import limits, pack_words, padded_width
from adaqat_hw.schema import IntType
from adaqat_hw.schema.operators import GLOBAL_POOL
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
S32 = int_type(32, True)


def _global_pool(channels: int, pe: int, pixels: int, dtype: IntType, extra: int = 0) -> Case:
    low, high = limits(dtype)
    narrow = holds(low * pixels, high * pixels)
    target = int_type(narrow.bits + extra, narrow.signed)
    x = extreme_and_random(channels, (6, pixels, channels), dtype)
    folds = channels // pe
    device = Device(
        "adq_global_acc_pool",
        {"CHANNELS": channels, "PE": pe, "PIXELS": pixels, "IN_WIDTH": dtype.bits,
         "SIGNED": int(dtype.signed), "OUT_WIDTH": target.bits},
        {"in0": padded_width(pe, dtype.bits)},
        padded_width(pe, target.bits),
    )  # fmt: skip
    return Case(
        name=f"{channels}-pe{pe}-{pixels}px-{type_name(dtype)}-{extra}",
        device=device,
        words=pack_words(x.reshape(-1, pe), dtype),
        golden=global_sum(x, input_type=dtype, output_type=target).reshape(-1, pe),
        elements=pe,
        dtype=target,
        outputs=folds,
        interval=folds * pixels,
        latency=(pixels - 1) * folds + 1,
    )


def _node(dtype: IntType, target: IntType):
    return make_node(
        GLOBAL_POOL.name, [make_stream("x", 2, 64, dtype)], [make_stream("y", 2, 16, target)],
        NumChannels=32, PE=2,
    )  # fmt: skip


NODE = _node(U4, int_type(12, False))


class TestGlobalPool(OperatorSuite):
    operator = GLOBAL_POOL
    cases = (
        *(_global_pool(6, pe, 5, dtype) for pe in (1, 2, 3, 6) for dtype in (U4, S5)),
        *(_global_pool(4, 4, 1, S1), _global_pool(4, 2, 1, U7, extra=3)),
        *(_global_pool(40, 1, 2, U1), _global_pool(2, 1, 64, S8)),
    )
    samples = (Sample(NODE), Sample(_node(S5, int_type(9, True))))
    refused = (
        (changed(NODE, attributes={"NumChannels": 16}), "does not match its 16 channels"),
        (changed(NODE, outputs=(make_stream("y", 2, 16, int_type(3, False)),)), "not be narrower"),
    )


@pytest.mark.synth
@pytest.mark.parametrize("family", ["xc7", "xcup"])
def test_yosys_puts_the_sums_into_distributed_memory(family: str, tmp_path: Path) -> None:
    check_yosys(Sample(NODE), family, tmp_path, lut_memory=True)


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(1, 40), st.integers(1, 5))
def test_the_reference_is_a_plain_sum(seed: int, pixels: int, channels: int) -> None:
    x = np.random.default_rng(seed).integers(0, 16, (3, pixels, channels))
    pooled = global_sum(x, input_type=U4, output_type=S32)
    assert pooled.shape == (3, channels)
    for frame, channel in np.ndindex(3, channels):
        assert pooled[frame, channel] == sum(int(v) for v in x[frame, :, channel])


def test_reference_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="Global pool output holds 60"):
        global_sum(np.full((1, 4, 1), 15), input_type=U4, output_type=U4)
    with pytest.raises(ValueError, match="needs"):
        global_sum([1], input_type=U4, output_type=U4)

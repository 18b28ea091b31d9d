"""The index of the largest value against its reference: bit-exact, ties, at full rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaqat_hw.rtl.ops import ValueRange
from adaqat_hw.rtl.ops.label_select import label_select
from adaqat_hw.rtl.packing import IntArray, limits, pack_words, padded_width
from adaqat_hw.schema import IntType
from adaqat_hw.schema.operators import LABEL_SELECT
from tests.rtl.bench import Device
from tests.rtl.operator_suite import (
    Case,
    OperatorSuite,
    Sample,
    changed,
    check_yosys,
    extreme_and_random,
    int_type,
    make_node,
    make_stream,
    type_name,
)

U1, U4, U7, U8, S1, S4, S5, S8, S12 = (
    *(int_type(1, False), int_type(4, False), int_type(7, False), int_type(8, False)),
    *(int_type(1, True), int_type(4, True), int_type(5, True), int_type(8, True)),
    int_type(12, True),
)


def _select(labels: int, pe: int, dtype: IntType, bits: int) -> Case:
    target = int_type(bits, False)
    x = extreme_and_random(labels, (40, labels), dtype)  # the two first frames tie everywhere
    x[2:6] = x[2:6] // 2  # ties in some places
    for place in range(labels):  # every label wins once, against its own tie later on
        frame = np.full(labels, limits(dtype)[0])
        frame[place] = frame[-1] = limits(dtype)[1]
        x = np.vstack([x, frame])
    folds = labels // pe
    device = Device(
        "adq_label_select",
        {"LABELS": labels, "PE": pe, "WIDTH": dtype.bits, "SIGNED": int(dtype.signed),
         "OUT_WIDTH": bits},
        {"in0": padded_width(pe, dtype.bits)},
        padded_width(1, bits),
    )  # fmt: skip
    return Case(
        name=f"{labels}-pe{pe}-{type_name(dtype)}-{bits}",
        device=device,
        words=pack_words(x.reshape(-1, pe), dtype),
        golden=label_select(x, input_type=dtype, output_type=target),
        elements=1,
        dtype=target,
        interval=folds,
        latency=folds + (pe - 1).bit_length(),
    )


NODE = make_node(
    LABEL_SELECT.name, [make_stream("x", 5, 2, S12)], [make_stream("y", 1, 1, U8)], Labels=10, K=1
)


class TestLabelSelect(OperatorSuite):
    operator = LABEL_SELECT
    cases = (
        *(_select(10, pe, dtype, 8) for pe in (1, 2, 5, 10) for dtype in (S5, U7)),
        *(_select(1, 1, U4, 1), _select(7, 7, S8, 3), _select(3, 3, U1, 8)),
        *(_select(100, 10, S8, 9), _select(9, 3, S1, 8)),
    )
    samples = (Sample(NODE),)
    refused = (
        (changed(NODE, attributes={"K": 2}), "wants the 2 largest values"),
        (changed(NODE, attributes={"Labels": 12}), "5 values per beat, .* 12 labels"),
        (
            changed(NODE, outputs=(make_stream("y", 1, 1, int_type(3, False)),)),
            "of each of 10 labels",
        ),
    )

    @staticmethod
    def wrong(case: Case) -> list[int]:
        """All values equal: the first label wins, which was not so in every frame."""
        return [0] * len(case.words)

    def extreme_frames(self, sample: Sample, values: ValueRange) -> list[IntArray]:
        """The last label wins where there are two values to choose from."""
        frames = np.full((1, sample.node.channels), values.low)
        frames[0, -1] = values.high
        return [frames]


@pytest.mark.synth
def test_yosys_makes_logic_of_a_node(tmp_path: Path) -> None:
    check_yosys(Sample(NODE), "xcup", tmp_path)


@settings(deadline=None)
@given(st.lists(st.integers(-8, 7), min_size=1, max_size=20))
def test_label_select_finds_the_first_of_the_largest(values: list[int]) -> None:
    y = label_select([values], input_type=S4, output_type=U8)
    assert y.tolist() == [[values.index(max(values))]]


def test_reference_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"Label select output holds 2, outside 0\.\.1"):
        label_select([[0, 0, 1]], input_type=U4, output_type=U1)
    with pytest.raises(ValueError, match="needs"):
        label_select(np.zeros((1, 0), dtype=np.int64), input_type=U4, output_type=U4)

"""A width converter changes no value."""

from __future__ import annotations

from adaqat_hw.schema.operators import WIDTH_CONVERTER
from tests.rtl.operator_suite import OperatorSuite, Sample, finn_node, int_type, make_stream

S4 = int_type(4, True)
TWO, FOUR = make_stream("x", 2, 6, S4), make_stream("y", 4, 3, S4)


class TestWidthConverter(OperatorSuite):
    operator = WIDTH_CONVERTER
    samples = (
        Sample(
            finn_node(WIDTH_CONVERTER, [make_stream("x", 2, 6, S4)], [make_stream("y", 4, 3, S4)])
        ),
    )

"""A queue changes nothing: its order, its rate, what it refuses."""

from __future__ import annotations

from adaqat_hw.rtl.ops import node_rtl
from adaqat_hw.schema.operators import FIFO
from tests.rtl.operator_suite import (
    OperatorSuite,
    Sample,
    changed,
    int_type,
    make_node,
    make_stream,
)

S5, U7 = int_type(5, True), int_type(7, False)
NODE = make_node(
    FIFO.name, [make_stream("x", 3, 8, S5)], [make_stream("y", 3, 8, S5)], depth=5, fifo_index=2
)


class TestFifo(OperatorSuite):
    operator = FIFO
    samples = (Sample(NODE), Sample(changed(NODE, attributes={"depth": 40})))
    refused = (
        (changed(NODE, attributes={"depth": 1}), "'depth' of node 'n' is 1; .* at least 2"),
        (changed(NODE, attributes={"fifo_index": "a"}), "'fifo_index' of node 'n' is 'a'"),
        (changed(NODE, outputs=(make_stream("y", 3, 8, U7),)), "a FIFO changes nothing"),
        (changed(NODE, outputs=(make_stream("y", 2, 12, S5),)), "does not match its input"),
        (changed(NODE, generator="finn"), r"'n' \(StreamingFIFO, hls\) has no RTL from FINN"),
    )


def test_a_fifo_of_finn_is_its_own_module() -> None:
    finn = NODE.model_copy(update={"generator": "finn", "backend": "rtl", "top_module": "theirs"})
    assert node_rtl(finn, "node_n", {}, {}).cores == ("theirs",)
    assert node_rtl(NODE, "node_n", {}, {}).cores == ("adq_fifo",)

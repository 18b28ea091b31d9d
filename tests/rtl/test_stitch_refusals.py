"""Graphs that cannot be stitched are refused before anything is written."""

from __future__ import annotations

import pytest

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl.stitch import stitch
from adaqat_hw.schema import HardwareGraph
from tests.rtl.stitch_builds import (
    S4,
    S16,
    replaced,
    stream,
)


def broken(graph: HardwareGraph, what: str) -> HardwareGraph:
    nodes = graph.nodes
    if what == "no producer":
        return replaced(graph, 1, inputs=(stream("z", 2, 2, S4),))
    if what == "no consumer":
        return replaced(graph, 2, inputs=(stream("a", 2, 2, S4),))
    if what == "two producers":
        return replaced(graph, 1, outputs=(stream("a", 2, 2, S4),))
    if what == "elements":
        return replaced(graph, 1, inputs=(stream("a", 4, 1, S4),))
    if what == "bits":
        return replaced(graph, 1, inputs=(stream("a", 2, 2, S16),))
    if what == "node twice":
        return graph.model_copy(update={"nodes": (*nodes, nodes[0])})
    if what == "no nodes":
        return graph.model_copy(update={"nodes": ()})
    if what == "operator":
        return replaced(graph, 0, op="LabelSelect")
    if what == "hls":
        return replaced(graph, 0, backend="hls")
    if what == "own operator":
        return replaced(graph, 0, op="FMPadding", generator="adaqat")
    if what == "no attribute":
        return replaced(
            graph, 1, attributes={"PE": 1, "SIMD": 2, "MW": 4, "weight_bits": 3, "weight_signed": 1}
        )
    if what == "weight width":
        return replaced(graph, 1, attributes={**nodes[1].attributes, "weight_bits": 2})
    if what == "no weight type":
        attributes = {k: v for k, v in nodes[1].attributes.items() if k != "weight_signed"}
        return replaced(graph, 1, attributes=attributes)
    if what == "no type at all":
        attributes = {k: v for k, v in nodes[1].attributes.items() if "weight" not in k}
        return replaced(graph, 1, attributes={**attributes, "weightDataType": "INT3"})
    if what == "xnor":
        return replaced(graph, 1, attributes={**nodes[1].attributes, "binaryXnorMode": 1})
    if what == "folding":
        return replaced(graph, 1, attributes={**nodes[1].attributes, "PE": 2})
    if what == "weights' shape":
        return replaced(graph, 1, attributes={**nodes[1].attributes, "MH": 8})
    if what == "thresholds inside":
        return replaced(graph, 1, parameters={"thresholds": "x"})
    if what == "file outside":
        return replaced(graph, 0, files=("../secret.v",))
    if what == "file missing":
        return replaced(graph, 0, files=("hdl/gone.v",))
    if what == "top module":
        return replaced(graph, 0, top_module="x; endmodule")
    if what == "no top module":
        return replaced(graph, 0, top_module=None)
    if what == "other top module":
        return replaced(graph, 0, top_module="nowhere")
    if what == "no thresholds":
        return replaced(graph, 2, files=("hdl/th.v",))
    return replaced(graph, 1, impl="dsp")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no producer", "'z', consumed by node 'fc1', has no producer"),
        ("no consumer", "'a' is consumed by node 'fc1' and by node 'th'"),
        ("two producers", "'a' is produced by node 'fifo' and by node 'fc1'"),
        ("elements", "'a' leaves node 'fifo' as 2 beats of 2 values of 4 bits and enters"),
        ("bits", "enters node 'fc1' as 2 beats of 2 values of 16 bits"),
        ("node twice", "Two nodes of the hardware graph are named 'fifo'"),
        ("no nodes", "graph of 'tiny' has no nodes"),
        ("operator", r"'fifo' has the operator 'LabelSelect', for which FINN has no RTL"),
        ("hls", r"'fifo' \(StreamingFIFO, hls\) has no RTL from FINN"),
        ("own operator", "operator 'FMPadding', for which hw/rtl has no module"),
        ("no attribute", "'MH' of node 'fc1' is None"),
        ("weight width", "'fc1' cannot be packed: .* outside -2..1"),
        ("no weight type", "'weight_signed' of node 'fc1' are 3, None"),
        ("no type at all", "'weight_bits' and 'weight_signed' of node 'fc1' are None, None"),
        ("xnor", "'fc1' multiplies by XNOR"),
        ("folding", "'b' carries 1 values per beat, which does not match PE 2"),
        ("weights' shape", r"shape \(4, 4\); its MW and MH are \(4, 8\)"),
        ("thresholds inside", "'fc1' has thresholds inside"),
        ("file outside", r"'\.\./secret\.v' of the hardware graph is not in"),
        ("file missing", r"'hdl/gone\.v' of the hardware graph is not in"),
        ("top module", "top module of node 'fifo' is 'x; endmodule'"),
        ("no top module", "'fifo' from FINN names no top module"),
        ("other top module", "No source file declares the module 'nowhere'"),
        ("no thresholds", "'th' hold thresholds of 0 prefixes"),
        ("dsp of ours", "implementation 'dsp' from 'adaqat'"),
    ],
)
def test_a_broken_graph_is_refused_before_anything_is_written(build, what, message):
    graph, parameters, folder = build()
    (folder.parent / "secret.v").write_text("module x;\nendmodule\n")
    with pytest.raises(ConfigError, match=message):
        stitch(broken(graph, what), folder, parameters=parameters)
    assert sorted(p.name for p in folder.iterdir()) == ["hdl"]


def test_missing_weights_and_a_bad_top(build):
    graph, parameters, folder = build()
    some = {"fc1__weights": parameters["fc1__weights"]}
    with pytest.raises(ConfigError, match="Parameter 'fc2__weights' of node 'fc2' is missing"):
        stitch(graph, folder, parameters=some)
    with pytest.raises(ConfigError, match="top module's name is 'module'"):
        stitch(graph, folder, parameters=parameters, top="module")

"""Folding to a target: what the record says, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from adaqat_hw import boards, families
from adaqat_hw.compile.fold import fold_graph, implementations, names_after, narrow_weights
from adaqat_hw.compile.throughput import folded, unfolded
from adaqat_hw.cost.hardware_cost import load_cost_model
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import BuildRequest, HardwareGraph, ThroughputRequest
from adaqat_hw.schema.folding import FoldingRecord, FoldingTarget

# An unfolded CNN as FINN 1.6.1 made it: 3x16x16, 8 and 16 channels, pools, ten classes.
UNFOLDED = Path(__file__).parent / "folding" / "cnn-unfolded.json"
REQUEST = BuildRequest(
    model="/nowhere/cnn.onnx", model_sha256="0" * 64, network="cnn", board="pynq-z2",
    part="xc7z020clg400-1", dsp=families.load("xc7").dsp, clock_ns=10.0, goal="rtl",
    variant="qonnx", throughput=ThroughputRequest(kind="fit", fill=0.06),
)  # fmt: skip


@pytest.fixture(scope="module")
def graph():
    return HardwareGraph.read(UNFOLDED)


@pytest.fixture(scope="module")
def fold(graph):
    """Fold the CNN to a target on a board."""

    def run(board="pynq-z2", request=REQUEST, **target):
        chosen = boards.load(board)
        model = load_cost_model(families.load("xc7"))
        return fold_graph(graph, request, chosen, FoldingTarget(**target), model)

    return run


def test_a_frame_rate_is_met_and_every_number_adds_up(fold, graph):
    record = fold(fps=15_000)
    assert record.fps >= 15_000
    assert record.interval == max(row.cycles for row in record.nodes) <= 6666
    assert len(record.nodes) == len(graph.nodes)
    for name in ("lut", "ff", "dsp", "bram_18k"):
        parts = [getattr(row.resources, name) for row in record.nodes]
        total = getattr(record.total, name)
        assert abs(sum(parts) + getattr(record.streams, name) - total) <= len(parts) + 1
        assert getattr(record.error, name) <= total or total == 0
    assert record.total.lut > record.error.lut > 0
    assert record.utilisation["lut"] == pytest.approx(record.total.lut / 53200, rel=0.01)
    assert FoldingRecord.parse_text(record.to_json(), "test") == record


def test_more_frames_cost_more_and_a_smaller_room_is_slower(fold):
    slow, quick = fold(fps=2_000), fold(fps=20_000)
    assert slow.total.lut < quick.total.lut
    wide, narrow = fold(fill=0.7), fold(fill=0.06)
    assert wide.fps > narrow.fps
    assert narrow.total.lut <= 0.06 * 53200
    assert narrow.capacity.lut == 3192


def test_the_bottleneck_is_named_with_what_stands_in_its_way(fold):
    assert fold(fill=0.7).bottleneck.reason == (
        "node_Conv_76 (ConvolutionInputGenerator) at SIMD 3: no legal folding takes fewer than "
        "2,343 cycles per frame; its PE and SIMD are as large as its shape allows"
    )
    record = fold(fill=0.06)
    short = record.bottleneck
    assert record.folding[short.node] == short.folds
    assert re.fullmatch(
        r"node_Conv_76 \(MVAU\) at PE \d+ SIMD \d+: the next legal step \([\d,]+ cycles per "
        r"frame\) needs [\d,]+ LUT more than 6 % of pynq-z2 has",
        short.reason,
    )
    asked = fold(fps=2_000)
    assert asked.bottleneck.cycles == asked.interval
    assert re.fullmatch(
        r"node_Conv_77 \(MVAU\) at PE \d+ SIMD \d+: [\d,]+ cycles per frame are enough, 2,000 "
        r"frames per second leave 50,000",
        asked.bottleneck.reason,
    )


def test_the_request_gets_the_folding_by_the_names_after_it(fold, graph):
    record = fold(fill=0.06)
    request = folded(REQUEST, record)
    assert request.folding == record.folding
    assert request.folded_impl == record.impl_per_layer
    assert request.folded_by == "cost_model"
    assert (request.goal, request.throughput) == (REQUEST.goal, REQUEST.throughput)
    assert request.digest() != REQUEST.digest()
    impls = [row.impl for row in record.nodes if row.op == "MVAU"]
    mvaus = [name for name in record.folding if name.startswith("MVAU")]
    backends = [name.split("_")[1] for name in mvaus]
    assert backends == [{"lut": "hls", "dsp": "rtl"}[impl] for impl in impls]
    for backend in set(backends):
        numbers = [int(name.split("_")[2]) for name in mvaus if f"_{backend}_" in name]
        assert numbers == list(range(len(numbers)))
    assert set(record.impl_per_layer) == {n.layer for n in graph.nodes if n.op == "MVAU"}


def test_the_start_of_the_search_is_the_unfolded_estimate():
    start = unfolded(REQUEST)
    assert (start.goal, start.folded_by, start.folding) == ("estimate", "nobody", None)
    assert start.throughput == ThroughputRequest(kind="unfolded")
    other = REQUEST.model_copy(update={"throughput": ThroughputRequest(kind="fit", fill=0.5)})
    assert unfolded(other).digest() == start.digest() != REQUEST.digest()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            {"fps": 1_000_000},
            r"^'cnn' cannot reach 1,000,000 frames per second at 10 ns: node_Conv_76 "
            r"\(ConvolutionInputGenerator\) takes 2,343 cycles at its most parallel folding, so "
            r"42,680 is the fastest\.$",
        ),
        (
            {"fps": 40_000, "fill": 0.06},
            r"^'cnn' at 40,000 frames per second needs [\d,]+ LUT more than 6 % of pynq-z2 has "
            r"\(predicted\); the fastest that fits is [\d,]+ frames per second\.$",
        ),
        (
            {"fill": 0.01},
            r"^'cnn' does not fit in 1 % of pynq-z2 at any folding: the smallest needs [\d,]+ LUT "
            r"and [\d,]+ FF more \(predicted\), and the fewest LUTs it can have are [\d,]+; take a "
            r"larger board or fewer bits\.$",
        ),
    ],
)
def test_a_target_out_of_reach_is_refused_with_the_nearest(fold, target, message):
    with pytest.raises(ConfigError, match=message):
        fold(**target)


def test_the_nearest_that_is_named_is_feasible(fold):
    with pytest.raises(ConfigError) as refused:
        fold(fps=40_000, fill=0.06)
    nearest = int(re.search(r"fits is ([\d,]+)", str(refused.value))[1].replace(",", ""))
    assert fold(fps=nearest, fill=0.06).fps >= nearest
    with pytest.raises(ConfigError):
        fold(fps=round(nearest * 1.5), fill=0.06)


def test_what_the_request_fixes_is_not_chosen(fold, graph):
    asked = {"node_Conv_76": "lut", "node_linear": "lut"}
    request = REQUEST.model_copy(update={"impl": "auto", "impl_per_layer": asked})
    as_built = graph.model_copy(
        update={
            "nodes": tuple(
                n.model_copy(update={"attributes": {**n.attributes, "dsp_refusal": "1 bit"}})
                if n.layer == "node_Conv_77"
                else n
                for n in graph.nodes
            )
        }
    )
    allowed = implementations(as_built, request)
    # What was asked for stands as the estimate was built; what DSP blocks cannot take is in LUTs.
    assert allowed == {"MVAU_rtl_0": ("dsp",), "MVAU_hls_0": ("lut",), "MVAU_hls_1": ("lut",)}
    assert implementations(graph, REQUEST) == dict.fromkeys(allowed, ("lut", "dsp"))


def test_names_that_do_not_follow_finns_rule_are_refused(graph):
    odd = graph.model_copy(
        update={
            "nodes": tuple(
                n.model_copy(update={"name": "MVAU_hls_7"}) if n.name == "MVAU_hls_1" else n
                for n in graph.nodes
            )
        }
    )
    impls = {n.name: n.impl for n in odd.nodes}
    with pytest.raises(
        ConfigError,
        match=r"^Node 'MVAU_hls_7' should be named 'MVAU_hls_1', so the names after folding "
        r"cannot be told; give the folding by hand\.$",
    ):
        names_after(odd, impls)
    swapped = {n.name: "lut" if n.impl else None for n in graph.nodes}
    names = names_after(graph, swapped)
    assert [names[n] for n in ("MVAU_rtl_0", "MVAU_hls_0", "MVAU_hls_1")] == [
        "MVAU_hls_0", "MVAU_hls_1", "MVAU_hls_2",
    ]  # fmt: skip


def test_narrow_weights_leave_out_the_most_negative_value(graph):
    arrays = {n.parameters["weights"]: np.array([[-7, 7]]) for n in graph.nodes if n.op == "MVAU"}
    assert set(narrow_weights(graph, arrays).values()) == {True}
    arrays["MVAU_hls_0__weights"] = np.array([[-8, 7]])
    assert narrow_weights(graph, arrays)["MVAU_hls_0"] is False

"""What the synthesis of a build synthesizes, and what its total then is."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaqat_hw import boards
from adaqat_hw.compile import synthesize
from adaqat_hw.compile.design import Design
from adaqat_hw.rtl.stitch import RtlUnit, StitchedDesign
from adaqat_hw.rtl.synthesize import SynthesisResult
from adaqat_hw.run import BuildFolder
from adaqat_hw.schema import HardwareGraph, ResourceReport, Resources

GRAPH = Path(__file__).parent / "folding" / "cnn-unfolded.json"
LAYER_LUTS = 300


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Return a function that synthesizes on fakes, with so many nodes and LUTs per layer."""
    graph = HardwareGraph.read(GRAPH)
    layers = list(dict.fromkeys(node.layer for node in graph.nodes if node.layer))
    calls = []

    def run(nodes=10, lut=LAYER_LUTS, whole=None, loose=()):
        calls.clear()
        many = tuple(graph.nodes[k % len(graph.nodes)] for k in range(nodes))
        shown = graph.model_construct(**{**dict(graph), "nodes": many})
        unit = RtlUnit("unit", (), {}, ("node",))
        design = StitchedDesign(
            tmp_path, "top", (), {}, 8, 8, dict.fromkeys(loose, unit),
            dict.fromkeys(layers, unit), tuple(loose),
        )  # fmt: skip

        def synthesize_many(jobs, progress):
            calls.append([job.name for job in jobs])
            return {job.name: result(7000 if job.name == synthesize.WHOLE else lut) for job in jobs}

        monkeypatch.setattr(Design, "stitch", lambda self, graph: design)
        monkeypatch.setattr(synthesize, "synthesize_many", synthesize_many)
        board = boards.load("pynq-z2")
        compiled = Design(BuildFolder(tmp_path), shown)
        text, _ = synthesize.synthesize_design(compiled, board, "w4a4", lambda note: None, whole)
        return ResourceReport.read(tmp_path / "resources-yosys_synth.json"), text, list(calls)

    run.layers = layers
    return run


def result(lut):
    return SynthesisResult(
        Resources(lut=lut, ff=2 * lut, dsp=0, bram_18k=0), {}, 0, {}, (), 1.0, "0.70",
        Path("log"), cached=False,
    )  # fmt: skip


def test_a_small_design_is_synthesized_beside_its_layers(build):
    report, text, calls = build()
    assert calls == [[synthesize.WHOLE, *build.layers]]
    assert (report.total.lut, report.total_is_sum) == (7000, False)
    assert report.layer_sum.lut == LAYER_LUTS * len(build.layers)
    assert "whole design 7000 LUT" in text


def test_a_large_design_is_the_sum_of_its_layers(build):
    report, text, calls = build(
        nodes=synthesize.FEW_NODES + 1, lut=synthesize.FEW_LUTS, loose=("fork",)
    )
    assert calls == [[*build.layers, "fork"]]
    assert report.total_is_sum
    assert report.total.lut == synthesize.FEW_LUTS * (len(build.layers) + 1)
    assert report.layer_sum.lut == synthesize.FEW_LUTS * len(build.layers)
    assert report.unmatched == ("fork",)
    assert "was not synthesized as one" in text


def test_many_nodes_of_few_luts_are_synthesized_whole_afterwards(build):
    report, _, calls = build(nodes=synthesize.FEW_NODES + 1)
    assert calls == [build.layers, [synthesize.WHOLE]]
    assert not report.total_is_sum


@pytest.mark.parametrize("whole", [True, False])
def test_whoever_says_it_gets_it(build, whole):
    nodes = 10 if not whole else synthesize.FEW_NODES + 1
    report, _, calls = build(nodes=nodes, lut=synthesize.FEW_LUTS, whole=whole)
    assert (synthesize.WHOLE in calls[0]) == whole
    assert len(calls) == 1
    assert report.total_is_sum != whole

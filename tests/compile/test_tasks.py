from __future__ import annotations

import pytest

from adaqat_hw.compile.backend import BACKENDS
from adaqat_hw.compile.compile import estimate_report
from adaqat_hw.compile.design import Design, layer_rows
from adaqat_hw.compile.tasks import BuildTask
from adaqat_hw.errors import StageFailed
from adaqat_hw.run import BuildFolder
from adaqat_hw.schema import (
    HardwareGraph,
    HardwareNode,
    HostInterface,
    IntType,
    Resources,
    Stream,
)


def task(folder, action, **inputs):
    return BuildTask("work", BuildFolder(folder), inputs, action)


def test_a_task_runs_once_per_inputs(tmp_path):
    calls = []

    def action(note):
        calls.append(1)
        (tmp_path / "out").write_text("x")
        return "done", ["out"]

    first = task(tmp_path, action, a=1)
    assert not first.is_done()
    assert first.run(lambda text: None) == "done"
    assert first.is_done()
    assert not task(tmp_path, action, a=2).is_done()
    (tmp_path / "out").write_text("changed")
    assert not first.is_done()
    assert len(calls) == 1


def test_a_failed_task_is_not_done(tmp_path):
    def action(note):
        (tmp_path / "out").write_text("half")
        raise StageFailed("work", "no luck")

    failing = task(tmp_path, action)
    with pytest.raises(StageFailed, match="no luck"):
        failing.run(lambda text: None)
    assert not failing.is_done()


def node(name, layer, lut, op="MVAU"):
    stream = Stream(name=name, dtype=IntType(bits=4, signed=False), folded_shape=(1, 1))
    return HardwareNode(
        name=name,
        op=op,
        backend="rtl",
        layer=layer,
        generator="finn",
        inputs=(stream,),
        outputs=(stream,),
        attributes={},
        cycles=1,
        estimate=Resources(lut=lut, dsp=0),
    )


def graph(*nodes):
    four = IntType(bits=4, signed=False)
    return HardwareGraph(
        network="n",
        part="p",
        clock_ns=10.0,
        nodes=nodes,
        input_stream=nodes[0].inputs[0],
        output_stream=nodes[-1].outputs[0],
        host=HostInterface(
            input_scale=1.0,
            input_dtype=four,
            input_nchw=False,
            input_shape=(1,),
            output_shape=(1,),
            output_dtype=four,
            output_scale=(1.0,),
            output_bias=(0.0,),
        ),
        parameters_file="p.npz",
        parameters_sha256="0",
        golden_file="g.npz",
        golden_sha256="0",
        cycles_estimated=1,
        fps_estimated=1.0,
    )


def test_rows_group_the_nodes_of_a_layer_and_list_the_rest(tmp_path):
    made = graph(node("a", "conv1", 10), node("b", "conv1", 5), node("c", None, 2))
    rows, loose = layer_rows(made, {n.name: n.estimate for n in made.nodes}.__getitem__)
    assert [(r.layer, r.nodes, r.resources.lut) for r in rows] == [("conv1", ("a", "b"), 15)]
    assert loose == ("c",)


def test_the_estimate_never_turns_missing_into_zero(tmp_path):
    made = graph(node("a", "conv1", 10), node("b", "conv1", None), node("c", None, 2))
    design = Design(BuildFolder(tmp_path), made)
    made.write(design.folder.hardware)
    report = estimate_report(design, BACKENDS["finn-streams"], "learned", "1.6.1")
    assert report.total == Resources(lut=None, ff=None, dsp=0, bram_18k=None, uram=None)
    assert report.layers[0].resources.lut is None
    assert report.unmatched == ("c",)
    assert (report.source, report.tool, report.source_file) == (
        "finn_estimate",
        "finn-plus",
        "hardware.json",
    )

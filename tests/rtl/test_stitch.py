"""What the stitcher writes, and which files each unit gets."""

from __future__ import annotations

import re

import pytest

from adaqat_hw.errors import ConfigError, StageFailed
from adaqat_hw.rtl.stitch import stitch
from tests.rtl.stitch_builds import (
    HELPER,
    replaced,
    residual,
)


def test_what_is_written(build):
    graph, parameters, folder = build()
    design = stitch(graph, folder, parameters=parameters)
    rtl = folder / "rtl"
    files = sorted(p.relative_to(rtl).as_posix() for p in rtl.rglob("*") if p.is_file())
    assert files == [
        "accelerator.sv",
        "adaqat/adq_adder_tree.sv",
        "adaqat/adq_mvau_lut.sv",
        "data/node_fc1_weights.hex",
        "data/node_fc2_weights.hex",
        "data/th_threshs_0_0.dat",
        "files.f",
        "finn/fifo_wrapper.v",
        "finn/helper.sv",
        "finn/th.v",
        "layer_0.sv",
        "layer_1.sv",
        "node_fc1.sv",
        "node_fc2.sv",
        "node_fifo.sv",
        "node_th.sv",
    ]
    assert (design.input_width, design.output_width) == (8, 32)
    listed = (rtl / "files.f").read_text().split()
    assert [rtl / name for name in listed] == list(design.sources)
    assert listed.index("finn/helper.sv") < listed.index("finn/fifo_wrapper.v")
    assert listed[-1] == "accelerator.sv"
    assert set(design.data_files) == {p.name for p in (rtl / "data").iterdir()}
    text = (rtl / "accelerator.sv").read_text()
    assert "  // MVAU, layer: fc1\n  node_fc1 fc1 (" in text
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []


def test_units_hold_what_they_need_and_no_more(build):
    graph, parameters, folder = build()
    design = stitch(graph, folder, parameters=parameters)
    assert list(design.layers) == ["fc1", "fc2"]
    first, second = design.layers["fc1"], design.layers["fc2"]
    assert first.nodes == ("fifo", "fc1", "th")
    assert set(first.data_files) == {"node_fc1_weights.hex", "th_threshs_0_0.dat"}
    assert {path.name for path in second.sources} == {
        "adq_adder_tree.sv", "adq_mvau_lut.sv", "node_fc2.sv", "layer_1.sv",
    }  # fmt: skip
    fifo = design.nodes["fifo"]
    assert [path.name for path in fifo.sources] == ["helper.sv", "fifo_wrapper.v", "node_fifo.sv"]
    assert (fifo.module, fifo.data_files) == ("node_fifo", {})
    assert design.without_layer == ()
    for unit in (*design.layers.values(), *design.nodes.values()):
        for path in (*unit.sources, *unit.data_files.values()):
            assert path.is_file()


def test_weight_files_hold_the_parameters(build):
    graph, parameters, folder = build()
    design = stitch(graph, folder, parameters=parameters)
    words = [int(x, 16) for x in design.data_files["node_fc2_weights.hex"].read_text().split()]
    w = parameters["fc2__weights"]
    # fc2: PE 2, SIMD 1; word 5 = nf 1, sf 1 holds rows 2 and 3, column 1.
    assert len(words) == 8
    assert words[5] == (int(w[1, 2]) & 7) | (int(w[1, 3]) & 7) << 3


def test_stitching_again_replaces_everything(build):
    graph, parameters, folder = build()
    stitch(graph, folder, parameters=parameters)
    (folder / "rtl" / "stale.sv").write_text("")
    first = (folder / "rtl" / "accelerator.sv").read_text()
    stitch(graph, folder, parameters=parameters)
    assert not (folder / "rtl" / "stale.sv").exists()
    assert (folder / "rtl" / "accelerator.sv").read_text() == first
    with pytest.raises(ConfigError):
        stitch(graph, folder, parameters={})
    assert (folder / "rtl" / "accelerator.sv").read_text() == first


def test_finn_sources_are_mended_in_the_copy_only(build):
    graph, parameters, folder = build()
    helper = folder / "hdl" / "rtllib" / "vpc.sv"
    original = HELPER.replace(";\n", ";\n`default_nettype none\n", 1)
    helper.write_text(original)
    (folder / "hdl" / "rtllib" / "helper.sv").unlink()
    graph = replaced(graph, 0, files=("hdl/fifo_wrapper.v", "hdl/rtllib/vpc.sv"))
    graph = graph.model_copy(update={"rtllib_files": ()})
    stitch(graph, folder, parameters=parameters)
    assert "default_nettype" not in (folder / "rtl" / "finn" / "vpc.sv").read_text()
    assert helper.read_text() == original
    helper.write_text(HELPER)
    with pytest.raises(StageFailed, match="nettype-in-vpc"):
        stitch(graph, folder, parameters=parameters)
    assert "Patched" in (folder / "rtl" / "finn" / "vpc.sv").read_text()
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []


def test_a_layer_of_several_streams_shares_no_names_with_its_nodes(tmp_path):
    """Ports 1 and up belong to a layer as much as port 0."""
    graph, parameters = residual(2, label=False)
    nodes = [
        node.model_copy(update={"name": new, "layer": "all"})
        for node, new in zip(
            graph.nodes, ("in1_V_TDATA", "out0_V_TVALID", "in1_V", "fc"), strict=True
        )
    ]
    nodes = [node for node in nodes if node.name != "fc"]
    rest = [n.model_copy(update={"layer": "rest"}) for n in graph.nodes if n.name == "fc"]
    graph = graph.model_copy(update={"nodes": (*nodes, *rest)})
    design = stitch(graph, tmp_path, parameters=parameters)
    text = (design.folder / "layer_0.sv").read_text()
    # in1 is the MVAU's result, which comes from the other layer.
    assert "input  logic in1_V_TVALID" in text
    labels = re.findall(r"^  \w+ (\w+) \($", text, re.MULTILINE)
    assert len(labels) == 3
    ports = re.findall(r"^    (?:input |output) logic (?:\[.*\] )?(\w+)", text, re.MULTILINE)
    assert not set(labels) & set(ports)

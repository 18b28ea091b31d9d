from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from adaqat_hw.errors import ConfigError
from adaqat_hw.qonnx_file import load_qonnx


def _model() -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.ones((64, 8), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])


def _external(path: Path, location: str) -> None:
    model = _model()
    tensor = model.graph.initializer[0]
    raw = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())
    if "/" not in location:
        (path.parent / location).write_bytes(raw)


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    onnx.save(_model(), str(path))
    assert load_qonnx(path).graph.node[0].name == "fc"


def test_missing_folder_and_empty_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.onnx' does not exist"):
        load_qonnx(tmp_path / "gone.onnx")
    with pytest.raises(ConfigError, match=r"is a folder; give the \.onnx file"):
        load_qonnx(tmp_path)
    (tmp_path / "e.onnx").write_bytes(b"")
    with pytest.raises(ConfigError, match="is empty"):
        load_qonnx(tmp_path / "e.onnx")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    data = _model().SerializeToString()
    path = tmp_path / "t.onnx"
    for length in range(1, len(data) - 1, 7):
        path.write_bytes(data[:length])
        try:
            model = load_qonnx(path)
        except ConfigError:
            continue
        # The protobuf can be whole only when nothing but the trailing opset fields is gone.
        assert model.graph.SerializeToString() == _model().graph.SerializeToString()


@pytest.mark.parametrize("data", [b"%PDF-1.7 hello", b"\x00" * 40, b'{"record": "Board"}'])
def test_what_is_no_onnx_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "n.onnx"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"no ONNX model.*export the network again"):
        load_qonnx(path)


def test_a_tensor_that_nothing_produces_is_named(tmp_path: Path) -> None:
    model = _model()
    del model.graph.initializer[:]
    path = tmp_path / "d.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ConfigError, match="node 'fc' reads tensor 'w', which nothing before it"):
        load_qonnx(path)


def test_an_output_that_nothing_produces_is_named(tmp_path: Path) -> None:
    model = _model()
    model.graph.output[0].name = "z"
    path = tmp_path / "d.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ConfigError, match="nothing produces its output 'z'"):
        load_qonnx(path)


def test_external_data_beside_the_file_is_loaded(tmp_path: Path) -> None:
    _external(tmp_path / "x.onnx", "weights.bin")
    model = load_qonnx(tmp_path / "x.onnx")
    assert numpy_helper.to_array(model.graph.initializer[0]).sum() == 64 * 8


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", ""])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    _external(tmp_path / "x.onnx", location or "a/..")
    with pytest.raises(ConfigError, match=r"tensor 'w' in .*outside its own folder.*refused"):
        load_qonnx(tmp_path / "x.onnx")


def test_external_data_that_is_gone_is_named(tmp_path: Path) -> None:
    _external(tmp_path / "x.onnx", "weights.bin")
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ConfigError, match=r"'weights\.bin', which does not exist"):
        load_qonnx(tmp_path / "x.onnx")

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from adaqat_hw.errors import ConfigError
from adaqat_hw.qonnx_file import external_files, load_qonnx
from tests.error_texts import raises_text


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
    with raises_text(
        ConfigError, f"QONNX file '{tmp_path}/gone.onnx' does not exist; export the network first."
    ):
        load_qonnx(tmp_path / "gone.onnx")
    with raises_text(
        ConfigError, f"'{tmp_path}' is a folder; give the .onnx file that lies in it."
    ):
        load_qonnx(tmp_path)
    (tmp_path / "e.onnx").write_bytes(b"")
    with raises_text(
        ConfigError,
        f"QONNX file '{tmp_path}/e.onnx' is empty; export the network again or give another file.",
    ):
        load_qonnx(tmp_path / "e.onnx")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    data = _model().SerializeToString()
    path = tmp_path / "t.onnx"
    lengths = range(1, len(data) - 1, 7)
    refused = 0
    for length in lengths:
        path.write_bytes(data[:length])
        try:
            model = load_qonnx(path)
        except ConfigError:
            refused += 1
            continue
        # The protobuf can be whole only when nothing but the trailing opset fields is gone.
        assert model.graph.SerializeToString() == _model().graph.SerializeToString()
    assert refused >= len(lengths) - 1


@pytest.mark.parametrize("data", [b"\x00" * 40, b'{"record": "Board"}'])
def test_what_is_no_protobuf_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "n.onnx"
    path.write_bytes(data)
    with raises_text(
        ConfigError,
        f"QONNX file '{path}' is truncated or no ONNX model ({len(data)} bytes that do not "
        "decode); "
        "export the network again or give another file.",
    ):
        load_qonnx(path)


def test_a_protobuf_without_a_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "n.onnx"
    path.write_bytes(b"%PDF-1.7 hello")
    with raises_text(
        ConfigError,
        f"'{path}' is no ONNX model or was cut short (it holds 0 nodes and 0 outputs); export the "
        "network again or give another file.",
    ):
        load_qonnx(path)


def test_a_tensor_that_nothing_produces_is_named(tmp_path: Path) -> None:
    model = _model()
    del model.graph.initializer[:]
    path = tmp_path / "d.onnx"
    path.write_bytes(model.SerializeToString())
    with raises_text(
        ConfigError,
        f"QONNX file '{tmp_path}/d.onnx' is damaged: node 'fc' reads tensor 'w', which "
        "nothing before it produces; export the network again or give another file.",
    ):
        load_qonnx(path)


def test_an_output_that_nothing_produces_is_named(tmp_path: Path) -> None:
    model = _model()
    model.graph.output[0].name = "z"
    path = tmp_path / "d.onnx"
    path.write_bytes(model.SerializeToString())
    with raises_text(
        ConfigError,
        f"QONNX file '{tmp_path}/d.onnx' is damaged: nothing produces its output 'z'; "
        "export the network again or give another file.",
    ):
        load_qonnx(path)


def test_external_data_beside_the_file_is_loaded(tmp_path: Path) -> None:
    _external(tmp_path / "x.onnx", "weights.bin")
    model = load_qonnx(tmp_path / "x.onnx")
    assert numpy_helper.to_array(model.graph.initializer[0]).sum() == 64 * 8


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", ""])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    _external(tmp_path / "x.onnx", location or "a/..")
    with raises_text(
        ConfigError,
        f"QONNX file '{tmp_path}/x.onnx' keeps tensor 'w' in {location or 'a/..'!r}, outside its "
        "own "
        "folder, which is refused; save the model with its weights inside.",
    ):
        load_qonnx(tmp_path / "x.onnx")


def test_external_data_that_is_gone_is_named(tmp_path: Path) -> None:
    _external(tmp_path / "x.onnx", "weights.bin")
    (tmp_path / "weights.bin").unlink()
    with raises_text(
        ConfigError,
        f"QONNX file '{tmp_path}/x.onnx' keeps tensor 'w' in 'weights.bin', which does "
        "not exist; put that file beside it or save the weights inside.",
    ):
        load_qonnx(tmp_path / "x.onnx")


def _write(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("../../etc/x", "leads out of its folder ('..')"),
        ("a/../b", "leads out of its folder ('..')"),
        ("a\nb", r"holds '\n'"),
        ("a\x00b", r"holds '\x00'"),
        ("\\esc ", r"holds '\\'"),
        ("`include", "holds '`'"),
        ('a"b', "holds '\"'"),
        ("$finish", "holds '$'"),
        ("a;b", "holds ';'"),
        ("[exec {ls}]", "holds '{'"),
        ("a/*b", "holds '/*'"),
        ("naïve", "holds 'ï'"),
        ("x" * 2000, "is 2000 characters long, where 1024 are allowed"),
    ],
)
@pytest.mark.parametrize("where", ["node", "tensor", "operator", "initializer"])
def test_a_name_that_is_more_than_a_name_is_refused(
    tmp_path: Path, name: str, fault: str, where: str
) -> None:
    model = _model()
    node = model.graph.node[0]
    if where == "node":
        node.name = name
    elif where == "operator":
        node.op_type = name
    elif where == "tensor":
        node.output[0] = model.graph.output[0].name = name
    else:
        node.input[1] = model.graph.initializer[0].name = name
    what = "tensor" if where == "initializer" else where
    with raises_text(
        ConfigError,
        f"QONNX file '{tmp_path}/n.onnx' has the {what} name {name[:80]!r}, which {fault} and is "
        "refused; rename it or export the network again or give another file.",
    ) as caught:
        load_qonnx(_write(tmp_path / "n.onnx", model))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["/layers.0/MatMul", "onnx::MatMul_12", "a-b[3]:0", "Quant 1", "."]
)
def test_names_that_exporters_give_are_taken(tmp_path: Path, name: str) -> None:
    model = _model()
    model.graph.node[0].name = name
    assert load_qonnx(_write(tmp_path / "n.onnx", model)).graph.node[0].name == name


def test_a_missing_operator_set_is_refused(tmp_path: Path) -> None:
    model = _model()
    del model.opset_import[:]
    with raises_text(
        ConfigError,
        f"QONNX file '{tmp_path}/o.onnx' declares no operator set (opset_import); "
        "export the network again or give another file.",
    ):
        load_qonnx(_write(tmp_path / "o.onnx", model))
    model.opset_import.add(domain="", version=0)
    with raises_text(
        ConfigError,
        f"QONNX file '{tmp_path}/o.onnx' declares version 0 of operator set ''; allowed "
        "are 1 to 64: export the network again or give another file.",
    ):
        load_qonnx(_write(tmp_path / "o.onnx", model))


@pytest.mark.parametrize(
    ("dims", "fault"),
    [
        ([2**40], "; at most 268435456 elements are allowed: give a smaller network."),
        ([2**16, 2**16], "; at most 268435456 elements are allowed: give a smaller network."),
        (
            [1, -5],
            ", whose dimension -5 is negative; export the network again or give another file.",
        ),
    ],
)
@pytest.mark.parametrize("where", ["input", "initializer"])
def test_a_huge_or_negative_shape_is_refused(
    tmp_path: Path, dims: list[int], fault: str, where: str
) -> None:
    model = _model()
    if where == "input":
        shape = model.graph.input[0].type.tensor_type.shape
        del shape.dim[:]
        for dim in dims:
            shape.dim.add(dim_value=dim)
    else:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)
    tensor = "x" if where == "input" else "w"
    with raises_text(
        ConfigError, f"QONNX file '{tmp_path}/h.onnx' has tensor '{tensor}' of shape {dims}{fault}"
    ):
        load_qonnx(_write(tmp_path / "h.onnx", model))


def test_a_constant_that_becomes_a_huge_shape_is_refused(tmp_path: Path) -> None:
    model = _model()
    shape = numpy_helper.from_array(np.array([2**20, 2**20]), "big")
    model.graph.initializer.append(shape)
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["big"], ["z"]))
    with raises_text(
        ConfigError,
        f"QONNX file '{tmp_path}/c.onnx' has tensor 'big' of shape [1048576, 1048576]; "
        "at most 268435456 elements are allowed: give a smaller network.",
    ):
        load_qonnx(_write(tmp_path / "c.onnx", model))


def test_an_initializer_larger_than_the_file_is_refused(tmp_path: Path) -> None:
    model = _model()
    model.graph.initializer[0].dims[0] = 65
    with raises_text(
        ConfigError,
        f"QONNX file '{tmp_path}/i.onnx' is damaged: tensor 'w' of shape [65, 8] needs "
        "2080 bytes and holds 2048 bytes; export the network again or give another "
        "file.",
    ):
        load_qonnx(_write(tmp_path / "i.onnx", model))
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [2, 2], [1.0, 2.0, 3.0, 4.0])
    tensor.dims[0] = 3
    model.graph.initializer[0].CopyFrom(tensor)
    with raises_text(
        ConfigError,
        f"QONNX file '{tmp_path}/i.onnx' is damaged: tensor 'w' of shape [3, 2] needs 6 "
        "values and holds 4 values; export the network again or give another file.",
    ):
        load_qonnx(_write(tmp_path / "i.onnx", model))


def test_a_cycle_is_named(tmp_path: Path) -> None:
    model = _model()
    model.graph.node.extend(
        [helper.make_node("Add", ["y", "q"], ["p"]), helper.make_node("Relu", ["p"], ["q"])]
    )
    with raises_text(
        ConfigError,
        f"QONNX file '{tmp_path}/c.onnx' has a cycle through tensors 'q', 'p'; export "
        "the network again or give another file.",
    ):
        load_qonnx(_write(tmp_path / "c.onnx", model))


def test_nodes_in_wrong_order_are_no_cycle(tmp_path: Path) -> None:
    model = _model()
    model.graph.node.insert(0, helper.make_node("Relu", ["y"], ["late"]))
    with raises_text(
        ConfigError,
        f"QONNX file '{tmp_path}/c.onnx' is damaged: node 'Relu' reads tensor 'y', "
        "which nothing before it produces; export the network again or give another "
        "file.",
    ):
        load_qonnx(_write(tmp_path / "c.onnx", model))


def test_a_long_chain_needs_no_deep_stack(tmp_path: Path) -> None:
    model = _model()
    chain = [helper.make_node("Relu", [f"t{k}"], [f"t{k + 1}"]) for k in range(5000)]
    model.graph.node.extend([*reversed(chain)])
    with raises_text(
        ConfigError,
        f"QONNX file '{tmp_path}/l.onnx' is damaged: node 'Relu' reads tensor 't4999', "
        "which nothing before it produces; export the network again or give another "
        "file.",
    ):
        load_qonnx(_write(tmp_path / "l.onnx", model))


def test_a_tensor_produced_twice_is_refused(tmp_path: Path) -> None:
    model = _model()
    model.graph.node.append(helper.make_node("Relu", ["x"], ["y"]))
    with raises_text(
        ConfigError,
        f"QONNX file '{tmp_path}/t.onnx' is damaged: tensor 'y' is produced twice; "
        "export the network again or give another file.",
    ):
        load_qonnx(_write(tmp_path / "t.onnx", model))


@pytest.mark.parametrize(
    ("key", "value"), [("offset", "4096"), ("length", "99999"), ("offset", "-1"), ("length", "x")]
)
def test_external_data_beyond_its_file_is_refused(tmp_path: Path, key: str, value: str) -> None:
    path = tmp_path / "x.onnx"
    _external(path, "weights.bin")
    model = onnx.load(str(path), load_external_data=False)
    model.graph.initializer[0].external_data.add(key=key, value=value)
    given = {"offset": 0, "length": 0} | {key: value}
    with raises_text(
        ConfigError,
        f"QONNX file '{path}' keeps tensor 'w' at offset {given['offset']!r}, length "
        f"{given['length']!r} of 'weights.bin', which has 2048 bytes; export the network again or "
        "give another file.",
    ):
        load_qonnx(_write(path, model))


def test_a_link_out_of_the_folder_is_outside(tmp_path: Path) -> None:
    inner = tmp_path / "in"
    inner.mkdir()
    _external(inner / "x.onnx", "weights.bin")
    (inner / "weights.bin").rename(tmp_path / "secret.bin")
    (inner / "weights.bin").symlink_to(tmp_path / "secret.bin")
    with raises_text(
        ConfigError,
        f"QONNX file '{tmp_path}/in/x.onnx' keeps tensor 'w' in 'weights.bin', outside "
        "its own folder, which is refused; save the model with its weights inside.",
    ):
        load_qonnx(inner / "x.onnx")
    with raises_text(
        ConfigError,
        f"QONNX file '{tmp_path}/in/x.onnx' keeps tensor 'w' in 'weights.bin', outside "
        "its own folder, which is refused; save the model with its weights inside.",
    ):
        external_files(inner / "x.onnx")


def test_external_files_are_listed_once(tmp_path: Path) -> None:
    _external(tmp_path / "x.onnx", "weights.bin")
    assert external_files(tmp_path / "x.onnx") == ("weights.bin",)
    assert external_files(_write(tmp_path / "y.onnx", _model())) == ()

"""Every kind of network: named nodes, the plan's bits in the graph, the same logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from adaqat_hw.errors import ConfigError, ExportMismatch
from adaqat_hw.export.graph import layer_weights, name_layers, write_qonnx
from adaqat_hw.export.inspect import MAC_OPS, join_bits, read_bits
from adaqat_hw.export.verify import check_bits, compare_logits, run_graph
from adaqat_hw.qonnx_file import load_qonnx
from adaqat_hw.quant import QuantizedNetwork
from adaqat_hw.schema import QuantConfig
from tests.error_texts import raises_text

MakeNet = Callable[..., QuantizedNetwork]
_SMALL = {"channels": (4, 6, 8), "input_shape": (3, 8, 8)}
_CASES: list[tuple[str, int, int, dict[str, Any]]] = [
    ("mlp", 2, 2, {}),
    ("mlp", 3, 4, {"input_shape": (64,), "hidden": (16,), "head_bias": False}),
    ("demo-cnn", 3, 1, {}),
    ("resnet20", 4, 3, {**_SMALL, "shortcut": "B"}),
    ("cnv", 2, 3, {"channels": (4, 4, 4), "hidden": (8, 8)}),
]


@pytest.fixture(scope="module")
def resnet(
    make_net: MakeNet, tmp_path_factory: pytest.TempPathFactory
) -> tuple[QuantizedNetwork, Path]:
    """ResNet20 with parameter-free shortcuts, and its file."""
    net = make_net("resnet20", 3, 4, **_SMALL, shortcut="A")
    path = tmp_path_factory.mktemp("resnet") / "model.onnx"
    write_qonnx(net, path)
    return net, path


@pytest.mark.parametrize(("name", "weights", "acts", "options"), _CASES)
def test_networks_export_exactly(
    make_net: MakeNet, tmp_path: Path, name: str, weights: int, acts: int, options: dict[str, Any]
) -> None:
    net = make_net(name, weights, acts, **options)
    path = tmp_path / "model.onnx"
    write_qonnx(net, path)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    _check(net, path)


def test_parameter_free_shortcuts_export_exactly(resnet: tuple[QuantizedNetwork, Path]) -> None:
    _check(*resnet)


def _check(net: QuantizedNetwork, path: Path) -> None:
    model = load_qonnx(path)
    plan = net.plan("uniform")
    rows = check_bits(model, plan, "model.onnx")
    assert {row.layer: row for row in rows} == {row.layer: row for row in plan.layers}
    assert [n.name for n in model.graph.node if n.op_type in MAC_OPS] == [r.layer for r in rows]
    x = torch.rand(7, *net.spec.input_shape)
    with torch.no_grad():
        expected = net(x).numpy()
    found = run_graph(str(path), x.numpy(), batch=3)
    agreement = compare_logits(expected, found)
    assert agreement.max_abs_error < 1e-4
    assert agreement.mismatches == 0


def test_learned_ends_and_signed_scales_are_read_back(make_net: MakeNet, tmp_path: Path) -> None:
    net = make_net("demo-cnn", 2, 3, QuantConfig(ends="learned", input_bits=4, input_signed=False))
    write_qonnx(net, tmp_path / "m.onnx")
    bits = read_bits(tmp_path / "m.onnx")
    acts = [(b.act.bits, b.act.signed) for b in bits if b.act is not None]
    assert acts == [(4, False), (3, False), (3, False)]
    assert [b.weight.bits for b in bits if b.weight is not None] == [2, 2, 2]


def test_joins_are_read_and_compared(resnet: tuple[QuantizedNetwork, Path]) -> None:
    net, path = resnet
    model = load_qonnx(path)
    plan = net.plan("uniform")
    assert plan.joins
    assert join_bits(model, "m") == [(j.bits, j.signed) for j in plan.joins]
    wide = tuple(j.model_copy(update={"bits": 7}) for j in plan.joins)
    with raises_text(
        ExportMismatch,
        f"The residual adds of the exported graph have (bits, signed) {[(6, True)] * 9}, the "
        f"plan's joins {[(7, True)] * 9}; this is a fault of the export, please report it.",
    ):
        check_bits(model, plan.model_copy(update={"joins": wide}), "m")


@pytest.mark.parametrize(
    ("field", "value"),
    [("weight_bits", 5), ("act_bits", 6), ("act_signed", True), ("weight_narrow", False)],
)
def test_a_plan_that_differs_names_the_layer(
    make_net: MakeNet, tmp_path: Path, field: str, value: int
) -> None:
    net = make_net("demo-cnn")
    write_qonnx(net, tmp_path / "m.onnx")
    plan = net.plan("uniform")
    rows = list(plan.layers)
    rows[1] = rows[1].model_copy(update={field: value})
    other = plan.model_copy(update={"layers": tuple(rows)})
    with raises_text(
        ExportMismatch,
        f"Layer 'conv2' has {field} = {getattr(plan.layer('conv2'), field)!r} in the exported "
        f"graph and {value!r} in the plan; this is a fault of the export, please report it.",
    ):
        check_bits(load_qonnx(tmp_path / "m.onnx"), other, "m.onnx")


def test_a_plan_of_another_network_is_refused(make_net: MakeNet, tmp_path: Path) -> None:
    write_qonnx(make_net("demo-cnn"), tmp_path / "m.onnx")
    with raises_text(
        ExportMismatch,
        "'m.onnx' has the layers ['conv1', 'conv2', 'fc'], the plan ['fc1', 'fc2', "
        "'fc3']; export the network that the plan was learned on.",
    ):
        check_bits(load_qonnx(tmp_path / "m.onnx"), make_net("mlp").plan("uniform"), "m.onnx")


def test_layers_are_matched_by_their_weights(make_net: MakeNet, tmp_path: Path) -> None:
    net = make_net("demo-cnn")
    write_qonnx(net, tmp_path / "m.onnx")
    model = load_qonnx(tmp_path / "m.onnx")
    weights = layer_weights(net)
    name_layers(model, dict(reversed(weights.items())))
    assert [n.name for n in model.graph.node if n.op_type in MAC_OPS] == list(weights)
    changed = {**weights, "conv2": weights["conv2"] + 1}
    with raises_text(
        ExportMismatch,
        "Node 'conv2' (Conv) of the exported graph holds the weights of no layer that "
        "is left ('conv2', 'fc'); the exporter changed or duplicated a layer.",
    ):
        name_layers(model, changed)
    with raises_text(
        ExportMismatch,
        "Layers 'extra' have no node in the exported graph; the exporter dropped or merged them.",
    ):
        name_layers(model, {**weights, "extra": np.ones((2, 2))})


def test_changed_weights_are_noticed_in_the_logits(make_net: MakeNet, tmp_path: Path) -> None:
    net = make_net("demo-cnn")
    path = tmp_path / "m.onnx"
    write_qonnx(net, path)
    x = torch.rand(20, 1, 8, 8)
    with torch.no_grad():
        expected = net(x).numpy()
    model = onnx.load(str(path))
    tensor = next(t for t in model.graph.initializer if tuple(t.dims) == (16, 8, 3, 3))
    flipped = -numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(flipped, tensor.name))
    onnx.save(model, str(path))
    agreement = compare_logits(expected, run_graph(str(path), x.numpy()))
    assert agreement.max_abs_error > 0.01
    assert agreement.mismatches > 0


def test_batches_and_single_samples_give_the_same(
    make_net: MakeNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = make_net("demo-cnn")
    path = str(tmp_path / "m.onnx")
    write_qonnx(net, Path(path))
    x = torch.rand(5, 1, 8, 8).numpy()
    done: list[int] = []
    together = run_graph(path, x, batch=4, tick=done.append)
    assert done == [4, 5]
    from adaqat_hw.export import verify

    monkeypatch.setattr(
        verify, "_rebatched", lambda p, n: None if n > 1 else verify.ModelWrapper(p)
    )
    alone = run_graph(path, x, batch=4, tick=done.append)
    assert done[2:] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_addends_with_two_scales_are_refused(resnet: tuple[QuantizedNetwork, Path]) -> None:
    model = load_qonnx(resnet[1])
    add = next(n for n in model.graph.node if n.op_type == "Add")
    quant = next(n for n in model.graph.node if add.input[0] in n.output)
    scale = numpy_helper.from_array(np.asarray(9.0, np.float32), "other_scale")
    model.graph.initializer.append(scale)
    quant.input[1] = "other_scale"
    with raises_text(
        ConfigError,
        "The addends of 'Add_0' in 'm' are quantized differently (6 and 6 bits, scales "
        "9 and 0.1875); both must go through one quantizer.",
    ):
        join_bits(model, "m")

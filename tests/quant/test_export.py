"""Brevitas' own QONNX export of quantized networks."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from brevitas.export import export_qonnx
from onnx import numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes

from adaqat_hw.quant import calibrate_clips, quantize
from adaqat_hw.schema import QuantConfig


def export(network, path, x):
    export_qonnx(network.eval(), args=x, export_path=str(path), dynamo=False, opset_version=13)
    return onnx.load(str(path))


def quants(model):
    """Return {module path: (operator, bits, signed, narrow)} of all quantizers in the graph."""
    values = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    nodes = {}
    for node in model.graph.node:
        if node.op_type not in ("Quant", "BipolarQuant"):
            continue
        path = node.name.split("/")[2].removeprefix("network.")
        kind = "weights" if "/weight_quant/" in node.name else "acts"
        flags = {a.name: a.i for a in node.attribute}
        bits = int(values[node.input[3]]) if node.op_type == "Quant" else 1
        nodes[f"{kind}:{path}"] = (node.op_type, bits, flags.get("signed"), flags.get("narrow"))
    return nodes


def expected(network):
    rows = {f"weights:{n}": ("Quant", w.bits, 1, 1) for n, w in network.weight_widths.items()}
    return rows | {
        f"acts:{n}": ("Quant", w.bits, int(w.signed), 0) for n, w in network.act_widths.items()
    }


def executed(path, x):
    model = ModelWrapper(str(path)).transform(InferShapes())
    name, out = model.graph.input[0].name, model.graph.output[0].name
    return execute_onnx(model, {name: x.numpy()})[out]


def test_bits_and_values_in_the_graph_follow_run_time_widths(residual, shape, tmp_path):
    network = quantize(residual, QuantConfig(), **shape, weight_bits=4, act_bits=4)
    x = torch.randn(1, 1, 8, 8)
    assert quants(export(network, tmp_path / "a.onnx", x)) == expected(network)
    network.weight_widths["body.3"].set(2)
    network.act_widths["body.2"].set(6)
    network.act_widths["relu_join_quant"].set(3)
    model = export(network, tmp_path / "b.onnx", x)
    assert quants(model) == expected(network)
    assert expected(network)["acts:body.2"] == ("Quant", 6, 0, 0)
    with torch.no_grad():
        np.testing.assert_allclose(executed(tmp_path / "b.onnx", x), network(x), atol=2e-6)


def test_layers_are_found_by_their_node_names(residual, shape, tmp_path):
    network = quantize(residual, QuantConfig(), **shape)
    model = export(network, tmp_path / "a.onnx", torch.randn(1, 1, 8, 8))
    names = {n.name for n in model.graph.node if n.op_type in ("Conv", "Gemm", "MatMul")}
    assert names == {
        "/network/conv0/Conv",
        "/network/body.0/Conv",
        "/network/body.3/Conv",
        "/network/fc/Gemm",
    }


def test_fused_and_stock_arithmetic_export_the_same_graph(residual, shape, tmp_path):
    x, graphs = torch.randn(1, 1, 8, 8), []
    for fused in (True, False):
        network = quantize(residual, QuantConfig(), **shape, weight_bits=3, act_bits=4, fused=fused)
        graphs.append(export(network, tmp_path / f"{fused}.onnx", x).graph)
    nodes = [[(n.op_type, n.name, n.attribute) for n in g.node] for g in graphs]
    assert nodes[0] == nodes[1]
    # Tensors may have other names: the same node must read the same values.
    values = [{t.name: numpy_helper.to_array(t) for t in g.initializer} for g in graphs]
    same = {graphs[0].input[0].name: graphs[1].input[0].name}
    for a, b in zip(*[g.node for g in graphs], strict=True):
        for left, right in zip(a.input, b.input, strict=True):
            if left in values[0]:
                np.testing.assert_array_equal(values[0][left], values[1][right])
            else:
                assert same[left] == right
        same.update(zip(a.output, b.output, strict=True))


@pytest.mark.parametrize("fused", [True, False])
def test_one_bit_activations_are_exported_with_their_own_values(mlp, shape, tmp_path, fused):
    network = quantize(mlp, QuantConfig(), **shape, weight_bits=2, act_bits=1, fused=fused)
    x = torch.randn(1, 1, 8, 8)
    for name in ("a.onnx", "b.onnx"):  # Brevitas forgets its handlers after an export
        model = export(network, tmp_path / name, x)
        assert quants(model) == expected(network)
        with torch.no_grad():
            np.testing.assert_allclose(executed(tmp_path / name, x), network(x), atol=2e-6)
    network.act_widths["3"].set(4)
    assert quants(export(network, tmp_path / "c.onnx", x)) == expected(network)


def test_exporting_leaves_the_network_trainable(residual, shape, tmp_path):
    network = quantize(residual, QuantConfig(), **shape)
    x = torch.randn(4, 1, 8, 8)
    before = network.eval()(x)
    export(network, tmp_path / "a.onnx", x[:1])
    assert torch.equal(network(x), before)
    network.train()(x).sum().backward()
    assert network.network.fc.weight.grad is not None


@pytest.mark.parametrize(
    "keys",
    [
        {"clip_gradient": "scaled"},
        {"weight_range": "learned"},
        {"weight_range": "absmax"},
        {"weight_scaling": "per_tensor"},
        {"join_bits": "acts"},
    ],
    ids=str,
)
def test_every_setting_of_the_quantizers_is_exported_as_it_computes(
    residual, shape, tmp_path, keys
):
    network = quantize(residual, QuantConfig(**keys), **shape, weight_bits=3, act_bits=2)
    x = torch.randn(1, 1, 8, 8)
    calibrate_clips(network, torch.randn(8, 1, 8, 8))
    export(network, tmp_path / "a.onnx", x)
    np.testing.assert_allclose(
        executed(tmp_path / "a.onnx", x), network(x).detach().numpy(), atol=1e-5
    )

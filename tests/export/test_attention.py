"""Transformers: both operands of every product in the file, the same logits, integer inputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from adaqat_hw import nets
from adaqat_hw.errors import ExportMismatch
from adaqat_hw.export.graph import layer_weights, name_layers, write_qonnx
from adaqat_hw.export.inspect import (
    MAC_OPS,
    QuantNode,
    input_quant_of,
    join_bits,
    read_graph_bits,
)
from adaqat_hw.export.rounding import rounding_noise
from adaqat_hw.export.verify import check_bits, compare_logits, run_graph
from adaqat_hw.qonnx_file import load_qonnx
from adaqat_hw.quant import QuantizedNetwork, quantize
from adaqat_hw.schema import NetworkConfig, QuantConfig
from tests.error_texts import raises_text

_SETTINGS = {
    "vit": ("vit", {"input_shape": (3, 8, 8), "dim": 8, "depth": 1, "heads": 2}),
    "token": (
        "vit",
        {
            **{"input_shape": (1, 8, 8), "dim": 6, "depth": 1, "heads": 3, "pool": "token"},
            "activation": "relu",
        },
    ),
    "text": (
        "text-encoder",
        {"input_shape": (6,), "vocabulary": 11, "dim": 8, "depth": 1, "heads": 2},
    ),
}
Exported = Callable[[str], tuple[QuantizedNetwork, Path]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Give every quantizer of a small transformer a width of its own and export it, once."""
    made: dict[str, tuple[QuantizedNetwork, Path]] = {}

    def make(key: str) -> tuple[QuantizedNetwork, Path]:
        if key not in made:
            torch.manual_seed(0)
            name, options = _SETTINGS[key]
            config = NetworkConfig(name=name, options=options)
            info = nets.info(config)
            shape, classes = info.input_shape, info.num_classes
            net = quantize(
                nets.build(config), QuantConfig(), input_shape=shape, name=name, num_classes=classes
            )
            widths = [*net.weight_widths.values(), *net.act_widths.values()]
            for number, width in enumerate(widths):
                width.set(4 + number % 5)
            path = tmp_path_factory.mktemp(key) / "model.onnx"
            write_qonnx(net, path)
            made[key] = net.eval(), path
        return made[key]

    return make


def _inputs(net: QuantizedNetwork, count: int = 9) -> torch.Tensor:
    torch.manual_seed(1)
    shape = (count, *net.spec.input_shape)
    if not net.integer_input:
        return torch.rand(shape) * 2 - 1
    tokens = torch.randint(1, 11, shape)
    tokens[0] = 0  # nothing but padding
    tokens[1, 2:] = 0
    return tokens


@pytest.mark.parametrize("key", _SETTINGS)
def test_bits_of_both_operands_and_logits(exported: Exported, key: str) -> None:
    net, path = exported(key)
    model, plan = load_qonnx(path), net.plan("manual")
    rows = check_bits(model, plan, "model.onnx")
    assert {row.layer: row for row in rows} == {row.layer: row for row in plan.layers}
    assert {n.name for n in model.graph.node if n.op_type in MAC_OPS} == {r.layer for r in rows}
    assert sorted(join_bits(model, "m")) == sorted((j.bits, j.signed) for j in plan.joins)
    x = _inputs(net)
    with torch.no_grad():
        expected = net(x).numpy()
    agreement = compare_logits(expected, run_graph(str(path), x.numpy(), batch=4))
    assert agreement.max_abs_error < 1e-4
    assert agreement.mismatches == 0
    assert len(np.unique(expected.round(4), axis=0)) > 4


@pytest.mark.parametrize("key", _SETTINGS)
def test_every_product_reads_two_quantizers_without_zero_point(
    exported: Exported, key: str
) -> None:
    net, path = exported(key)
    products = [b for b in read_graph_bits(load_qonnx(path), "m") if b.product]
    assert [b.node for b in products] == [x.name for x in net.spec.layers if x.kind == "matmul"]
    for bits in products:
        assert bits.weight is None
        assert bits.weight_tensor is None
        for quant in (bits.act, bits.second):
            assert isinstance(quant, QuantNode)
            assert quant.bits <= 8
            assert not quant.zero_point
            assert not quant.narrow
    signs = [(b.act.signed, b.second.signed) for b in products if b.act and b.second]
    assert signs == [(True, True), (False, True)] * (len(products) // 2)


@pytest.mark.parametrize(
    ("field", "value"), [("act_bits", 1), ("second_act_bits", 1), ("second_act_signed", False)]
)
def test_a_plan_that_differs_in_one_operand_names_the_product(
    exported: Exported, field: str, value: int | bool
) -> None:
    net, path = exported("vit")
    plan, name = net.plan("manual"), "blocks.0.attention.scores"
    row = plan.layer(name).model_copy(update={field: value})
    other = tuple(row if x.layer == name else x for x in plan.layers)
    with raises_text(
        ExportMismatch,
        f"Layer '{name}' has {field} = {getattr(plan.layer(name), field)!r} in the exported "
        f"graph and {value!r} in the plan; this is a fault of the export, please report it.",
    ):
        check_bits(load_qonnx(path), plan.model_copy(update={"layers": other}), "m")


def test_an_operand_without_quantizer_is_noticed(exported: Exported) -> None:
    net, path = exported("vit")
    model = load_qonnx(path)
    product = next(n for n in model.graph.node if n.name == "blocks.0.attention.context")
    quant = next(n for n in model.graph.node if product.input[1] in n.output)
    product.input[1] = quant.input[0]
    with raises_text(
        ExportMismatch,
        "The second activations of layer 'blocks.0.attention.context' have no Quant "
        "node in the graph; this is a fault of the export, please report it.",
    ):
        check_bits(model, net.plan("manual"), "m")


def test_tokens_stay_integers_and_have_no_quantizer(exported: Exported) -> None:
    net, path = exported("text")
    model = load_qonnx(path)
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.INT64
    assert input_quant_of(model, "m") is None
    x = _inputs(net, 3)
    changed = x.clone()
    changed[2, 0] = x[2, 0] % 10 + 1
    found = [run_graph(str(path), tokens.numpy()) for tokens in (x, changed)]
    np.testing.assert_array_equal(found[0][:2], found[1][:2])
    assert not np.array_equal(found[0][2], found[1][2])


def test_products_that_do_not_match_the_network_are_refused(exported: Exported) -> None:
    net, path = exported("vit")
    weights = layer_weights(net)
    assert "blocks.0.attention.scores" not in weights
    with raises_text(
        ExportMismatch,
        "The exported graph has 2 products of two activations "
        "['blocks.0.attention.scores', 'blocks.0.attention.context'], the network 0 []; "
        "the exporter changed or duplicated a layer.",
    ):
        name_layers(load_qonnx(path), weights)


def test_rounding_noise_is_nothing_without_ties_and_finds_them(exported: Exported) -> None:
    net, _ = exported("vit")
    x = _inputs(net, 40)
    with torch.no_grad():
        before = net(x)
    noise = rounding_noise(net, x)
    assert noise.shape == (40,)
    assert (noise < 0.5 * before.abs().max().item()).all()
    with torch.no_grad():
        torch.testing.assert_close(net(x), before, rtol=0, atol=0)  # no hook is left
    # A constant activation that lies half-way between two integers is rounded either way.
    head = net.network.get_submodule("head_input_quant")
    step = _step(head)
    hook = head.register_forward_pre_hook(lambda m, args: (args[0] * 0 + step * 1.5,))
    try:
        tied = rounding_noise(net, x)
    finally:
        hook.remove()
    assert (tied > 1e-4).all()
    assert rounding_noise(net, x[:0]).shape == (0,)


def _step(quantizer: torch.nn.Module) -> float:
    """Return the step between two values of an activation quantizer."""
    with torch.no_grad():
        values = quantizer(torch.linspace(-0.5, 0.5, 4001)).unique()
    return float((values[1:] - values[:-1]).min())


def test_decisions_within_the_noise_are_ties() -> None:
    expected = np.asarray([[1.0, 0.9], [1.0, 0.5]])
    found = np.asarray([[0.9, 1.0], [0.5, 1.0]])
    agreement = compare_logits(expected, found, np.asarray([0.06, 0.06]))
    assert (agreement.ties, agreement.mismatches) == (1, 1)
    assert compare_logits(expected, found).mismatches == 2

"""The larger convolutional networks, small: the plan's bits in the file, the same logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adaqat_hw.export.graph import write_qonnx
from adaqat_hw.export.inspect import MAC_OPS, join_bits
from adaqat_hw.export.verify import check_bits, compare_logits, run_graph
from adaqat_hw.qonnx_file import load_qonnx
from adaqat_hw.quant import QuantizedNetwork

_IMAGE = {"input_shape": (3, 8, 8), "num_classes": 5}
_V2 = {"width": 0.25, "repeats": (1, 1, 1, 2, 1, 1, 1), "head_channels": 16, "strides": "cifar"}
_CASES: list[tuple[str, dict[str, Any], int]] = [
    ("resnet18", {**_IMAGE, "channels": (4, 4, 6, 6)}, 8),
    ("mobilenet-v1", {**_IMAGE, "width": 0.125, "repeats": (1,) * 5, "strides": "cifar"}, 0),
    ("mobilenet-v2", {**_IMAGE, **_V2}, 3),
    ("speech-cnn", {"channels": (6, 8, 8)}, 0),
    ("speech-cnn", {"channels": (6, 8), "kernel": 3, "pooling": "none"}, 0),
]


def _mixed(net: QuantizedNetwork) -> None:
    """Give neighbouring layers different widths, so that a mixed-up pair shows."""
    for index, (name, width) in enumerate(net.weight_widths.items()):
        width.set(net.fixed_weights.get(name, 2 + index % 4))
    for index, (name, width) in enumerate(net.act_widths.items()):
        width.set(net.fixed_acts.get(name, 3 + index % 5))


@pytest.mark.parametrize(("name", "options", "joins"), _CASES)
def test_networks_export_exactly(
    make_net: Callable[..., QuantizedNetwork],
    tmp_path: Path,
    name: str,
    options: dict[str, Any],
    joins: int,
) -> None:
    net = make_net(name, **options)
    _mixed(net)
    path = tmp_path / "model.onnx"
    write_qonnx(net, path)
    model = load_qonnx(path)
    plan = net.plan("manual")
    rows = check_bits(model, plan, path.name)
    assert {row.layer: row for row in rows} == {row.layer: row for row in plan.layers}
    assert {n.name for n in model.graph.node if n.op_type in MAC_OPS} == {
        layer.name for layer in net.spec.layers
    }
    assert len(join_bits(model, path.name)) == len(plan.joins) == joins
    x = torch.rand(5, *net.spec.input_shape)
    with torch.no_grad():
        expected = net(x).numpy()
    agreement = compare_logits(expected, run_graph(str(path), x.numpy(), batch=5))
    assert agreement.max_abs_error < 1e-4
    assert agreement.mismatches == 0

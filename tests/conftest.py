"""Fixtures for all tests: what tools are there, and QONNX files that this project did not make."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(config, items):
    """Skip what needs an absent tool, and say which."""
    from adaqat_hw import tools
    from adaqat_hw.errors import ToolNotFound

    if (ROOT / ".venv-finn").is_dir():
        os.environ.setdefault("ADAQAT_FINN_ENV", str(ROOT / ".venv-finn"))

    def missing(find):
        try:
            find()
        except ToolNotFound as exc:
            return str(exc)
        return None

    reasons = {
        "finn": missing(tools.finn_python),
        "rtl": missing(tools.verilator) or missing(tools.cxx) or missing(tools.make),
        "synth": None if tools.package_version("pyosys") else "pyosys is not installed",
    }
    for item in items:
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def _stock_brevitas(path: Path, layers, shape) -> Path:
    import torch
    from brevitas.export import export_qonnx

    torch.manual_seed(0)
    net = torch.nn.Sequential(*layers)
    net.train()
    with torch.no_grad():
        for _ in range(5):
            net(torch.randn(32, *shape))
    net.eval()
    export_qonnx(net, torch.randn(1, *shape), export_path=str(path), dynamo=False, opset_version=13)
    return path


@pytest.fixture(scope="session")
def tiny_qonnx(tmp_path_factory):
    """A two-layer network made with stock Brevitas: 16-8-4, W3A4, no label in its names."""
    from brevitas.nn import QuantIdentity, QuantLinear, QuantReLU
    from brevitas.quant import (
        Int8ActPerTensorFloat,
        Int8WeightPerTensorFloat,
        Uint8ActPerTensorFloat,
    )
    from torch import nn

    layers = [
        QuantIdentity(act_quant=Int8ActPerTensorFloat, bit_width=4),
        QuantLinear(16, 8, bias=False, weight_quant=Int8WeightPerTensorFloat, weight_bit_width=3),
        nn.BatchNorm1d(8),
        QuantReLU(act_quant=Uint8ActPerTensorFloat, bit_width=4),
        QuantLinear(8, 4, bias=True, weight_quant=Int8WeightPerTensorFloat, weight_bit_width=3),
    ]
    return _stock_brevitas(tmp_path_factory.mktemp("qonnx") / "tiny.onnx", layers, (16,))


@pytest.fixture(scope="session")
def grouped_qonnx(tmp_path_factory):
    """A network with a convolution of two groups, for which there is no RTL."""
    from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear, QuantReLU
    from brevitas.quant import (
        Int8ActPerTensorFloat,
        Int8WeightPerTensorFloat,
        Uint8ActPerTensorFloat,
    )
    from torch import nn

    layers = [
        QuantIdentity(act_quant=Int8ActPerTensorFloat, bit_width=4),
        QuantConv2d(
            4, 4, 3, groups=2, bias=False, weight_quant=Int8WeightPerTensorFloat, weight_bit_width=4
        ),
        nn.BatchNorm2d(4),
        QuantReLU(act_quant=Uint8ActPerTensorFloat, bit_width=4),
        nn.Flatten(),
        QuantLinear(64, 4, bias=False, weight_quant=Int8WeightPerTensorFloat, weight_bit_width=4),
    ]
    return _stock_brevitas(tmp_path_factory.mktemp("qonnx") / "grouped.onnx", layers, (4, 6, 6))

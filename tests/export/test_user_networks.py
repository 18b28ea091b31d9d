"""Networks as users write them: quantized, trained a little, exported and executed with qonnx."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from adaqat_hw.errors import ConfigError
from adaqat_hw.export import export_qonnx, read_bits
from adaqat_hw.quant import QuantizedNetwork, quantize
from adaqat_hw.schema import QuantConfig


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells, self.head = nn.GRU(12, 16, batch_first=True), nn.Linear(16, 9)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.cells(x)
        return self.head(y[:, -1])


class Segments(nn.Module):
    """Encoder and decoder with a concatenation; its output is an image of classes."""

    def __init__(self, up: nn.Module) -> None:
        super().__init__()
        self.outer = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.inner = nn.Sequential(nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.ReLU())
        self.up = up
        self.join = nn.Sequential(nn.Conv2d(14, 6, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.outer(x)
        return self.head(self.join(torch.cat([y, self.up(self.inner(y))], 1)))


class Interpolates(nn.Module):
    """A pyramid with a functional upsampling to the size of another tensor, added."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.a(x))
        z = F.relu(self.b(F.max_pool2d(y, 4)))
        return self.head(y + F.interpolate(z, size=y.shape[2:]))


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p, self.norm, self.head = nn.Linear(12, 16), nn.LayerNorm(16), nn.Linear(16, 5)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.p(x)
        y = self.norm(x)
        return self.head((x + self.attention(y, y, y, need_weights=False)[0]).mean(1))


class Encodes(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.batch_first = batch_first
        layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=batch_first, activation="gelu")
        self.p, self.head = nn.Linear(12, 16), nn.Linear(16, 5)
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(16), enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.p(x)
        x = self.encoder(x) if self.batch_first else self.encoder(x.transpose(0, 1)).transpose(0, 1)
        return self.head(x.mean(1))


class Gates(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c, self.act = nn.Conv2d(3, 8, 3, padding=1), nn.Hardswish()
        self.f1, self.f2, self.head = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.c(x))
        gate = torch.sigmoid(self.f2(F.relu(self.f1(F.adaptive_avg_pool2d(x, 1)))))
        return self.head((x * gate).mean((2, 3)))


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.c, self.head = nn.Conv2d(12, 6, 3, padding=1), nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        x = F.relu(self.c(torch.cat([x, F.relu(self.b(x))], 1)))
        return self.head(x.mean((2, 3)))


class AddsTwoReLUs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(12, 8), nn.Linear(12, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.a(x)) + F.relu(self.b(x)))


class Shares(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.head = nn.Conv2d(3, 3, 1), nn.GroupNorm(1, 3), nn.Linear(3, 10)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = F.relu(self.norm(self.a(x)))
        return self.head(x.mean((2, 3)))


class Activations(nn.Module):
    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Conv2d(3, 6, 3), activation, nn.MaxPool2d(2), nn.Conv2d(6, 6, 3), activation),
            *(nn.Flatten(), nn.Linear(6 * 5 * 5, 10)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def _depthwise() -> nn.Module:
    def block(i: int, o: int) -> nn.Module:
        return nn.Sequential(
            *(nn.Conv2d(i, i, 3, padding=1, groups=i, bias=False), nn.BatchNorm2d(i), nn.ReLU6()),
            *(nn.Conv2d(i, o, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU6()),
        )

    return nn.Sequential(
        *(nn.Conv2d(3, 8, (5, 3), 2, (2, 1), bias=False), nn.BatchNorm2d(8), nn.ReLU6()),
        *(block(8, 12), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10)),
    )


def _weight_norm() -> nn.Module:
    first = parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    return nn.Sequential(first, nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(576, 10))


IMAGE, SEQUENCE = (3, 16, 16), (6, 12)
WORK = {
    "upsampling": (lambda: Segments(nn.Upsample(scale_factor=2)), IMAGE, None),
    "interpolation": (Interpolates, IMAGE, None),
    "attention": (Attends, SEQUENCE, 5),
    "encoder": (lambda: Encodes(True), SEQUENCE, 5),
    "encoder, length first": (lambda: Encodes(False), SEQUENCE, 5),
    "concatenation": (Dense, IMAGE, 10),
    "sum of two ReLUs": (AddsTwoReLUs, (12,), 4),
    "depthwise": (_depthwise, IMAGE, 10),
    "one logit": (lambda: nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 1)), (12,), 1),
    "numbers": (
        lambda: nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 1), nn.Flatten(0)),
        (12,),
        None,
    ),
    "weight norm": (_weight_norm, IMAGE, 10),
    "1-D upsampling": (
        lambda: nn.Sequential(
            *(nn.Conv1d(6, 4, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=3)),
            nn.Conv1d(4, 2, 3, padding=1),
        ),
        SEQUENCE,
        None,
    ),
    **{
        type(x).__name__: (lambda x=x: Activations(x), IMAGE, 10)
        for x in (nn.LeakyReLU(0.1), nn.ELU(), nn.Hardswish(), nn.Mish(), nn.SiLU(), nn.Sigmoid())
    },
}


def _trained(name: str) -> QuantizedNetwork:
    make, shape, classes = WORK[name]
    torch.manual_seed(0)
    config = QuantConfig(input_range=3.0)
    net = quantize(make(), config, input_shape=shape, name="n", num_classes=classes)
    net.apply_plan(net.uniform_plan(4, 5))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    net.train()
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.randn(8, *shape)).pow(2).mean().backward()
        assert all(p.grad is not None for p in net.parameters())
        optimizer.step()
    return net


@pytest.mark.parametrize("name", WORK)
def test_what_works_is_exported_and_proved(tmp_path: Path, name: str) -> None:
    net = _trained(name)
    samples = torch.randn(32, *net.spec.input_shape)
    agreement = export_qonnx(net, tmp_path / "m.onnx", samples)
    assert (agreement.samples, agreement.mismatches) == (32, 0)
    decides = net.spec.num_classes is not None and net.spec.num_classes > 1
    assert (agreement.argmax_agreement is not None) == decides
    rows = {row.node: row for row in read_bits(tmp_path / "m.onnx")}
    assert set(rows) == {layer.name for layer in net.spec.layers}
    assert all(row.act is not None for row in rows.values())


NO_FORM = "before a layer, which has no quantized form; use Conv1d/2d, Linear, "


@pytest.mark.parametrize(
    ("net", "shape", "text"),
    [
        (Recurrent(), SEQUENCE, "The network holds GRU 'cells', which has no quantized form; "),
        (
            Segments(nn.ConvTranspose2d(8, 8, 2, stride=2)),
            IMAGE,
            "The network holds ConvTranspose2d 'up', which has no quantized form; use nn.Upsample ",
        ),
        (Gates(), IMAGE, f"The network holds function 'mul' of two activations {NO_FORM}"),
        (Shares(), IMAGE, f"The network holds GroupNorm 'norm' {NO_FORM}"),
    ],
)
def test_the_rest_is_refused_in_one_sentence(net: nn.Module, shape: tuple[int, ...], text) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}") as caught:
        quantize(net, QuantConfig(), input_shape=shape, name="n", num_classes=9)
    assert str(caught.value).count(". ") == 0


def test_values_that_differ_are_a_mismatch(tmp_path: Path, monkeypatch) -> None:
    from adaqat_hw.errors import ExportMismatch
    from adaqat_hw.export import network

    net = _trained("numbers")
    run = network.run_graph
    monkeypatch.setattr(network, "run_graph", lambda *args: run(*args) + 0.1)
    text = (
        "The exported graph puts out something else than PyTorch on 32 of 32 test samples (largest "
        "error 0.1); this is a fault of the export, please report it."
    )
    with pytest.raises(ExportMismatch, match=f"^{re.escape(text)}$"):
        export_qonnx(net, tmp_path / "m.onnx", torch.randn(32, 12))
    assert not (tmp_path / "m.onnx").exists()

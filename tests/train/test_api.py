from __future__ import annotations

import copy
import re

import pytest
import torch
from torch import nn

from adaqat_hw.errors import ConfigError
from adaqat_hw.export import export_qonnx
from adaqat_hw.quant import QuantizedNetwork
from adaqat_hw.schema import AdaqatConfig, ProbingConfig, TrainConfig
from adaqat_hw.train import train_network

SHORT = TrainConfig(epochs=2, batch_size=16, lr=0.05, device="cpu", threads=1)
LEARN = AdaqatConfig(
    granularity="layer", lr_weights=0.5, lr_acts=0.5, probing=ProbingConfig(every=2)
)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)
    )


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(64) % 3
    return torch.randn(64, 1, 4, 4, generator=generator) * 0.2 + y.view(-1, 1, 1, 1), y


def test_a_network_of_ones_own_learns_its_widths_and_exports(net, data, tmp_path):
    before = copy.deepcopy(net.state_dict())
    records = []
    trained = train_network(
        net, data, data, tmp_path, train_config=SHORT, adaqat=LEARN, progress=records.append
    )
    assert isinstance(trained.net, QuantizedNetwork)
    assert not trained.net.training
    assert trained.net.plan("adaqat") == trained.plan
    assert {row.layer for row in trained.plan.layers} == {"1", "3", "5"}
    assert trained.plan.layer("3").weight_bits < 8
    assert any(record["event"] == "widths" for record in records)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    with torch.no_grad():
        accuracy = float((trained.net(data[0]).argmax(1) == data[1]).float().mean())
    assert accuracy == pytest.approx(trained.result.accuracy)
    agreement = export_qonnx(trained.net, tmp_path / "model.onnx", data[0])
    assert (agreement.samples, agreement.mismatches) == (64, 0)
    assert (tmp_path / "model.onnx").exists()


def test_the_same_call_goes_on_and_another_network_starts_anew(net, data, tmp_path):
    first = train_network(net, data, data, tmp_path, train_config=SHORT, adaqat=LEARN)
    again = train_network(net, data, data, tmp_path, train_config=SHORT, adaqat=LEARN)
    for name, value in first.net.state_dict().items():
        assert torch.equal(value, again.net.state_dict()[name])
    with torch.no_grad():
        net[1].weight.mul_(0.5)
    other = train_network(net, data, data, tmp_path, train_config=SHORT, adaqat=LEARN)
    assert other.result.config_digest != first.result.config_digest


@pytest.mark.parametrize(("variant", "bits"), [("float", None), ("w3a4", 3)])
def test_variants(net, data, tmp_path, variant, bits):
    trained = train_network(net, data, data, tmp_path, variant=variant, train_config=SHORT)
    assert (trained.plan is None) == (bits is None)
    if bits is not None:
        assert trained.plan.layer("3").weight_bits == bits


def test_unfit_data_and_teachers_are_refused(net, data, tmp_path):
    x, y = data
    text = (
        "The training data have inputs (64, 1, 4, 4) and labels (64,) of torch.float32; give "
        "(n, ...) inputs and as many int64 labels, n at least 1; other targets need a loss_fn."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        train_network(net, (x, y.float()), data, tmp_path)
    text = "The test labels hold -1; classes count from 0."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        train_network(net, data, (x, y - 1), tmp_path)
    text = "Training samples have shape (1, 4, 4), test samples (4, 4); give both the same."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        train_network(net, data, (x[:, 0], y), tmp_path)
    text = (
        "train.init 'float' and train.teacher None belong to runs with a configuration file; "
        "give the network with its trained weights, and the teacher itself as teacher = ...."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        train_network(net, data, data, tmp_path, train_config=TrainConfig(init="float"))
    text = (
        "The network maps a batch of 2 to shape (2, 3); num_classes 4 asks for (2, 4); an output "
        "of another form is trained with a loss_fn (in quantize, num_classes = None)."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        train_network(net, (x, y + 1), data, tmp_path, train_config=SHORT)


def test_export_refuses_samples_of_another_shape(net, data, tmp_path):
    trained = train_network(net, data, data, tmp_path, variant="w3a4", train_config=SHORT)
    text = "The samples have shape (64, 4); give (n, 1, 4, 4), n at least 1."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        export_qonnx(trained.net, tmp_path / "m.onnx", data[0][:, 0, 0])
    assert not (tmp_path / "m.onnx").exists()

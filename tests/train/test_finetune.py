from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adaqat_hw import nets
from adaqat_hw.errors import ConfigError
from adaqat_hw.quant import quantize
from adaqat_hw.schema import NetworkConfig, QuantConfig, RunConfig
from adaqat_hw.train import Variant, train
from adaqat_hw.train.checkpoint import save
from adaqat_hw.train.finetune import load_float_weights

Make = Callable[..., RunConfig]


def _nets(seed: int) -> tuple[torch.nn.Module, torch.nn.Module]:
    torch.manual_seed(seed)
    info = nets.info("demo-cnn")
    net = nets.build(NetworkConfig(name="demo-cnn"))
    twin = quantize(
        net, QuantConfig(), input_shape=info.input_shape, name=info.name, num_classes=10
    )
    return net, twin


def test_every_float_tensor_reaches_the_twin(tmp_path: Path) -> None:
    source, _ = _nets(1)
    source(torch.randn(8, 1, 8, 8))
    save(tmp_path / "checkpoint.pt", source.state_dict())
    net, twin = _nets(2)
    before = {k: v.clone() for k, v in twin.state_dict().items()}
    load_float_weights(twin, net, tmp_path / "checkpoint.pt")
    after = twin.state_dict()
    copied = {f"network.{name}" for name in source.state_dict()}
    assert copied <= set(after)
    for name, value in source.state_dict().items():
        assert torch.equal(after[f"network.{name}"], value)
    assert all(torch.equal(after[n], before[n]) for n in after if n not in copied)
    # 8 bits hold the function: the twin decides nearly as the float network does.
    x = torch.rand(64, 1, 8, 8)
    source.eval()
    twin.eval()
    assert (source(x).argmax(1) == twin(x).argmax(1)).float().mean() > 0.9


def test_a_quantized_checkpoint_gives_its_weights_and_keeps_its_quantizers(tmp_path: Path) -> None:
    _, source = _nets(1)
    source.apply_plan(source.uniform_plan(3, 2))
    source(torch.randn(8, 1, 8, 8))
    save(tmp_path / "q.pt", dict(source.state_dict()))
    net, twin = _nets(2)
    twin.apply_plan(twin.uniform_plan(5, 6))
    before = {k: v.clone() for k, v in twin.state_dict().items()}
    load_float_weights(twin, net, tmp_path / "q.pt")
    copied = {f"network.{name}" for name in net.state_dict()}
    for name, value in twin.state_dict().items():
        assert torch.equal(value, (source.state_dict() if name in copied else before)[name])
    assert twin.plan("manual") == twin.uniform_plan(5, 6).model_copy(update={"source": "manual"})


def test_another_networks_checkpoint_is_refused_and_copies_nothing(tmp_path: Path) -> None:
    net, twin = _nets(1)
    before = {k: v.clone() for k, v in twin.state_dict().items()}
    other = nets.build(NetworkConfig(name="demo-cnn", options={"channels": (4, 16)}))
    save(tmp_path / "o.pt", other.state_dict())
    text = (
        f"Checkpoint '{tmp_path}/o.pt' has 'conv1.weight' of shape (4, 1, 3, 3) where this "
        "network has (8, 1, 3, 3); give the checkpoint of the same network with the same "
        "options."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        load_float_weights(twin, net, tmp_path / "o.pt")
    save(tmp_path / "m.pt", nets.build(NetworkConfig(name="mlp")).state_dict())
    text = (
        f"Checkpoint '{tmp_path}/m.pt' is no checkpoint of this network (it lacks 'conv1.weight'); "
        "give the checkpoint.pt of a training of the same network."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        load_float_weights(twin, net, tmp_path / "m.pt")
    assert all(torch.equal(v, before[k]) for k, v in twin.state_dict().items())


def test_fine_tuning_starts_from_the_float_accuracy(make_config: Make, tmp_path: Path) -> None:
    good = make_config(data={"limit_train": 800}, train={"epochs": 8})
    base = train(good, Variant.named("float"), tmp_path / "float")
    short = make_config(train={"epochs": 1, "lr": 1e-6})
    init = tmp_path / "float" / "checkpoint.pt"
    scratch = train(short, Variant.named("w8a8"), tmp_path / "scratch")
    tuned = train(short, Variant.named("w8a8"), tmp_path / "tuned", init_checkpoint=init)
    assert scratch.accuracy < 0.5
    assert tuned.accuracy > base.accuracy - 0.1


def test_a_missing_init_checkpoint_is_named(make_config: Make, tmp_path: Path) -> None:
    text = (
        r"^The checkpoint of train\.init, '.*gone\.pt', does not exist; train the full-precision "
        r"variant first or give the path of another checkpoint\.$"
    )
    with pytest.raises(ConfigError, match=text):
        train(
            make_config(),
            Variant.named("w8a8"),
            tmp_path / "a",
            init_checkpoint=tmp_path / "gone.pt",
        )

"""Train a network and data of one's own, without a configuration file or a registry."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adaqat_hw.data import Dataset
from adaqat_hw.errors import ConfigError
from adaqat_hw.quant import QuantizedNetwork, quantize
from adaqat_hw.schema import (
    AdaqatConfig,
    BitWidthPlan,
    DataConfig,
    NetworkConfig,
    QuantConfig,
    RunConfig,
    TrainConfig,
    TrainResult,
)
from adaqat_hw.train.checkpoint import load_into, load_weights
from adaqat_hw.train.loop import Progress, train
from adaqat_hw.train.variant import Variant


@dataclass(frozen=True)
class Trained:
    """A finished training: the network with its final weights, in evaluation mode.

    ``plan`` is None and ``net`` an ordinary network where it was trained in full precision.
    """

    net: nn.Module
    plan: BitWidthPlan | None
    result: TrainResult


def train_network(
    net: nn.Module,
    train_data: tuple[Tensor, Tensor],
    test_data: tuple[Tensor, Tensor],
    folder: str | Path,
    *,
    name: str = "network",
    variant: str = "learned",
    seed: int = 0,
    train_config: TrainConfig | None = None,
    quant: QuantConfig | None = None,
    adaqat: AdaqatConfig | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train a PyTorch network of one's own, with learned widths unless ``variant`` says otherwise.

    Training starts from the weights that ``net`` has; ``net`` itself is left as it is. A stopped
    training resumes when it is called again with the same arguments.

    Args:
        net: maps (n, *input_shape) to logits (n, classes).
        train_data: inputs (n, *input_shape), float32 or, for tokens, int64, and labels (n,)
            int64 from 0.
        test_data: the same of the samples that accuracy is measured on.
        folder: where log, checkpoints, plan and result go.
        name: of the network, in records.
        variant: ``learned``, ``float`` or uniform widths such as ``w4a4`` or
            ``w2a2-ends2-3-input3``.
        seed: of the order of the samples.
        train_config: the schedule.
        quant: the quantizers and the widths of the ends.
        adaqat: how widths are learned.
        progress: called with each log record.

    Raises:
        ConfigError: data, network or configuration do not fit together.
        StageFailed: the training diverged.
    """
    dataset = _dataset(train_data, test_data)
    config = RunConfig(
        name="own",
        seed=seed,
        network=NetworkConfig(name=name, options={"state": _network_digest(net)}),
        data=DataConfig(name="own", options={"state": _digest(dataset.train_x, dataset.train_y)}),
        train=train_config or TrainConfig(),
        quant=quant or QuantConfig(),
        adaqat=adaqat or AdaqatConfig(),
    )
    if config.train.init or config.train.teacher:
        raise ConfigError(
            f"train.init {config.train.init!r} and train.teacher {config.train.teacher!r} belong "
            "to runs with a configuration file; give the network with its trained weights, and "
            "no teacher."
        )
    target = Path(folder)
    named = Variant.named(variant)
    result = train(config, named, target, progress=progress, net=net, dataset=dataset)
    twin: nn.Module = copy.deepcopy(net)
    plan = None
    if named.mode != "float":
        twin = _quantized(net, config, dataset)
    load_into(twin, load_weights(target / result.checkpoint), target / result.checkpoint)
    if isinstance(twin, QuantizedNetwork) and result.plan is not None:
        plan = BitWidthPlan.read(target / result.plan)
        twin.apply_plan(plan)
    return Trained(twin.eval(), plan, result)


def _quantized(net: nn.Module, config: RunConfig, dataset: Dataset) -> QuantizedNetwork:
    names: dict[str, Any] = {"name": config.network.name, "num_classes": dataset.num_classes}
    return quantize(net, config.quant, input_shape=dataset.input_shape, **names)


def _dataset(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> Dataset:
    for split, (x, y) in (("training", train), ("test", test)):
        if not len(x) or len(x) != len(y) or y.dim() != 1 or y.dtype != torch.int64:
            raise ConfigError(
                f"The {split} data have inputs {tuple(x.shape)!r} and labels {tuple(y.shape)!r} of "
                f"{y.dtype}; give (n, ...) inputs and as many int64 labels, n at least 1."
            )
        if int(y.min()) < 0:
            raise ConfigError(f"The {split} labels hold {int(y.min())!r}; classes count from 0.")
    if train[0].shape[1:] != test[0].shape[1:]:
        raise ConfigError(
            f"Training samples have shape {tuple(train[0].shape[1:])!r}, test samples "
            f"{tuple(test[0].shape[1:])!r}; give both the same."
        )
    return Dataset(
        name="own data",
        layout="tensors",
        train_x=train[0],
        train_y=train[1],
        test_x=test[0],
        test_y=test[1],
        num_classes=max(2, int(max(train[1].max(), test[1].max())) + 1),
        input_shape=tuple(train[0].shape[1:]),
    )


def _network_digest(net: nn.Module) -> str:
    shape = hashlib.sha256(repr(net).encode()).hexdigest()[:8]
    return f"{_digest(*net.state_dict().values())}-{shape}"


def _digest(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]

"""Train a network and data of one's own, without a configuration file or a registry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adaqat_hw.data import Dataset
from adaqat_hw.errors import ConfigError
from adaqat_hw.quant import QuantizedNetwork, copy_network, quantize
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
from adaqat_hw.train.content import network_digest, tensor_digest
from adaqat_hw.train.loop import Progress, train
from adaqat_hw.train.own_loss import LossFn, MetricFn, OwnLoss
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
    loss_fn: LossFn | None = None,
    metric_fn: MetricFn | None = None,
    teacher: nn.Module | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train a PyTorch network of one's own, with learned widths unless ``variant`` says otherwise.

    Training starts from the weights that ``net`` has; ``net`` itself is left as it is. A stopped
    training resumes when it is called again with the same arguments.

    Without ``loss_fn`` the network classifies: it learns by cross-entropy and is measured by top-1
    accuracy. With one, its output and the targets may have any shape; the result has the mean of
    the loss over the test data (``test_loss``), that of ``metric_fn`` (``metric``), and no
    accuracy. Averages are over batches weighted by their samples, so a measure that is no mean
    over samples (a root of a mean, an F1 score) is better computed from ``Trained.net``.

    A resumed training must be the same one. A function counts by its module and qualified name, not
    by its code: after a change inside of it, give another folder. Of a ``functools.partial`` the
    plain arguments count as well, of an ``nn.Module`` its plain settings and its tensors.

    Args:
        net: maps (n, *input_shape) to logits (n, classes), or to (n, ...) with a ``loss_fn``.
        train_data: inputs (n, *input_shape), float32 or, for tokens, int64, and labels (n,)
            int64 from 0, or targets (n, ...) of any type with a ``loss_fn``.
        test_data: the same of the samples that accuracy, loss and metric are measured on.
        folder: where log, checkpoints, plan and result go.
        name: of the network, in records.
        variant: ``learned``, ``float`` or uniform widths such as ``w4a4`` or
            ``w2a2-ends2-3-input3``.
        seed: of the order of the samples.
        train_config: the schedule.
        quant: the quantizers and the widths of the ends.
        adaqat: how widths are learned. Widths are weighed against the loss, so ``hardware_lambda``
            is in its units.
        loss_fn: maps outputs and targets of a batch to its mean loss, a scalar tensor.
        metric_fn: maps them to another mean to report, such as an error in the target's unit.
        teacher: a network with its weights to distil from, for class logits only; it is left as
            it is. With a ``loss_fn`` that takes class labels the loss is
            ``(1 - distill_weight) * loss_fn`` plus the divergence. A full-precision training has
            no teacher.
        progress: called with each log record.

    Raises:
        ConfigError: data, network, loss, teacher or configuration do not fit together.
        StageFailed: the training diverged.
    """
    if loss_fn is None and metric_fn is not None:
        raise ConfigError(
            "metric_fn belongs to a loss_fn; without one the network is measured by its accuracy."
        )
    own_loss = None if loss_fn is None else OwnLoss(loss_fn, metric_fn)
    dataset = _dataset(train_data, test_data, classes=own_loss is None)
    config = RunConfig(
        name="own",
        seed=seed,
        network=NetworkConfig(name=name, options={"state": network_digest(net)}),
        data=DataConfig(
            name="own", options={"state": tensor_digest(dataset.train_x, dataset.train_y)}
        ),
        train=train_config or TrainConfig(),
        quant=quant or QuantConfig(),
        adaqat=adaqat or AdaqatConfig(),
    )
    if config.train.init or config.train.teacher:
        raise ConfigError(
            f"train.init {config.train.init!r} and train.teacher {config.train.teacher!r} belong "
            "to runs with a configuration file; give the network with its trained weights, and "
            "the teacher itself as teacher = ...."
        )
    if own_loss is not None and config.train.label_smoothing:
        raise ConfigError(
            f"train.label_smoothing {config.train.label_smoothing!r} belongs to the cross-entropy; "
            "with a loss_fn set it to 0."
        )
    target = Path(folder)
    named = Variant.named(variant)
    result = train(
        config,
        named,
        target,
        progress=progress,
        net=net,
        dataset=dataset,
        teacher=teacher,
        own_loss=own_loss,
    )
    twin = copy_network(net)
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


def _dataset(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], classes: bool) -> Dataset:
    for split, (x, y) in (("training", train), ("test", test)):
        labels = not classes or (y.dim() == 1 and y.dtype == torch.int64)
        if not len(x) or not y.dim() or len(x) != len(y) or not labels:
            wanted = (
                "int64 labels, n at least 1; other targets need a loss_fn"
                if classes
                else "targets, n at least 1"
            )
            raise ConfigError(
                f"The {split} data have inputs {tuple(x.shape)!r} and "
                f"{'labels' if classes else 'targets'} {tuple(y.shape)!r} of {y.dtype}; give "
                f"(n, ...) inputs and as many {wanted}."
            )
        if classes and int(y.min()) < 0:
            raise ConfigError(f"The {split} labels hold {int(y.min())!r}; classes count from 0.")
    if train[0].shape[1:] != test[0].shape[1:]:
        raise ConfigError(
            f"Training samples have shape {tuple(train[0].shape[1:])!r}, test samples "
            f"{tuple(test[0].shape[1:])!r}; give both the same."
        )
    kinds = [(tuple(y.shape[1:]), y.dtype) for _, y in (train, test)]
    if kinds[0] != kinds[1]:
        raise ConfigError(
            f"Training targets have shape {kinds[0][0]!r} and type {kinds[0][1]}, test targets "
            f"{kinds[1][0]!r} and {kinds[1][1]}; give both the same."
        )
    count = max(2, int(max(train[1].max(), test[1].max())) + 1) if classes else None
    return Dataset(
        name="own data",
        layout="tensors",
        train_x=train[0],
        train_y=train[1],
        test_x=test[0],
        test_y=test[1],
        num_classes=count,
        input_shape=tuple(train[0].shape[1:]),
    )

"""Batch norm during and after a change of widths."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from adaqat_hw.errors import ConfigError


@contextmanager
def probing(model: nn.Module, *, dropout: bool = True) -> Iterator[None]:
    """Run forward passes that measure a loss and leave no trace.

    Inside, the model is in training mode (without ``dropout`` only batch norm is), batch norm uses
    the batch's statistics without updating its running ones, and no gradients are recorded.
    Afterwards, modes and the state of the random generators (CPU and the model's GPUs) are as
    before, also after an exception. Evaluation-mode batch norm would measure a wrong difference:
    its statistics belong to other widths.
    """
    norms, modes = [], []
    for module in model.modules():
        wanted = dropout or isinstance(module, _BatchNorm)
        if isinstance(module, _BatchNorm):
            norms.append((module, module.track_running_stats))
        if module.training != wanted:
            modes.append((module, wanted))
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.is_cuda})
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        try:
            for module, wanted in modes:
                module.training = wanted
            for norm, _ in norms:
                norm.track_running_stats = False
            yield
        finally:
            for norm, tracked in norms:
                norm.track_running_stats = tracked
            for module, wanted in modes:
                module.training = not wanted


def recalibrate_batch_norm(model: nn.Module, batches: Iterable[Any]) -> int:
    """Replace running statistics by the mean over ``batches`` at the present widths.

    Only batch norm runs in training mode; dropout is off. An exception leaves the old statistics.

    Args:
        model: network to recalibrate; its modes are as before afterwards.
        batches: input tensors, or tuples whose first entry is one, on the model's device.

    Returns:
        The number of batches used.

    Raises:
        ConfigError: there is no batch.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    modes = [(m, m.training) for m in model.modules()]
    momenta = [norm.momentum for norm in norms]
    saved = [copy.deepcopy(norm.state_dict()) for norm in norms]
    count = 0
    try:
        model.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches
            norm.training = True
        with torch.no_grad():
            for batch in batches:
                model(batch if isinstance(batch, Tensor) else batch[0])
                count += 1
        if not count:
            raise ConfigError("Batch norm cannot be recalibrated on 0 batches; pass at least 1.")
    except BaseException:
        for norm, state in zip(norms, saved, strict=True):
            norm.load_state_dict(state)
        raise
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes:
            module.training = mode
    return count


def use_running_statistics(model: nn.Module) -> None:
    """Let batch norm use its running statistics while the rest of the network trains."""
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            module.training = False

"""The processes that train one network together: torchrun's, or this one alone."""

from __future__ import annotations

import inspect
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from adaqat_hw.errors import ConfigError

_TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class World:
    """One process among ``size`` on ``device``; rank 0 leads: it alone writes files.

    All methods but the properties are collective: every process calls them in the same order.
    Alone, they return what they are given.
    """

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files, logs and progress."""
        return self.rank == 0

    def share(self, net: nn.Module) -> nn.Module:
        """Return ``net`` so that a backward pass averages gradients over all processes.

        Running statistics of batch norm are left to :meth:`share_norms`: training does not read
        them, so once an epoch is enough.
        """
        if self.size == 1:
            return net
        own = [self.device.index] if self.device.type == "cuda" else None
        # The switch is named broadcast_buffers before torch 2.13, which warns of that name. That
        # one also keeps buffers unsent at the start: all processes make or load the same.
        names = inspect.signature(DistributedDataParallel).parameters
        new = "forward_sync_buffers" in names
        switch: dict[str, Any] = {"forward_sync_buffers" if new else "broadcast_buffers": False}
        return DistributedDataParallel(net, device_ids=own, **switch)

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of a tensor over all processes: the same bits in each of them."""
        if self.size == 1:
            return values
        total = values.detach().clone()
        distributed.all_reduce(total)
        return total.div_(self.size)

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            distributed.barrier()

    def gather(self, value: Any) -> list[Any]:
        """Return the plain values that the processes hold, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def share_norms(self, net: nn.Module) -> None:
        """Give every process the mean of the running statistics of batch norm.

        Each has seen its own part of the batches only.
        """
        if self.size == 1:
            return
        for module in net.modules():
            if isinstance(module, _BatchNorm) and module.track_running_stats:
                for buffer in (module.running_mean, module.running_var):
                    if buffer is not None:
                        buffer.copy_(self.mean(buffer))


def join_world(device: str) -> World:
    """Return this process's place; under torchrun, join the others (gloo on CPU, else nccl).

    Args:
        device: ``train.device``.

    Raises:
        ConfigError: there is no such GPU, or one process too many for the GPUs.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World(choose_device(device))
    place = choose_device(device, int(os.environ.get("LOCAL_RANK", rank)), size)
    if not distributed.is_initialized():
        backend = "nccl" if place.type == "cuda" else "gloo"
        distributed.init_process_group(backend, timeout=_TIMEOUT)
    return World(place, rank, size)


def leave_world() -> None:
    """Leave the other processes of torchrun after a success; without them, do nothing.

    After a failure torchrun stops the others, and leaving would wait for them.
    """
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def choose_device(name: str, local_rank: int = 0, size: int = 1) -> torch.device:
    """Return the device that ``train.device`` names.

    Under torchrun ``auto`` and ``cuda`` give each process of a machine its own GPU.

    Raises:
        ConfigError: there is no such GPU, or a single one is named for several processes.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not count):
        return torch.device("cpu")
    _, _, number = name.partition(":")
    if number and size > 1:
        raise ConfigError(
            f"train.device is {name!r} for {size} processes, which would share that GPU; set "
            "'cuda' to give each process its own."
        )
    index = int(number) if number else local_rank
    if index >= count:
        available = f"{count} GPUs that PyTorch can use" if count else "no GPU that PyTorch can use"
        process = f"process {local_rank} of this machine" if size > 1 else "it"
        raise ConfigError(
            f"train.device is {name!r}, so {process} needs GPU {index}, and here is {available}; "
            "set 'cpu' or 'auto', or start fewer processes."
        )
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    return device

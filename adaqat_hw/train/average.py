"""An exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn

_RAMP = 10


class WeightAverage:
    """The moving average of weights, learned clips and batch-norm statistics of one network.

    Widths are the live network's. Clips are ranges, so their mean is one too; yet weights that
    were trained at other widths, or behind other clips, are no neighbours: a change of widths
    restarts the average (:meth:`restart`). It begins as a copy of the live weights, and its first
    updates decay faster, by ``min(decay, (1 + n) / (10 + n))`` after ``n`` of them, so that a
    start far away is soon forgotten.

    Args:
        net: the live network.
        decay: of the average at each update, from 0 to 1.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self._net = net
        self._decay = decay
        self._count = 0
        self._averages: list[Tensor] = []
        self._live: list[Tensor] = []

    def restart(self) -> None:
        """Forget the average; the next update begins another one."""
        self._count = 0
        self._averages, self._live = [], []

    @torch.no_grad()
    def update(self) -> None:
        """Take in the live weights, after an optimizer's step."""
        if not self._averages:
            self._averages = [tensor.clone() for tensor in self._tensors()]
            return
        self._count += 1
        decay = min(self._decay, (1 + self._count) / (_RAMP + self._count))
        get_ema_multi_avg_fn(decay)(  # type: ignore[no-untyped-call]
            self._averages, self._tensors(), self._count
        )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages into the network for a while; what changes in them there is kept.

        Without an average, as right after a restart, the network stays as it is.
        """
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def apply(self) -> bool:
        """Put the averages into the network for good; return whether there were any."""
        averages = self._averages
        if averages:
            for tensor, average in zip(self._tensors(), averages, strict=True):
                tensor.copy_(average)
        self.restart()
        return bool(averages)

    def state_dict(self) -> dict[str, Any]:
        """Return the averages by name and the number of updates."""
        names = _averaged(self._net) if self._averages else {}
        averages = {n: x.clone() for n, x in zip(names, self._averages, strict=True)}
        return {"count": self._count, "averages": averages}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`, after the network has been loaded.

        Raises:
            ValueError: it belongs to another network.
        """
        self.restart()
        live, averages = _averaged(self._net), state["averages"]
        if not averages:
            return
        if list(live) != list(averages):
            raise ValueError("the averaged weights are of another network")
        self._averages = [averages[name].to(tensor) for name, tensor in live.items()]
        self._count = int(state["count"])

    def _tensors(self) -> list[Tensor]:
        """Return the live tensors, looked up once: a network has thousands of modules.

        Not before they are needed: laying the weights out anew moves them.
        """
        if not self._live:
            self._live = list(_averaged(self._net).values())
        return self._live

    @torch.no_grad()
    def _swap(self) -> None:
        if not self._averages:
            return
        for tensor, average in zip(self._tensors(), self._averages, strict=True):
            kept = tensor.clone()
            tensor.copy_(average)
            average.copy_(kept)


def _averaged(net: nn.Module) -> dict[str, Tensor]:
    """Return parameters and running statistics of a network by name."""
    tensors = {name: x.detach() for name, x in net.named_parameters()}
    for path, module in net.named_modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            for name in ("running_mean", "running_var"):
                tensor = getattr(module, name)
                if tensor is not None:
                    tensors[f"{path}.{name}"] = tensor
    return tensors

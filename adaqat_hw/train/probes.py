"""Losses at neighbouring widths, measured on the device and fetched in one transfer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from adaqat_hw.quant import Binding, probing
from adaqat_hw.train.world import World

Measure = Callable[[], Tensor]


def draws_numbers(net: nn.Module) -> bool:
    """Tell whether two passes over one batch differ, because of dropout."""
    return any(isinstance(m, _DropoutNd) and m.p > 0 for m in net.modules())


def measure(
    binding: Binding, names: list[str], loss: Measure, live: Tensor | None, world: World
) -> tuple[float, dict[str, float]]:
    """Return the live loss and the loss of each probe, as means over all processes.

    Call it BEFORE the optimizer's step: the weights must be those of the live loss. All passes
    see the same random state; widths, modes, running statistics and random state are as before
    afterwards.

    Args:
        binding: the bound network.
        names: of the widths to probe.
        loss: measures the loss at the present widths.
        live: training loss that serves as the live loss; measured as the probes are where None.
        world: the processes that share the batch.
    """
    net, wanted = binding.network, set(names)
    probes: Mapping[str, Mapping[str, int]] = dict(binding.controller.probes())
    device, random = world.device, draws_numbers(net)
    chosen = [name for name in probes if name in wanted]
    with probing(net):
        losses = [live.detach() if live is not None else _alike(loss, device, random)]
        for name in chosen:
            with binding.at(probes[name]):
                losses.append(_alike(loss, device, random))
    values = world.mean(torch.stack([value.float() for value in losses])).cpu().tolist()
    return values[0], dict(zip(chosen, values[1:], strict=True))


def _alike(loss: Measure, device: torch.device, random: bool) -> Tensor:
    if not random:
        return loss()
    with _same_numbers(device):
        return loss()


@contextmanager
def _same_numbers(device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield

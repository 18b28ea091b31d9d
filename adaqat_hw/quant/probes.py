"""Losses at neighbouring widths, measured on the device and fetched in one transfer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from adaqat_hw.quant.batchnorm import probing
from adaqat_hw.quant.binding import Binding

Measure = Callable[[], Tensor]


def draws_numbers(net: nn.Module) -> bool:
    """Tell whether two passes over one batch differ, because of dropout."""
    return any(isinstance(m, _DropoutNd) and m.p > 0 for m in net.modules())


@dataclass(frozen=True)
class Probes:
    """Losses (scalars, on the device) of one batch at neighbouring widths, by width.

    ``live`` is the loss at the present widths; None where the training's own serves as it.
    """

    losses: Mapping[str, Tensor]
    live: Tensor | None

    def fetch(
        self, live: Tensor | None = None, mean: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[float, dict[str, float]]:
        """Return the live loss and those of the probes: one transfer, which waits for a GPU.

        Args:
            live: training loss of the same batch and weights; needed where none was measured.
            mean: of a tensor (losses,) over all processes that share the batch; None for one.
        """
        at = live if self.live is None else self.live
        assert at is not None
        values = torch.stack([value.detach().float() for value in (at, *self.losses.values())])
        first, *others = (values if mean is None else mean(values)).cpu().tolist()
        return first, dict(zip(self.losses, others, strict=True))


def run_probes(
    binding: Binding,
    loss: Measure,
    names: Collection[str] | None = None,
    *,
    measure_live: bool = True,
) -> Probes:
    """Measure the loss of each probe of the controller on one batch; nothing is fetched.

    Call it at the weights of the live loss: in a training step before its forward pass. Between
    the backward pass and the update the gradients may lie in memory that the next pass of a CUDA
    graph uses. All passes see the same random state; widths, modes, running statistics and random
    state are as before afterwards.

    Args:
        binding: the bound network.
        loss: runs the network on the batch and returns its loss (scalar) at the present widths.
        names: of the widths to probe; all that have a probe where None.
        measure_live: measure the live loss as well, as dropout wants it: its passes must draw the
            same numbers as the probes.
    """
    net, probes = binding.network, dict(binding.controller.probes())
    probed = [name for name in probes if names is None or name in names]
    measure = _with_same_numbers(net, loss)
    losses: dict[str, Tensor] = {}
    with probing(net):
        live = measure() if measure_live else None
        for name in probed:
            with binding.at(probes[name]):
                losses[name] = measure()
    return Probes(losses, live)


def probe_losses(
    binding: Binding,
    loss: Measure,
    names: Collection[str] | None = None,
    *,
    live: Tensor | None = None,
    mean: Callable[[Tensor], Tensor] | None = None,
) -> tuple[float, dict[str, float]]:
    """Return the live loss and the loss of each probe on one batch, fetched at once.

    Args:
        binding: as of :func:`run_probes`, with ``loss`` and ``names``.
        loss: likewise.
        names: likewise.
        live: training loss that serves as the live loss; measured where None.
        mean: of a tensor (losses,) over all processes that share the batch; None for one process.
    """
    return run_probes(binding, loss, names, measure_live=live is None).fetch(live, mean)


def compare_losses(
    binding: Binding,
    losses: Iterable[Measure],
    plans: tuple[Mapping[str, int], Mapping[str, int]],
    *,
    mean: Callable[[Tensor], Tensor] | None = None,
) -> list[float]:
    """Return the loss at the first plan minus that at the second, for each batch.

    Measured as :func:`probe_losses` measures: batch statistics, and the same random numbers for
    both plans of a pair. Widths, modes, running statistics and random state are as before
    afterwards.

    Args:
        binding: the bound network.
        losses: for each batch what runs the network on it and returns its loss (scalar).
        plans: integer widths by name.
        mean: of a tensor (batches,) over all processes that share the batches; None for one.
    """
    first, second = plans
    differences = []
    with probing(binding.network):
        for measure in losses:
            with binding.at(first):
                one = _with_same_numbers(binding.network, measure)()
            with binding.at(second):
                other = measure()  # leaves the random state at new numbers for the next pair
            differences.append((one - other).float())
    if not differences:
        return []
    values = torch.stack(differences)
    listed: list[float] = (values if mean is None else mean(values)).cpu().tolist()
    return listed


def plan_losses(
    binding: Binding,
    losses: Iterable[Measure],
    plans: Sequence[Mapping[str, int]],
    *,
    mean: Callable[[Tensor], Tensor] | None = None,
) -> list[list[float]]:
    """Return the loss at each plan on each batch: one row per plan.

    Measured as :func:`compare_losses` measures; all plans of a batch see the same random numbers.

    Args:
        binding: the bound network.
        losses: for each batch what runs the network on it and returns its loss (scalar).
        plans: integer widths by name.
        mean: of a tensor (batches, plans) over all processes that share the batches; None for one.
    """
    rows = []
    with probing(binding.network):
        for loss in losses:
            row = []
            measure = _with_same_numbers(binding.network, loss)
            for plan in plans:
                with binding.at(plan):
                    row.append(measure().float())
            rows.append(torch.stack(row))
            if draws_numbers(binding.network):
                loss()  # leaves the random state at new numbers for the next batch
    values = torch.stack(rows)
    listed: list[list[float]] = (values if mean is None else mean(values)).T.cpu().tolist()
    return listed


def _with_same_numbers(net: nn.Module, loss: Measure) -> Measure:
    """Return ``loss`` so that every call draws the same random numbers."""
    if not draws_numbers(net):
        return loss
    devices = sorted({p.device.index or 0 for p in net.parameters() if p.is_cuda})

    def measure() -> Tensor:
        with torch.random.fork_rng(devices=devices):
            return loss()

    return measure

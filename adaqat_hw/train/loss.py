"""The training loss: cross-entropy, and with a teacher the divergence from its outputs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaqat_hw import nets
from adaqat_hw.schema import NetworkConfig, TrainConfig
from adaqat_hw.train.checkpoint import load_into, load_weights
from adaqat_hw.train.compute import Compute


class Teacher:
    """A full-precision network whose outputs are learned from; it never changes.

    Args:
        network: its architecture, the same as the student's.
        path: its ``checkpoint.pt``.
        train: how its passes run: as the student's.
        device: where it runs.

    Raises:
        ConfigError: the checkpoint is missing, damaged or of another network.
    """

    def __init__(
        self, network: NetworkConfig, path: Path, train: TrainConfig, device: torch.device
    ) -> None:
        state = load_weights(path)
        # Building draws initial weights; the student's random numbers must not depend on it.
        with torch.random.fork_rng(devices=[]):
            net = nets.build(network)
        load_into(net, state, path)
        self.net: nn.Module = net.to(device).eval().requires_grad_(False)
        self._compute = Compute(self.net, self.net, train, device)

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """Return the outputs (n, classes) for inputs (n, ...)."""
        return self._compute.probe(x)


def training_loss(
    train: TrainConfig, logits: Tensor, labels: Tensor, teacher: Tensor | None = None
) -> Tensor:
    """Return the training loss (scalar).

    With a teacher it is ``(1 - w) * CE + w * T^2 * KL(teacher || student)`` at temperature ``T``
    (arXiv 1503.02531, section 2); ``w`` is ``distill_weight``, ``T`` ``distill_temperature``.

    Args:
        train: label smoothing and distillation.
        logits: (n, classes).
        labels: (n,) int64.
        teacher: the teacher's logits (n, classes), or None.
    """
    hard = F.cross_entropy(logits, labels, label_smoothing=train.label_smoothing)
    if teacher is None:
        return hard
    weight, heat = train.distill_weight, train.distill_temperature
    own = F.log_softmax(logits.float() / heat, dim=1)
    target = F.log_softmax(teacher.float() / heat, dim=1)
    soft = F.kl_div(own, target, reduction="batchmean", log_target=True)
    return (1 - weight) * hard + weight * heat**2 * soft

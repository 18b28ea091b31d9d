"""The training loss: cross-entropy or one's own, and the divergence from a teacher's outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaqat_hw import nets
from adaqat_hw.errors import ConfigError
from adaqat_hw.quant import copy_network
from adaqat_hw.schema import NetworkConfig, RunConfig, TrainConfig
from adaqat_hw.train.checkpoint import load_into, load_weights
from adaqat_hw.train.compute import Compute


class Teacher:
    """A network whose outputs are learned from; it never changes.

    Args:
        net: with its weights; a copy of it is used.
        train: how its passes run: as the student's.
        device: where it runs.
    """

    def __init__(self, net: nn.Module, train: TrainConfig, device: torch.device) -> None:
        self.net: nn.Module = copy_network(net).to(device).eval().requires_grad_(False)
        self._compute = Compute(self.net, self.net, train, device)

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """Return the outputs (n, classes) for inputs (n, ...)."""
        return self._compute.probe(x)

    def check(self, x: Tensor, outputs: Tensor, targets: Tensor) -> None:
        """Refuse a teacher whose outputs cannot be compared with the student's.

        Args:
            x: inputs of a few samples.
            outputs: the student's for them.
            targets: what the data say.

        Raises:
            ConfigError: the outputs are no class logits, or the teacher's have another shape.
        """
        labels = targets.dim() == 1 and targets.dtype == torch.int64
        if outputs.dim() != 2 or outputs.shape[1] < 2 or not labels:
            raise ConfigError(
                f"A teacher is learned from by the divergence of class logits, and this network "
                f"has outputs {tuple(outputs.shape)!r} and targets {tuple(targets.shape)!r} of "
                f"{targets.dtype}; give no teacher, or use its outputs as targets."
            )
        try:
            own = self.logits(x)
        except Exception as exc:
            cause = (str(exc).splitlines() or [""])[0].rstrip(". :")
            raise ConfigError(
                f"The teacher ({type(self.net).__name__}) does not run on inputs "
                f"{tuple(x.shape)!r} ({type(exc).__name__}: {cause}); give one of the same data."
            ) from exc
        if own.shape != outputs.shape:
            raise ConfigError(
                f"The teacher ({type(self.net).__name__}) maps inputs {tuple(x.shape)!r} to "
                f"{tuple(own.shape)!r}, the network to {tuple(outputs.shape)!r}; give one of the "
                "same classes."
            )


def teacher_of(config: RunConfig, path: Path | None) -> nn.Module | None:
    """Return the network that ``train.teacher`` names, whose checkpoint is ``path``, or None.

    Raises:
        ConfigError: it is named without a checkpoint, or as :func:`load_teacher`.
    """
    name = config.train.teacher
    if name is None:
        return None
    if path is None:
        raise ConfigError(
            f"train.teacher is {name!r}, and no teacher's checkpoint was given; pass "
            "teacher_checkpoint, or train by the command line, which finds it."
        )
    return load_teacher(config.network, path)


def load_teacher(network: NetworkConfig, path: Path) -> nn.Module:
    """Return the registered network of a student's architecture with a checkpoint's weights.

    Raises:
        ConfigError: the checkpoint is missing, damaged or of another network.
    """
    state = load_weights(path)
    # Building draws initial weights; the student's random numbers must not depend on it.
    with torch.random.fork_rng(devices=[]):
        net = nets.build(network)
    load_into(net, state, path)
    return net


def training_loss(
    train: TrainConfig,
    outputs: Tensor,
    targets: Tensor,
    teacher: Tensor | None = None,
    loss_fn: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Return the training loss (scalar).

    With a teacher it is ``(1 - w) * CE + w * T^2 * KL(teacher || student)`` at temperature ``T``
    (arXiv 1503.02531, section 2); ``w`` is ``distill_weight``, ``T`` ``distill_temperature``. A
    loss of one's own stands in the place of the cross-entropy (CE).

    Args:
        train: label smoothing and distillation.
        outputs: logits (n, classes); (n, ...) with a loss of one's own.
        targets: labels (n,) int64; what it takes with a loss of one's own.
        teacher: the teacher's logits (n, classes), or None.
        loss_fn: the loss of one's own.
    """
    if loss_fn is not None:
        hard = loss_fn(outputs, targets)
    else:
        hard = F.cross_entropy(outputs, targets, label_smoothing=train.label_smoothing)
    if teacher is None:
        return hard
    weight, heat = train.distill_weight, train.distill_temperature
    own = F.log_softmax(outputs.float() / heat, dim=1)
    target = F.log_softmax(teacher.float() / heat, dim=1)
    soft = F.kl_div(own, target, reduction="batchmean", log_target=True)
    return (1 - weight) * hard + weight * heat**2 * soft

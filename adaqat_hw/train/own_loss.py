"""A loss and a metric of one's own, in place of cross-entropy and top-1 accuracy."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant import tensor_float32
from adaqat_hw.train.accuracy import Measured
from adaqat_hw.train.content import tensor_digest

LossFn = Callable[[Tensor, Tensor], Tensor]
MetricFn = Callable[[Tensor, Tensor], Tensor | float]
_PLAIN = (str, int, float, bool, type(None))


class OwnLoss:
    """What a network of one's own learns from and is measured by.

    Args:
        loss_fn: maps outputs (n, ...) and targets (n, ...) to a scalar tensor, the mean over the
            batch.
        metric_fn: the same for a number to report; None where the loss is enough.

    Raises:
        ConfigError: the loss has parameters that nothing would train.
    """

    def __init__(self, loss_fn: LossFn, metric_fn: MetricFn | None = None) -> None:
        self.name = name_of(loss_fn)
        self.metric_name = None if metric_fn is None else name_of(metric_fn)
        if isinstance(loss_fn, nn.Module) and any(p.requires_grad for p in loss_fn.parameters()):
            raise ConfigError(
                f"loss_fn {self.name!r} has parameters, which nothing would train; put them into "
                "the network or call requires_grad_(False) on it."
            )
        self._loss, self._metric = loss_fn, metric_fn

    def to(self, device: torch.device) -> OwnLoss:
        """Return the same with copies on ``device`` of what is a module."""
        moved = copy.copy(self)
        moved._loss = _moved(self._loss, device)
        moved._metric = _moved(self._metric, device)
        return moved

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of one batch."""
        return self._loss(outputs, targets)

    @torch.no_grad()
    @tensor_float32(allowed=False)
    def measure(self, net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Measured:
        """Return the means of loss and metric over ``batches``, each weighted by its samples.

        Sums stay on the device until the end; the network's train/eval mode is restored.

        Raises:
            ValueError: there is no batch.
        """
        training, samples = net.training, 0
        loss = metric = torch.zeros((), dtype=torch.float64)
        net.eval()
        try:
            for x, y in batches:
                outputs = net(x)
                loss = loss.to(x.device) + self._loss(outputs, y).double() * len(x)
                if self._metric is not None:
                    value = torch.as_tensor(self._metric(outputs, y), dtype=torch.float64)
                    metric = metric.to(value.device) + value * len(x)
                samples += len(x)
        finally:
            net.train(training)
        if not samples:
            raise ValueError("no batch to measure a loss on")
        mean = None if self._metric is None else float(metric) / samples
        return Measured(None, None, samples, loss=float(loss) / samples, metric=mean)

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Refuse what cannot be trained, on a few samples' outputs and targets.

        Raises:
            ConfigError: loss or metric fails, broadcasts, is no scalar or cannot be
                differentiated.
        """
        devices = [outputs.device] if outputs.is_cuda else []
        with torch.random.fork_rng(devices=devices):
            loss = self._tried("loss_fn", self.name, self._loss, outputs, targets)
            if self._metric is not None:
                name = str(self.metric_name)
                self._tried("metric_fn", name, self._metric, outputs.detach(), targets)
        if not isinstance(loss, Tensor) or not loss.requires_grad:
            raise ConfigError(
                f"loss_fn {self.name!r} returns {loss!r}, which cannot be differentiated; it must "
                "compute a scalar tensor from the outputs."
            )

    def _tried(
        self, role: str, name: str, fn: Callable[..., Any], outputs: Tensor, targets: Tensor
    ) -> Any:
        sides = f"outputs {_shown(outputs)} and targets {_shown(targets)}"
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                value = fn(outputs, targets)
        except Exception as exc:
            cause = (str(exc).splitlines() or [""])[0].rstrip(". :")
            raise ConfigError(
                f"{role} {name!r} fails on {sides} ({type(exc).__name__}: {cause}); give targets "
                "and a network that it takes."
            ) from exc
        if any("target size" in str(warning.message) for warning in caught):
            raise ConfigError(f"{role} {name!r} would broadcast {sides}; give the two one shape.")
        shape = tuple(value.shape) if isinstance(value, Tensor) else ()
        if shape or not isinstance(value, Tensor | int | float):
            text = f"shape {shape!r}" if shape else type(value).__name__
            raise ConfigError(
                f"{role} {name!r} returns {text} for {sides}; it must return one number, the mean "
                "over the batch."
            )
        return value


def name_of(fn: Callable[..., Any]) -> str:
    """Return what identifies a function in the digest of a training.

    Module and qualified name; of a ``functools.partial`` also its plain arguments, of an
    ``nn.Module`` its plain settings and its tensors. The code of a function is not looked at.
    """
    if isinstance(fn, functools.partial):
        plain = [repr(x) for x in fn.args if isinstance(x, _PLAIN)]
        plain += [f"{k}={v!r}" for k, v in sorted(fn.keywords.items()) if isinstance(v, _PLAIN)]
        return f"{name_of(fn.func)}({', '.join(plain)})"
    kind: Any = fn if hasattr(fn, "__qualname__") else type(fn)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if not isinstance(fn, nn.Module):
        return name
    settings = [
        f"{key}={value!r}"
        for key, value in sorted(vars(fn).items())
        if key != "training" and not key.startswith("_") and isinstance(value, _PLAIN)
    ]
    tensors = list(fn.state_dict().values())
    held = [tensor_digest(*tensors)] if tensors else []
    return f"{name}({', '.join([*settings, *held])})"


def _moved(fn: Any, device: torch.device) -> Any:
    return copy.deepcopy(fn).to(device) if isinstance(fn, nn.Module) else fn


def _shown(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)!r} of {tensor.dtype}"

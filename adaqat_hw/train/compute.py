"""How the forward passes of training run: precision, memory format, compiled or not.

Accuracies and batch-norm recalibration do not come through here: they run the network itself, in
float32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from adaqat_hw.schema import TrainConfig

Forward = Callable[[Tensor], Tensor]
_IMAGES = 4  # dimensions of a batch of images


def lay_out(net: nn.Module, train: TrainConfig) -> bool:
    """Lay the weights of ``net`` out as its passes want them; return whether that is for images.

    Before the network is shared: gradients then lie as the buckets that are averaged.
    """
    images = train.precision == "bfloat16" or train.compile
    if images:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return images


class Compute:
    """Run the training forward of a network as configured.

    Args:
        net: the network.
        shared: the same network as the processes of torchrun share it; its backward pass
            averages gradients. Probes run ``net`` itself.
        train: ``precision`` and ``compile``.
        device: where it runs.
    """

    def __init__(
        self, net: nn.Module, shared: nn.Module, train: TrainConfig, device: torch.device
    ) -> None:
        self._kind = device.type
        self._mixed = train.precision == "bfloat16"
        self._images = lay_out(net, train)
        self._shared: Forward = torch.compile(shared) if train.compile else shared
        self._net: Forward = torch.compile(net) if train.compile else net
        if shared is net:
            self._net = self._shared

    def training(self, x: Tensor) -> Tensor:
        """Map inputs (n, ...) to float32 logits (n, classes) of the pass that is learned from."""
        return self._run(self._shared, x)

    def probe(self, x: Tensor) -> Tensor:
        """Map inputs (n, ...) to float32 logits (n, classes) of a pass that only measures."""
        return self._run(self._net, x)

    def _run(self, forward: Forward, x: Tensor) -> Tensor:
        if self._images and x.dim() == _IMAGES:
            x = x.contiguous(memory_format=torch.channels_last)
        if not self._mixed:
            return forward(x)
        with torch.autocast(self._kind, torch.bfloat16):
            return forward(x).float()

"""How the forward passes of training run: precision, memory format, compiled or not.

Accuracies and batch-norm recalibration do not come through here: they run the network itself, in
float32.

In some modes torch.compile records CUDA graphs. A graph's outputs lie in memory that the next pass
takes again, gradients included. So each pass says that it begins a new iteration, what a pass that
measures returns is a copy, and no pass runs between a backward pass and the optimizer's update.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from adaqat_hw.schema import TrainConfig

Forward = Callable[[Tensor], Tensor]
_IMAGES = 4  # dimensions of a batch of images
_GRAPH_MODES = ("reduce-overhead", "max-autotune")


def records_graphs(train: TrainConfig) -> bool:
    """Tell whether passes are CUDA graphs where they run on a GPU."""
    return train.compile and train.compile_mode in _GRAPH_MODES


def lay_out(net: nn.Module, train: TrainConfig) -> bool:
    """Lay the weights of ``net`` out as its passes want them; return whether that is for images.

    Before the network is shared: gradients then lie as the buckets that are averaged.
    """
    images = train.precision != "float32" or train.compile
    if images:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return images


class Compute:
    """Run the training forward of a network as configured.

    Args:
        net: the network.
        shared: the same network as the processes of torchrun share it; its backward pass
            averages gradients. Probes run ``net`` itself.
        train: ``precision``, ``compile`` and ``compile_mode``.
        device: where it runs.
    """

    def __init__(
        self, net: nn.Module, shared: nn.Module, train: TrainConfig, device: torch.device
    ) -> None:
        self._kind = device.type
        self._mixed = train.precision == "bfloat16"
        self._images = lay_out(net, train)
        self._graphs = records_graphs(train)
        self._shared = _compiled(shared, train)
        self._net = self._shared if shared is net else _compiled(net, train)

    def training(self, x: Tensor) -> Tensor:
        """Map inputs (n, ...) to float32 logits (n, classes) of the pass that is learned from."""
        return self._run(self._shared, x)

    def probe(self, x: Tensor) -> Tensor:
        """Map inputs (n, ...) to float32 logits (n, classes) of a pass that only measures."""
        logits = self._run(self._net, x)
        return logits.clone() if self._graphs else logits

    def _run(self, forward: Forward, x: Tensor) -> Tensor:
        if self._graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        if self._images and x.dim() == _IMAGES:
            x = x.contiguous(memory_format=torch.channels_last)
        if not self._mixed:
            return forward(x)
        with torch.autocast(self._kind, torch.bfloat16):
            return forward(x).float()


def _compiled(net: nn.Module, train: TrainConfig) -> Forward:
    if not train.compile:
        return net
    forward: Forward = torch.compile(net, mode=train.compile_mode)
    return forward

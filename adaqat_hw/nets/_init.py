"""Weight initialisation shared by all networks."""

from __future__ import annotations

from torch import nn


def kaiming(net: nn.Module) -> nn.Module:
    """Draw the weights of ``net`` from He et al.'s normal distribution (fan-in, ReLU gain).

    Biases become 0; batch norm keeps torch's scale 1 and shift 0. Source: arXiv 1502.01852,
    equation 10.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net

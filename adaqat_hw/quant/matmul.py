"""Products of two activations as a module, so that each has a name of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MatMul(nn.Module):
    """Matrix product of two activations, such as attention's scores and context.

    It does what ``@`` does, but as a module: its path in the network is the layer's name in
    records, reports and the exported graph. A bare ``@`` is quantized as well and gets the name
    that ``torch.fx`` gives it (``matmul``, ``matmul_1``, ...).
    """

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Map (..., M, K) and (..., K, N) to (..., M, N)."""
        return torch.matmul(left, right)

"""Encoder blocks of transformers (arXiv 1706.03762), layer norm in front (arXiv 2002.04745)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from adaqat_hw.nets._init import kaiming
from adaqat_hw.quant import MatMul

Activation = Literal["gelu", "relu"]


class Attention(nn.Module):
    """Multi-head self-attention whose two products are layers of their own.

    ``scores`` multiplies queries and keys, ``context`` the softmax of the scaled scores and the
    values.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.scores = MatMul()
        self.softmax = nn.Softmax(dim=-1)
        self.context = MatMul()
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, offset: Tensor | None = None) -> Tensor:
        """Map (n, L, dim) to (n, L, dim); ``offset`` is added to the scaled scores."""
        q, k, v = self._split(self.q(x)), self._split(self.k(x)), self._split(self.v(x))
        scores = self.scores(q, k.transpose(-2, -1)) * self.scale
        if offset is not None:
            scores = scores + offset
        y = self.context(self.softmax(scores), v)
        out: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        """Map (n, L, dim) to (n, heads, L, dim / heads)."""
        return torch.unflatten(x, -1, (self.heads, -1)).transpose(1, 2)


class Mlp(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, dim: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU() if activation == "gelu" else nn.ReLU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, L, dim) to (n, L, dim)."""
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out


class Block(nn.Module):
    """Attention and MLP, each with a layer norm in front and a residual add behind."""

    def __init__(self, dim: int, heads: int, mlp_ratio: int, activation: Activation) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, mlp_ratio * dim, activation)

    def forward(self, x: Tensor, offset: Tensor | None = None) -> Tensor:
        """Map (n, L, dim) to (n, L, dim)."""
        x = x + self.attention(self.norm1(x), offset)
        x = x + self.mlp(self.norm2(x))
        return x


def check_heads(dim: int, heads: int) -> None:
    """Refuse a width that the heads do not share evenly.

    Raises:
        ValueError: ``dim`` is not a multiple of ``heads``.
    """
    if dim % heads:
        raise ValueError(f"dim {dim!r} must be a multiple of heads {heads!r}")


def initialise(net: nn.Module, positions: Sequence[nn.Parameter]) -> nn.Module:
    """Draw weights as everywhere (Kaiming) and embeddings of standard deviation 1.

    Embeddings that small nets usually start from (0.02) would all round to 0 in the first
    residual add, whose quantizer spans ``act_clip``.
    """
    for table in positions:
        nn.init.normal_(table)
    for module in net.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)
    return kaiming(net)

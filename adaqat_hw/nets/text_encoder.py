"""Text encoder in the manner of BERT (arXiv 1810.04805), for short sequences of tokens."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from adaqat_hw.nets._registry import Options, register
from adaqat_hw.nets._transformer import Activation, Block, check_heads, initialise

Width = Annotated[int, Field(gt=0)]
_PADDING = 0
_NEVER = -1e4  # added to a score, it leaves nothing of it after the softmax


class TextEncoderOptions(Options):
    """``input_shape``: (tokens of a text,); ``vocabulary``: number of tokens, 0 is the padding.

    ``dim``: features of a token; ``depth``: blocks; ``mlp_ratio``: hidden units of a block's MLP
    over ``dim``; ``activation``: of the MLPs.
    """

    input_shape: tuple[Width] = (16,)
    num_classes: int = Field(default=5, ge=2)
    vocabulary: Annotated[int, Field(gt=1)] = 64
    dim: Width = 64
    depth: Width = 2
    heads: Width = 4
    mlp_ratio: Width = 4
    activation: Activation = "gelu"


class TextEncoder(nn.Module):
    """Embeddings of tokens and positions, encoder blocks, norm, mean, classifier.

    No token looks at padding, and the mean leaves it out.
    """

    def __init__(self, options: TextEncoderOptions) -> None:
        super().__init__()
        (length,) = options.input_shape
        self.tokens = nn.Embedding(options.vocabulary, options.dim)
        self.positions = nn.Parameter(torch.empty(1, length, options.dim))
        self.blocks = nn.ModuleList(
            Block(options.dim, options.heads, options.mlp_ratio, options.activation)
            for _ in range(options.depth)
        )
        self.norm = nn.LayerNorm(options.dim)
        self.head = nn.Linear(options.dim, options.num_classes, bias=options.head_bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map int64 tokens (n, length) to (n, num_classes)."""
        padding = (tokens == _PADDING).float()
        offset = padding.unsqueeze(1).unsqueeze(1) * _NEVER  # (n, 1, 1, length)
        x = self.tokens(tokens) + self.positions
        for block in self.blocks:
            x = block(x, offset)
        x = self.norm(x)
        mask = (1 - padding).unsqueeze(2)
        x = (x * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        logits: Tensor = self.head(x)
        return logits


@register(
    "text-encoder",
    options=TextEncoderOptions,
    description="BERT-like encoder of short texts: embeddings, self-attention blocks, mean",
)
def text_encoder(options: TextEncoderOptions) -> nn.Module:
    """Build a pre-norm encoder of int64 tokens.

    Raises:
        ValueError: the heads do not share ``dim`` evenly.
    """
    check_heads(options.dim, options.heads)
    net = TextEncoder(options)
    return initialise(net, [net.positions])

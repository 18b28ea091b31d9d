"""Small Vision Transformer (Dosovitskiy et al., arXiv 2010.11929)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from adaqat_hw.nets._registry import Options, register
from adaqat_hw.nets._transformer import Activation, Block, check_heads, initialise

Width = Annotated[int, Field(gt=0)]


class VitOptions(Options):
    """``patch``: side of a patch in pixels; ``dim``: features of a patch; ``depth``: blocks.

    ``mlp_ratio``: hidden units of a block's MLP over ``dim``; ``activation``: of the MLPs.
    ``pool``: what the classifier reads, the mean over the patches or a class token.
    """

    input_shape: tuple[Width, Width, Width] = (3, 32, 32)
    patch: Width = 4
    dim: Width = 128
    depth: Width = 6
    heads: Width = 4
    mlp_ratio: Width = 2
    activation: Activation = "gelu"
    pool: Literal["mean", "token"] = "mean"


class VisionTransformer(nn.Module):
    """Patches by a convolution, learned positions, encoder blocks, norm, pooling, classifier."""

    def __init__(self, options: VitOptions) -> None:
        super().__init__()
        inputs, height, width = options.input_shape
        self.token = options.pool == "token"
        length = (height // options.patch) * (width // options.patch) + self.token
        self.patches = nn.Conv2d(inputs, options.dim, options.patch, stride=options.patch)
        self.positions = nn.Parameter(torch.empty(1, length, options.dim))
        self.blocks = nn.Sequential(
            *(
                Block(options.dim, options.heads, options.mlp_ratio, options.activation)
                for _ in range(options.depth)
            )
        )
        self.norm = nn.LayerNorm(options.dim)
        self.head = nn.Linear(options.dim, options.num_classes, bias=options.head_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, C, H, W) to (n, num_classes)."""
        x = self.patches(x).flatten(2).transpose(1, 2)
        if self.token:
            # The class token and its position are one learned vector: the first position.
            x = F.pad(x, (0, 0, 1, 0))
        x = self.norm(self.blocks(x + self.positions))
        x = x[:, 0] if self.token else x.mean(dim=1)
        logits: Tensor = self.head(x)
        return logits


@register(
    "vit",
    options=VitOptions,
    description="small Vision Transformer: patches, self-attention blocks, mean or class token",
)
def vit(options: VitOptions) -> nn.Module:
    """Build a pre-norm Vision Transformer.

    Raises:
        ValueError: the patches do not cover the image, or the heads do not share ``dim`` evenly.
    """
    _, height, width = options.input_shape
    if height % options.patch or width % options.patch:
        raise ValueError(
            f"input_shape {options.input_shape!r} must have a height and a width that are "
            f"multiples of patch {options.patch!r}"
        )
    check_heads(options.dim, options.heads)
    net = VisionTransformer(options)
    return initialise(net, [net.positions])

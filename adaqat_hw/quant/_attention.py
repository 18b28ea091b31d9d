"""torch's attention and encoder layers in the form that can be traced and quantized.

torch's own modules call one fused function; here projections and the two products of activations
are modules of their own. Weights are shared with the module that is replaced.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant.matmul import MatMul


class MultiheadAttention(nn.Module):
    """Compute what ``nn.MultiheadAttention`` computes without masks (arXiv 1706.03762).

    ``q``, ``k``, ``v`` and ``out`` are its projections, ``scores`` multiplies queries and keys,
    ``context`` the softmax of the scaled scores and the values.

    Args:
        source: what is replaced.
        path: its name in the network, for errors.

    Raises:
        ConfigError: it adds a row to keys and values.
    """

    def __init__(self, source: nn.MultiheadAttention, path: str) -> None:
        super().__init__()
        added = {"add_bias_kv": source.bias_k is not None, "add_zero_attn": source.add_zero_attn}
        for name, present in added.items():
            if present:
                raise ConfigError(
                    f"MultiheadAttention {path!r} has {name} = True, which has no quantized form; "
                    "make it without."
                )
        self.path = path
        self.batch_first = source.batch_first
        self.heads = source.num_heads
        self.scale = float(source.head_dim) ** -0.5
        weights: tuple[Tensor, ...] = (
            source.q_proj_weight,
            source.k_proj_weight,
            source.v_proj_weight,
        )
        if source.in_proj_weight is not None:
            weights = source.in_proj_weight.detach().chunk(3)
        biases: Any = (None, None, None)
        if source.in_proj_bias is not None:
            biases = source.in_proj_bias.detach().chunk(3)
        self.q, self.k, self.v = map(_linear, weights, biases)
        self.scores = MatMul()
        self.softmax = nn.Softmax(dim=-1)
        self.dropout = nn.Dropout(source.dropout) if source.dropout else nn.Identity()
        self.context = MatMul()
        self.out = _linear(source.out_proj.weight, source.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Map queries (n, L, dim), keys and values (n, S, ...) to (n, L, dim) and the weights.

        The weights (n, L, S), or (n, heads, L, S) where they are not averaged, are None without
        ``need_weights``. With ``batch_first`` False the first two dimensions are the other way.

        Raises:
            ConfigError: there is a mask.
        """
        masks = {"key_padding_mask": key_padding_mask, "attn_mask": attn_mask}
        refuse_masks(self.path, "MultiheadAttention", masks, is_causal)
        if not self.batch_first:
            query, key, value = _batch_first(query, key, value)
        q, k, v = self._split(self.q(query)), self._split(self.k(key)), self._split(self.v(value))
        weights = self.dropout(self.softmax(self.scores(q, k.transpose(-2, -1)) * self.scale))
        y = self.out(self.context(weights, v).permute(0, 2, 1, 3).flatten(2))
        shown = None
        if need_weights:
            shown = weights.mean(dim=1) if average_attn_weights else weights
        return (y if self.batch_first else y.transpose(0, 1)), shown

    def _split(self, x: Tensor) -> Tensor:
        """Map (n, L, dim) to (n, heads, L, dim / heads)."""
        return torch.unflatten(x, -1, (self.heads, -1)).permute(0, 2, 1, 3)


class EncoderLayer(nn.Module):
    """Compute what ``nn.TransformerEncoderLayer`` computes without masks, by its plain path.

    Args:
        source: what is replaced; it hands over its modules.
        path: its name in the network, for errors.
    """

    def __init__(self, source: nn.TransformerEncoderLayer, path: str) -> None:
        super().__init__()
        self.path = path
        self.norm_first = source.norm_first
        self.batch_first = source.self_attn.batch_first
        self.self_attn = MultiheadAttention(source.self_attn, f"{path}.self_attn".lstrip("."))
        self.self_attn.batch_first = True  # the transposition is done once, here
        self.linear1, self.linear2 = source.linear1, source.linear2
        self.dropout = source.dropout
        self.dropout1, self.dropout2 = source.dropout1, source.dropout2
        self.norm1, self.norm2 = source.norm1, source.norm2
        activation = source.activation
        plain = {F.relu: nn.ReLU, F.gelu: nn.GELU}.get(activation)  # modules have names
        self.activation = activation if plain is None else plain()

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Map (n, L, dim), or (L, n, dim) as ``batch_first`` says, to the same shape.

        Raises:
            ConfigError: there is a mask.
        """
        masks = {"src_mask": src_mask, "src_key_padding_mask": src_key_padding_mask}
        refuse_masks(self.path, "TransformerEncoderLayer", masks, is_causal)
        x = src if self.batch_first else src.transpose(0, 1)
        if self.norm_first:
            x = x + self._attend(self.norm1(x))
            x = x + self._feed_forward(self.norm2(x))
        else:
            x = self.norm1(x + self._attend(x))
            x = self.norm2(x + self._feed_forward(x))
        return x if self.batch_first else x.transpose(0, 1)

    def _attend(self, x: Tensor) -> Tensor:
        y, _ = self.self_attn(x, x, x, need_weights=False)
        out: Tensor = self.dropout1(y)
        return out

    def _feed_forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))
        return out


class Encoder(nn.Module):
    """Compute what ``nn.TransformerEncoder`` computes without masks.

    Args:
        source: what is replaced; its layers are replaced by themselves.
        path: its name in the network, for errors.
    """

    def __init__(self, source: nn.TransformerEncoder, path: str) -> None:
        super().__init__()
        self.path = path
        self.layers = source.layers
        self.norm = nn.Identity() if source.norm is None else source.norm

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """Map (n, L, dim), or (L, n, dim) as the layers want it, to the same shape.

        Raises:
            ConfigError: there is a mask.
        """
        masks = {"mask": mask, "src_key_padding_mask": src_key_padding_mask}
        refuse_masks(self.path, "TransformerEncoder", masks, bool(is_causal))
        for layer in self.layers:
            src = layer(src)
        out: Tensor = self.norm(src)
        return out


def refuse_masks(path: str, kind: str, masks: dict[str, Any], is_causal: bool) -> None:
    """Raise ConfigError where a mask is given."""
    name = next((name for name, mask in masks.items() if mask is not None), None)
    if name is None and is_causal:
        name = "is_causal = True"
    if name is not None:
        raise ConfigError(
            f"{kind} {path!r} is called with {name}, which has no quantized form; call it without "
            "a mask, or write the attention with MatMul and add the mask to the scores."
        )


def _batch_first(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Swap the first two dimensions; one tensor stays one, so that it is quantized once."""
    q = query.transpose(0, 1)
    k = q if key is query else key.transpose(0, 1)
    v = q if value is query else k if value is key else value.transpose(0, 1)
    return q, k, v


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    outputs, inputs = weight.shape
    layer = nn.Linear(inputs, outputs, bias is not None, device="meta", dtype=weight.dtype)
    layer.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer

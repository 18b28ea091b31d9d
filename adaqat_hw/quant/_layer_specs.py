"""Shapes and multiply-accumulates of the layers of a traced network, for one sample."""

from __future__ import annotations

import math
from typing import Any

from torch import fx, nn

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant._nodes import data_of, operands
from adaqat_hw.schema import LayerKind, LayerSpec


def layer_spec(
    path: str, node: fx.Node, layer: Any, acts: tuple[str, ...], batch: int
) -> LayerSpec:
    """Return the record of a Conv1d/2d, a Linear, or (``layer`` is None) a product.

    Args:
        path: the layer's name.
        node: with propagated shapes.
        layer: its module, None for a product of two activations.
        acts: names of the quantizers of its activation operands.
        batch: number of samples that the shapes were propagated with.
    """
    out_shape = _per_sample(node, path, batch)
    if layer is None:
        return _product(path, node, acts, out_shape, batch)
    in_shape = _per_sample(data_of(node), path, batch)
    (act,) = acts
    if isinstance(layer, nn.Linear):
        return LayerSpec(
            name=path,
            kind="linear",
            macs=math.prod(out_shape) * layer.in_features,
            weights=layer.weight.numel(),
            in_channels=layer.in_features,
            out_channels=layer.out_features,
            input_shape=in_shape,
            output_shape=out_shape,
            act=act,
        )
    depthwise = layer.groups == layer.in_channels > 1
    kind: LayerKind = "depthwise" if depthwise else "conv"
    per_output = math.prod(layer.kernel_size) * (layer.in_channels // layer.groups)
    return LayerSpec(
        name=path,
        kind=kind,
        macs=math.prod(out_shape) * per_output,
        weights=layer.weight.numel(),
        in_channels=layer.in_channels,
        out_channels=layer.out_channels,
        kernel=tuple(layer.kernel_size),
        stride=tuple(layer.stride),
        padding=_padding(path, layer),
        groups=layer.groups,
        input_shape=in_shape,
        output_shape=out_shape,
        act=act,
    )


def _product(
    path: str, node: fx.Node, acts: tuple[str, ...], out_shape: tuple[int, ...], batch: int
) -> LayerSpec:
    left, right = operands(node)
    for operand in (left, right):
        if len(operand.meta["tensor_meta"].shape) < 3:
            raise ConfigError(
                f"Product {path!r} takes a tensor of shape "
                f"{tuple(operand.meta['tensor_meta'].shape)!r} for a batch of {batch}; give both "
                "operands a batch dimension and the two of a matrix."
            )
    in_shape = _per_sample(left, path, batch)
    return LayerSpec(
        name=path,
        kind="matmul",
        macs=math.prod(out_shape) * in_shape[-1],
        weights=0,
        in_channels=in_shape[-1],
        out_channels=out_shape[-1],
        input_shape=in_shape,
        output_shape=out_shape,
        act=acts[0],
        second_act=acts[1],
    )


def _per_sample(node: fx.Node, path: str, batch: int) -> tuple[int, ...]:
    """Return a tensor's shape for one sample; samples may be merged with its first dimension."""
    first, *rest = node.meta["tensor_meta"].shape
    if first % batch:
        raise ConfigError(
            f"Layer {path!r} takes or gives shape {(first, *rest)!r} for a batch of {batch}; its "
            "first dimension must be the batch, because samples must not be mixed."
        )
    return tuple(rest) if first == batch else (first // batch, *rest)


def _padding(path: str, layer: Any) -> tuple[int, ...]:
    if layer.padding == "valid":
        return (0,) * len(layer.kernel_size)
    if layer.padding == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        if any(total % 2 for total in totals):
            raise ConfigError(
                f"Layer {path!r} pads unevenly ('same' with kernel {layer.kernel_size!r}); give "
                "the padding as numbers."
            )
        return tuple(total // 2 for total in totals)
    return tuple(layer.padding)

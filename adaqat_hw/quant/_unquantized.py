"""What has no quantized form, and what stays in floating point: refused, or told."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant._nodes import LAYERS, Role, describe

# Modules with weights of their own: refused wherever they stand, for behind the last layer too
# their weights would stay in floating point, in no record.
_WEIGHTED: tuple[tuple[tuple[type[nn.Module], ...], str], ...] = (
    (
        (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
        "use nn.Upsample with mode 'nearest' and a Conv1d or Conv2d in its place",
    ),
    ((nn.RNNBase, nn.RNNCellBase), "use convolutions over time or attention in its place"),
    (
        (nn.Transformer, nn.TransformerDecoder, nn.TransformerDecoderLayer),
        "build the decoder of nn.MultiheadAttention and nn.Linear, without masks",
    ),
    (
        (nn.MultiheadAttention, nn.TransformerEncoder, nn.TransformerEncoderLayer),
        "its class changes torch's forward: write it with nn.Linear and MatMul",
    ),
    ((nn.Conv3d, nn.Bilinear), "use Conv1d, Conv2d or Linear in its place"),
)
_WEIGHTED_CALLS: set[Any] = {
    *(F.linear, F.bilinear, F.conv1d, F.conv2d, F.conv3d),
    *(F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
    F.multi_head_attention_forward,
}
# What a build refuses, though the network trains and exports. Batch norm, constants and lookups
# are absorbed or told by the build.
_FLOAT_ON_HARDWARE: tuple[type[nn.Module], ...] = (
    *(nn.LayerNorm, nn.Softmax, nn.GELU, nn.SiLU, nn.Mish, nn.ELU, nn.LeakyReLU),
    *(nn.Hardswish, nn.Sigmoid, nn.Hardsigmoid, nn.Tanh),
)
_FLOAT_CALLS: set[Any] = {
    *(F.layer_norm, F.softmax, torch.softmax, F.gelu, F.silu, F.mish, F.elu, F.leaky_relu),
    *(F.hardswish, F.sigmoid, torch.sigmoid, F.hardsigmoid, F.tanh, torch.tanh),
    *("softmax", "sigmoid", "tanh"),
}


def refuse_weights(graph: fx.Graph, modules: dict[str, nn.Module]) -> None:
    """Raise ConfigError where something with weights has no quantized form."""
    for node in graph.nodes:
        if node.op == "call_function" and node.target in _WEIGHTED_CALLS:
            raise ConfigError(
                f"The network calls function {node.target.__name__!r}, whose weights have no name "
                "to quantize them by; use the module (such as nn.Conv2d) in its place."
            )
        if node.op != "call_module":
            continue
        module = modules[str(node.target)]
        remedy = next((text for kinds, text in _WEIGHTED if isinstance(module, kinds)), None)
        if remedy is not None and not isinstance(module, LAYERS):
            raise ConfigError(
                f"The network holds {type(module).__name__} {str(node.target)!r}, which has no "
                f"quantized form; {remedy}."
            )


def refuse_unsupported(
    roles: dict[fx.Node, Role], modules: dict[str, nn.Module], known: set[fx.Node]
) -> None:
    """Raise ConfigError where something before a layer has no quantized form; name all of it.

    Args:
        roles: of the nodes up to the last layer.
        modules: of the traced network by path.
        known: nodes that hold no activation.
    """
    bad = [node for node, role in roles.items() if role == "unsupported"]
    if not bad:
        return
    if all(_upsamples(node, modules) for node in bad):
        raise ConfigError(
            f"The network holds {_names(bad, modules, known)} before a layer, which has no "
            "quantized form unless its mode is 'nearest' and its factors are whole; set mode = "
            "'nearest' and such a scale_factor."
        )
    raise ConfigError(
        f"The network holds {_names(bad, modules, known)} before a layer, which has no quantized "
        "form; use Conv1d/2d, Linear, MultiheadAttention, products of two activations (MatMul), "
        "BatchNorm, LayerNorm, ReLU, GELU, SiLU, Mish, ELU, LeakyReLU, Hardswish, Sigmoid, Tanh, "
        "Softmax, Embedding, max or average pooling, nearest Upsample, flattening, dropout, "
        "residual additions of two tensors and arithmetic with constants."
    )


def float_note(roles: dict[fx.Node, Role], modules: dict[str, nn.Module]) -> str:
    """Return a sentence on what stays in floating point before a layer, or nothing."""
    nodes = [node for node, role in roles.items() if role == "float" and _has_no_rtl(node, modules)]
    if not nodes:
        return ""
    return (
        "Computed in floating point, and quantized where a layer reads it: "
        f"{_names(nodes, modules, set())}. The network trains and exports; no accelerator of it "
        "can be built, as one with ReLU can."
    )


def _has_no_rtl(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], _FLOAT_ON_HARDWARE)
    return node.target in _FLOAT_CALLS


def _upsamples(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], nn.Upsample)
    return node.target is F.interpolate


def _names(nodes: list[fx.Node], modules: dict[str, nn.Module], known: set[fx.Node]) -> str:
    return ", ".join(dict.fromkeys(describe(node, modules, known) for node in nodes))

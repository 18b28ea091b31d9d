"""What the nodes of a traced network mean to a quantizer."""

from __future__ import annotations

import operator
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.nn import functional as F

Role = Literal["input", "layer", "relu", "norm", "add", "transparent", "unsupported"]

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)
_RELUS = (nn.ReLU, nn.ReLU6)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
# These hand values on, take their maximum or average them: what they read stays the quantizer.
_TRANSPARENT = (
    nn.Identity,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Flatten,
    nn.Unflatten,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.ZeroPad2d,
)
_RELU_FUNCTIONS: set[Any] = {F.relu, F.relu6, torch.relu, torch.relu_}
_ADD_FUNCTIONS: set[Any] = {operator.add, operator.iadd, torch.add}
_TRANSPARENT_FUNCTIONS: set[Any] = {
    F.dropout,
    F.max_pool1d,
    F.max_pool2d,
    F.avg_pool1d,
    F.avg_pool2d,
    F.adaptive_avg_pool1d,
    F.adaptive_avg_pool2d,
    torch.flatten,
    torch.reshape,
    torch.squeeze,
    torch.unsqueeze,
    torch.permute,
    torch.transpose,
    torch.mean,
    operator.getitem,
}
_RELU_METHODS: set[Any] = {"relu", "relu_"}
_ADD_METHODS: set[Any] = {"add", "add_"}
_TRANSPARENT_METHODS: set[Any] = {
    "flatten",
    "view",
    "reshape",
    "squeeze",
    "unsqueeze",
    "permute",
    "transpose",
    "contiguous",
    "mean",
    "clone",
}


def role_of(node: fx.Node, modules: dict[str, nn.Module]) -> Role:
    """Return what ``node``, which yields a tensor, is to the quantizers."""
    if node.op == "placeholder":
        return "input"
    if node.op == "call_module":
        return _role_of_module(modules[str(node.target)])
    if node.op == "call_function":
        if node.target is F.pad:
            return "transparent" if _pads_with_zeros(node) else "unsupported"
        groups = (_RELU_FUNCTIONS, _ADD_FUNCTIONS, _TRANSPARENT_FUNCTIONS)
    elif node.op == "call_method":
        groups = (_RELU_METHODS, _ADD_METHODS, _TRANSPARENT_METHODS)
    else:
        return "unsupported"
    if node.target in groups[0]:
        return "relu"
    if node.target in groups[1]:
        return "add" if len(addends(node)) == 2 and "alpha" not in node.kwargs else "unsupported"
    return "transparent" if node.target in groups[2] else "unsupported"


def addends(node: fx.Node) -> list[fx.Node]:
    """Return the operands of an addition that are nodes."""
    operands = [*node.args, node.kwargs.get("other")]
    return [x for x in operands if isinstance(x, fx.Node)]


def yields_tensor(node: fx.Node) -> bool:
    """Tell whether a shape-propagated node yields a tensor (not a size or a number)."""
    return "tensor_meta" in node.meta


def describe(node: fx.Node, modules: dict[str, nn.Module]) -> str:
    """Name a node for an error message."""
    if node.op == "call_module":
        target = str(node.target)
        return f"{type(modules[target]).__name__} {target!r}"
    if node.op == "get_attr":
        return f"tensor {str(node.target)!r}"
    name = getattr(node.target, "__name__", str(node.target))
    return f"function {name!r}"


def _role_of_module(module: nn.Module) -> Role:
    if isinstance(module, LAYERS):
        return "layer"
    if isinstance(module, _RELUS):
        return "relu"
    if isinstance(module, _NORMS):
        return "norm"
    return "transparent" if isinstance(module, _TRANSPARENT) else "unsupported"


def _pads_with_zeros(node: fx.Node) -> bool:
    mode = node.args[2] if len(node.args) > 2 else node.kwargs.get("mode", "constant")
    value = node.args[3] if len(node.args) > 3 else node.kwargs.get("value")
    return mode == "constant" and value in (None, 0)

"""Roles of the nodes of a traced network for quantization."""

from __future__ import annotations

import operator
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.nn import functional as F

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant.matmul import MatMul

# constant: a parameter, an integer input, or computed from these alone; never quantized.
# float: stays float and is quantized where a layer reads it.
Role = Literal[
    "constant",
    "input",
    "layer",
    "product",
    "relu",
    "float",
    "add",
    "transparent",
    "unsupported",
]

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)
_RELUS = (nn.ReLU, nn.ReLU6)
_FLOATS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.LayerNorm,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.ELU,
    nn.LeakyReLU,
    nn.Hardswish,
    nn.Sigmoid,
    nn.Hardsigmoid,
    nn.Tanh,
    nn.Softmax,
    nn.Embedding,
)
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
# Functions and, by name, methods of tensors.
_RELU_CALLS: set[Any] = {F.relu, F.relu6, torch.relu, torch.relu_, "relu", "relu_"}
_ADD_CALLS: set[Any] = {operator.add, operator.iadd, torch.add, "add", "add_"}
_SUB_CALLS: set[Any] = {operator.sub, operator.isub, torch.sub, "sub", "sub_"}
_MUL_CALLS: set[Any] = {operator.mul, operator.imul, torch.mul, "mul", "mul_"}
_DIV_CALLS: set[Any] = {operator.truediv, operator.itruediv, torch.div, "div", "div_"}
_PRODUCT_CALLS: set[Any] = {
    *(operator.matmul, torch.matmul, torch.bmm, "matmul", "bmm", "__matmul__"),
}
_LOOKUP_CALLS: set[Any] = {F.embedding}
_SOFTMAX_CALLS: set[Any] = {F.softmax, torch.softmax, "softmax"}
_SIGMOID_CALLS: set[Any] = {F.sigmoid, torch.sigmoid, F.hardsigmoid, "sigmoid"}
_TO_ONE = (nn.Softmax, nn.Sigmoid, nn.Hardsigmoid)  # from 0 to 1
_JOINING_CALLS: set[Any] = {torch.cat, torch.concat, torch.stack}
_FLOAT_CALLS: set[Any] = {
    *_LOOKUP_CALLS,
    *_SOFTMAX_CALLS,
    *_JOINING_CALLS,
    *_SIGMOID_CALLS,
    *(F.layer_norm, F.gelu, F.silu, F.mish, F.elu, F.leaky_relu, F.hardswish),
    *(F.tanh, torch.tanh, torch.sum, "tanh", "sum"),
}
_TRANSPARENT_CALLS: set[Any] = {
    F.dropout,
    F.max_pool1d,
    F.max_pool2d,
    F.avg_pool1d,
    F.avg_pool2d,
    F.adaptive_avg_pool1d,
    F.adaptive_avg_pool2d,
    torch.flatten,
    torch.unflatten,
    torch.reshape,
    torch.squeeze,
    torch.unsqueeze,
    torch.permute,
    torch.transpose,
    torch.select,
    torch.chunk,
    torch.split,
    torch.unbind,
    torch.mean,
    operator.getitem,
    *("flatten", "unflatten", "view", "reshape", "squeeze", "unsqueeze", "permute", "transpose"),
    *("contiguous", "mean", "clone", "select", "chunk", "split", "unbind", "expand"),
}
_SHAPE_CALLS: set[Any] = {getattr, len, "size", "dim", "numel"}


def known_nodes(graph: fx.Graph, modules: dict[str, nn.Module], indices: bool) -> set[fx.Node]:
    """Return the nodes that hold no activation: parameters, integer inputs, and what is
    computed from these alone, such as a position's embedding or a mask of the padding.

    Args:
        graph: with propagated shapes.
        modules: of the graph's module by path.
        indices: whether the network's input holds integers.
    """
    known: set[fx.Node] = set()
    of_input: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder":
            of_input.add(node)
            if indices:
                known.add(node)
        elif node.op != "output" and yields_tensor(node):
            sources = _tensors(node.all_input_nodes)
            if any(x in of_input for x in sources):
                of_input.add(node)
            looked_up = is_lookup(node, modules) and node in of_input
            layer = node.op == "call_module" and isinstance(modules[str(node.target)], LAYERS)
            if not looked_up and not layer and all(x in known for x in sources):
                known.add(node)
    return known


def takes_indices(graph: fx.Graph, modules: dict[str, nn.Module]) -> bool:
    """Tell whether the network's input is a tensor of integers: an embedding looks it up."""
    waiting = [data_of(node) for node in graph.nodes if is_lookup(node, modules)]
    seen: set[fx.Node] = set()
    while waiting:
        node = waiting.pop()
        if node.op == "placeholder":
            return True
        if node not in seen and not (node.op.startswith("call") and node.target in _SHAPE_CALLS):
            seen.add(node)
            waiting += node.all_input_nodes
    return False


def role_of(node: fx.Node, modules: dict[str, nn.Module], known: set[fx.Node]) -> Role:
    """Return what ``node``, which yields a tensor, is to the quantizers."""
    if node in known:
        return "constant"
    if node.op == "placeholder":
        return "input"
    if node.op == "call_module":
        return _role_of_module(node, modules[str(node.target)], known)
    call = node.target
    if call is F.pad:
        return "transparent" if _pads_with_zeros(node) else "unsupported"
    if call is F.interpolate:
        mode = node.args[3] if len(node.args) > 3 else node.kwargs.get("mode", "nearest")
        return "transparent" if _repeats(node, mode) else "unsupported"
    if call in _RELU_CALLS:
        return "relu"
    if call in _FLOAT_CALLS:
        return "float"
    if call in _PRODUCT_CALLS:
        return "product" if len(_active(node, known)) == 2 else "unsupported"
    active = _active(node, known)
    if call in _ADD_CALLS and len(active) == 2 and "alpha" not in node.kwargs:
        return "add"
    if call in _ADD_CALLS | _SUB_CALLS | _MUL_CALLS and len(active) == 1:
        return "float"
    if call in _DIV_CALLS and active == [node.args[0]]:
        return "float"
    flips = call is getattr and node.args[1] in ("T", "mT")
    return "transparent" if call in _TRANSPARENT_CALLS or flips else "unsupported"


def operands(node: fx.Node) -> list[fx.Node]:
    """Return the operands of a sum or product that are tensors."""
    named = (node.kwargs.get(key) for key in ("input", "left", "other", "mat2", "right"))
    return _tensors(x for x in (*node.args, *named) if isinstance(x, fx.Node))


def data_of(node: fx.Node) -> fx.Node:
    """Return the node that hands ``node`` its tensor."""
    first = node.args[0] if node.args else node.kwargs.get("input", node.kwargs.get("x"))
    if isinstance(first, list | tuple) and first:
        first = first[0]
    if not isinstance(first, fx.Node):
        raise ConfigError(
            f"Node {node.name!r} of the network does not take a tensor as its first argument."
        )
    return first


def value_range(node: fx.Node, modules: dict[str, nn.Module]) -> tuple[bool, float | None]:
    """Return (never negative, largest value or None) as far as the graph alone tells."""
    call: Any = modules.get(str(node.target)) if node.op == "call_module" else node.target
    if isinstance(call, _TO_ONE):
        return True, 1.0
    if node.op != "call_module" and call in _SOFTMAX_CALLS | _SIGMOID_CALLS:
        return True, 1.0
    if isinstance(call, _RELUS) or (node.op != "call_module" and call in _RELU_CALLS):
        return True, None
    if node.op == "call_module":
        return value_range(data_of(node), modules) if _hands_on(node, call) else (False, None)
    if call in _TRANSPARENT_CALLS or call in (F.pad, F.interpolate):
        return value_range(data_of(node), modules)
    if call in _JOINING_CALLS:
        return all(value_range(x, modules)[0] for x in _tensors(node.all_input_nodes)), None
    if call in _MUL_CALLS | _DIV_CALLS and len(node.args) == 2:
        factor = node.args[1]
        if isinstance(factor, int | float) and factor > 0:
            return value_range(data_of(node), modules)[0], None
    return False, None


def is_lookup(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Tell whether a node looks rows up in a table (an embedding)."""
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], nn.Embedding)
    return node.op == "call_function" and node.target in _LOOKUP_CALLS


def yields_tensor(node: fx.Node) -> bool:
    """Tell whether a shape-propagated node yields a tensor (not a size or a number)."""
    return "tensor_meta" in node.meta


def describe(node: fx.Node, modules: dict[str, nn.Module], known: set[fx.Node]) -> str:
    """Name a node for an error message."""
    if node.op == "call_module":
        target = str(node.target)
        text = f"{type(modules[target]).__name__} {target!r}"
    else:
        text = f"function {getattr(node.target, '__name__', str(node.target))!r}"
        if node.target in _SUB_CALLS | _MUL_CALLS | _DIV_CALLS and len(_active(node, known)) == 2:
            return f"{text} of two activations"
    single = len(_active(node, known)) == 1
    return f"{text} with a parameter" if single and _is_product(node, modules) else text


def _role_of_module(node: fx.Node, module: nn.Module, known: set[fx.Node]) -> Role:
    if isinstance(module, LAYERS):
        return "layer"
    if isinstance(module, MatMul):
        return "product" if len(_active(node, known)) == 2 else "unsupported"
    if isinstance(module, _RELUS):
        return "relu"
    if isinstance(module, _FLOATS):
        return "float"
    return "transparent" if _hands_on(node, module) else "unsupported"


def _hands_on(node: fx.Node, module: nn.Module) -> bool:
    if isinstance(module, nn.Upsample):
        return _repeats(node, module.mode)
    return isinstance(module, _TRANSPARENT)


def _repeats(node: fx.Node, mode: Any) -> bool:
    """Tell whether an upsampling repeats every value alike: nearest, by whole factors."""
    before, after = (x.meta["tensor_meta"].shape for x in (data_of(node), node))
    return mode == "nearest" and all(b % a == 0 for a, b in zip(before, after, strict=True))


def _is_product(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], MatMul)
    return node.target in _PRODUCT_CALLS


def _active(node: fx.Node, known: set[fx.Node]) -> list[fx.Node]:
    """Return the operands that are activations; one that is there twice counts twice."""
    return [x for x in operands(node) if x not in known]


def _tensors(nodes: Any) -> list[fx.Node]:
    return [x for x in nodes if yields_tensor(x)]


def _pads_with_zeros(node: fx.Node) -> bool:
    mode = node.args[2] if len(node.args) > 2 else node.kwargs.get("mode", "constant")
    value = node.args[3] if len(node.args) > 3 else node.kwargs.get("value")
    return mode == "constant" and value in (None, 0)

"""Analysis of a float network: its layers' shapes and where activation quantizers belong."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant._nodes import LAYERS, Role, describe, role_of, yields_tensor
from adaqat_hw.schema import LayerKind, LayerSpec, NetworkSpec

INPUT_QUANT = "input_quant"
_BATCH = 2  # more than one, so that a network that mixes samples gives itself away

SiteKind = Literal["input", "relu", "inserted", "join"]


@dataclass(frozen=True)
class ActSite:
    """One activation quantizer to place.

    ``node`` is the graph node it belongs to: the input, the ReLU it replaces, the add whose two
    addends go through it, or the unquantized producer whose value ``readers`` (layers) take
    through it. ``name`` becomes its module path.
    """

    name: str
    kind: SiteKind
    node: fx.Node
    readers: tuple[fx.Node, ...] = ()


@dataclass(frozen=True)
class Trace:
    """A traced copy of a network, its layers and its quantizer sites in execution order."""

    module: fx.GraphModule
    spec: NetworkSpec
    sites: tuple[ActSite, ...]
    layers: dict[str, fx.Node]


def network_spec(
    net: nn.Module, input_shape: tuple[int, ...], name: str, num_classes: int
) -> NetworkSpec:
    """Return the layers of a float network with their shapes and MACs.

    Args:
        net: Conv1d/2d, Linear, BatchNorm, ReLU, pooling, flattening, dropout, residual adds.
        input_shape: of one sample, without the batch dimension.
        name: the network's name in records.
        num_classes: outputs that the network must have.

    Raises:
        ConfigError: the network cannot be traced, holds something before a layer that has no
            quantized form, or does not fit the shapes.
    """
    return trace(net, input_shape, name, num_classes).spec


def trace(net: nn.Module, input_shape: tuple[int, ...], name: str, num_classes: int) -> Trace:
    """Trace a copy of ``net`` and decide where its activation quantizers belong."""
    module = _symbolic(net)
    _propagate(module, input_shape, num_classes)
    modules = dict(module.named_modules())
    roles = _roles(module, modules)
    layers = _layers(roles)
    sites, act_of = _place(module, modules, roles, layers)
    specs = [
        _layer_spec(path, node, modules[path], act_of[node].name) for path, node in layers.items()
    ]
    spec = NetworkSpec(
        name=name, input_shape=input_shape, num_classes=num_classes, layers=tuple(specs)
    )
    return Trace(module=module, spec=spec, sites=sites, layers=layers)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Keep layers whole that merely subclass torch's without a forward of their own."""
        kept = any(isinstance(m, k) and type(m).forward is k.forward for k in LAYERS)
        return kept or super().is_leaf_module(m, module_qualified_name)


def _symbolic(net: nn.Module) -> fx.GraphModule:
    for path, part in net.named_modules():
        if type(part).__module__.split(".")[0] == "brevitas":
            raise ConfigError(
                f"Module {path!r} is already quantized ({type(part).__name__}); pass the float "
                "network."
            )
    root = copy.deepcopy(net)
    graphs = {}
    for training in (False, True):
        root.train(training)
        try:
            graphs[training] = _Tracer().trace(root)
        except Exception as exc:
            raise ConfigError(
                f"Network {type(net).__name__!r} cannot be traced ({_one_line(exc)}); its forward "
                "must not branch on values of tensors."
            ) from exc
    steps = [[(n.op, str(n.target)) for n in graphs[t].nodes] for t in (False, True)]
    if steps[0] != steps[1]:
        raise ConfigError(
            f"Network {type(net).__name__!r} computes different graphs in training and evaluation;"
            " use modules such as Dropout in place of branches on self.training."
        )
    # The training graph, because functional dropout keeps the mode it was traced in.
    module = fx.GraphModule(root, graphs[True], type(net).__name__)
    _functional_dropout(module)
    module.train(net.training)
    return module


def _functional_dropout(module: fx.GraphModule) -> None:
    """Make functional dropout a module, so that it follows ``train()`` and ``eval()``."""
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target is not nn.functional.dropout:
            continue
        arguments = dict(zip(("input", "p", "training", "inplace"), node.args, strict=False))
        arguments.update(node.kwargs)
        if arguments.get("training", True) is not True:
            continue
        path = free_name(module, node.name)
        module.add_submodule(path, nn.Dropout(arguments.get("p", 0.5)))
        with module.graph.inserting_before(node):
            fresh = module.graph.call_module(path, (arguments["input"],))
        node.replace_all_uses_with(fresh)
        module.graph.erase_node(node)
    module.recompile()


def free_name(module: nn.Module, wanted: str) -> str:
    """Return ``wanted``, or it with a number, as a name ``module`` does not have yet."""
    name, number = wanted, 1
    while hasattr(module, name):
        name, number = f"{wanted}_{number}", number + 1
    return name


def _propagate(module: fx.GraphModule, input_shape: tuple[int, ...], num_classes: int) -> None:
    inputs = [n for n in module.graph.nodes if n.op == "placeholder"]
    if len(inputs) != 1:
        raise ConfigError(f"The network takes {len(inputs)} inputs; it must take one tensor.")
    reference = next(module.parameters(), torch.zeros(()))
    sample = torch.zeros((_BATCH, *input_shape), dtype=reference.dtype, device=reference.device)
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            output = ShapeProp(module).propagate(sample)
    except Exception as exc:
        raise ConfigError(
            f"The network does not run on input_shape {input_shape!r} ({_one_line(exc)}); give the "
            "shape of one sample without the batch dimension."
        ) from exc
    finally:
        for part, mode in modes.items():
            part.training = mode
    if not isinstance(output, torch.Tensor):
        raise ConfigError(
            f"The network returns {type(output).__name__!r}; it must return one tensor of logits."
        )
    if tuple(output.shape) != (_BATCH, num_classes):
        raise ConfigError(
            f"The network maps a batch of {_BATCH} to shape {tuple(output.shape)!r}; num_classes "
            f"{num_classes!r} asks for {(_BATCH, num_classes)!r}."
        )


def _roles(module: fx.GraphModule, modules: dict[str, nn.Module]) -> dict[fx.Node, Role]:
    """Return the roles of all tensor nodes up to the last layer, in execution order."""
    roles: dict[fx.Node, Role] = {}
    needed: set[fx.Node] = set()
    for node in reversed(module.graph.nodes):
        if node.op == "output":
            continue
        role = role_of(node, modules) if yields_tensor(node) else None
        if role == "layer" or any(user in needed for user in node.users):
            needed.add(node)
            if role is not None:
                roles[node] = role
    roles = {node: roles[node] for node in module.graph.nodes if node in roles}
    if "layer" not in roles.values():
        raise ConfigError("The network has no Conv1d, Conv2d or Linear layer to quantize.")
    bad = [describe(node, modules) for node, role in roles.items() if role == "unsupported"]
    if bad:
        raise ConfigError(
            f"The network holds {', '.join(bad)} before a layer, which has no quantized form; use "
            "Conv1d/2d, Linear, BatchNorm, ReLU, max or average pooling, flattening, dropout and "
            "residual additions of two tensors."
        )
    return roles


def _layers(roles: dict[fx.Node, Role]) -> dict[str, fx.Node]:
    layers: dict[str, fx.Node] = {}
    for node, role in roles.items():
        if role != "layer":
            continue
        path = str(node.target)
        if path in layers:
            raise ConfigError(
                f"Layer {path!r} is used twice in the network; give each use its own module."
            )
        layers[path] = node
    return layers


def _place(
    module: fx.GraphModule,
    modules: dict[str, nn.Module],
    roles: dict[fx.Node, Role],
    layers: dict[str, fx.Node],
) -> tuple[tuple[ActSite, ...], dict[fx.Node, ActSite]]:
    """Return all quantizer sites and, for each layer node, the site that feeds it."""
    taken = set(modules)
    at: dict[fx.Node, ActSite] = {}
    paths = {node: path for path, node in layers.items()}

    def site(name: str, kind: SiteKind, node: fx.Node) -> ActSite:
        if name in taken:
            raise ConfigError(
                f"The network has a module {name!r}, the name that a quantizer gets; rename it."
            )
        taken.add(name)
        return ActSite(name=name, kind=kind, node=node)

    joins: dict[fx.Node, ActSite] = {}
    inserted: dict[fx.Node, ActSite] = {}
    reads: dict[fx.Node, ActSite] = {}
    replaced: set[str] = set()
    for node, role in roles.items():
        if role == "input":
            at[node] = site(INPUT_QUANT, "input", node)
        elif role == "relu":
            path = str(node.target)
            if node.op == "call_module" and path not in replaced:
                replaced.add(path)
                at[node] = ActSite(name=path, kind="relu", node=node)
            else:
                at[node] = site(free_name(module, node.name), "relu", node)
        elif role == "transparent":
            producer = _data(node)
            if producer in at:
                at[node] = at[producer]
    for node, role in roles.items():
        if role == "add":
            relu = next((u for u in node.users if roles.get(u) == "relu"), None)
            base = at[relu].name.replace(".", "_") if relu is not None else node.name
            joins[node] = site(f"{base}_join_quant", "join", node)
        elif role == "layer":
            producer = _data(node)
            found = at.get(producer) or inserted.get(producer)
            if found is None:
                base = paths[node].replace(".", "_")
                found = site(f"{base}_{INPUT_QUANT}", "inserted", producer)
                inserted[producer] = found
            reads[node] = found
    ordered: list[ActSite] = []
    for node in module.graph.nodes:
        for table in (at, joins, inserted):
            here = table.get(node)
            if here is not None and here.node is node:
                readers = tuple(n for n in layers.values() if reads[n] is here)
                ordered.append(ActSite(here.name, here.kind, node, readers))
    return tuple(ordered), reads


def _data(node: fx.Node) -> fx.Node:
    """Return the node that hands ``node`` its tensor."""
    first = node.args[0] if node.args else node.kwargs.get("input", node.kwargs.get("x"))
    if not isinstance(first, fx.Node):
        raise ConfigError(
            f"Node {node.name!r} of the network does not take a tensor as its first argument."
        )
    return first


def _layer_spec(path: str, node: fx.Node, layer: Any, act: str) -> LayerSpec:
    in_shape = tuple(_data(node).meta["tensor_meta"].shape[1:])
    out_shape = tuple(node.meta["tensor_meta"].shape[1:])
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


def _one_line(exc: Exception) -> str:
    text = str(exc).strip()
    return text.splitlines()[0] if text else type(exc).__name__

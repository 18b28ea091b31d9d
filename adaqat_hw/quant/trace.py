"""Analysis of a float network: its layers' shapes and where activation quantizers belong."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant._layer_specs import layer_spec
from adaqat_hw.quant._nodes import (
    LAYERS,
    Role,
    describe,
    known_nodes,
    role_of,
    takes_indices,
    yields_tensor,
)
from adaqat_hw.quant._quantizer_placement import ActSite, free_name, place
from adaqat_hw.quant.matmul import MatMul
from adaqat_hw.schema import NetworkSpec

_BATCH = 2  # more than one, so that a network that mixes samples gives itself away


@dataclass(frozen=True)
class Trace:
    """A traced copy of a network, its layers and its quantizer sites in execution order.

    ``layers`` maps names to graph nodes: of modules with weights, and of products of two
    activations. ``integer_input`` says that the network takes int64 indices.
    """

    module: fx.GraphModule
    spec: NetworkSpec
    sites: tuple[ActSite, ...]
    layers: dict[str, fx.Node]
    integer_input: bool


def network_spec(
    net: nn.Module, input_shape: tuple[int, ...], name: str, num_classes: int
) -> NetworkSpec:
    """Return the layers of a float network with their shapes and MACs.

    Args:
        net: Conv1d/2d, Linear, products of two activations (MatMul or ``@``), BatchNorm, ReLU,
            pooling, flattening, dropout, residual adds; LayerNorm, GELU, SiLU, Tanh, Softmax and
            Embedding, which stay float and are quantized where a layer reads them.
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
    modules = dict(module.named_modules())
    integers = takes_indices(module.graph, modules)
    _propagate(module, input_shape, num_classes, integers)
    roles = _roles(module, modules, known_nodes(module.graph, modules, integers))
    layers = _layers(module, roles)
    sites, reads = place(module, modules, roles, layers)
    specs = tuple(
        layer_spec(
            path,
            node,
            None if roles[node] == "product" else modules[path],
            tuple(site.name for site in reads[node]),
            _BATCH,
        )
        for path, node in layers.items()
    )
    spec = NetworkSpec(name=name, input_shape=input_shape, num_classes=num_classes, layers=specs)
    return Trace(module, spec, sites, layers, integers)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Keep layers whole that merely subclass torch's without a forward of their own."""
        layer = any(isinstance(m, k) and type(m).forward is k.forward for k in (*LAYERS, MatMul))
        return layer or super().is_leaf_module(m, module_qualified_name)


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


def _propagate(
    module: fx.GraphModule, input_shape: tuple[int, ...], num_classes: int, integers: bool
) -> None:
    inputs = [n for n in module.graph.nodes if n.op == "placeholder"]
    if len(inputs) != 1:
        raise ConfigError(f"The network takes {len(inputs)} inputs; it must take one tensor.")
    reference = next(module.parameters(), torch.zeros(()))
    dtype = torch.int64 if integers else reference.dtype
    sample = torch.zeros((_BATCH, *input_shape), dtype=dtype, device=reference.device)
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


def _roles(
    module: fx.GraphModule, modules: dict[str, nn.Module], known: set[fx.Node]
) -> dict[fx.Node, Role]:
    """Return the roles of all tensor nodes up to the last layer, in execution order."""
    roles: dict[fx.Node, Role] = {}
    needed: set[fx.Node] = set()
    for node in reversed(module.graph.nodes):
        if node.op == "output":
            continue
        role = role_of(node, modules, known) if yields_tensor(node) else None
        if role in ("layer", "product") or any(user in needed for user in node.users):
            needed.add(node)
            if role is not None:
                roles[node] = role
    roles = {node: roles[node] for node in module.graph.nodes if node in roles}
    if "layer" not in roles.values():
        raise ConfigError("The network has no Conv1d, Conv2d or Linear layer to quantize.")
    bad = [describe(node, modules, known) for node, role in roles.items() if role == "unsupported"]
    if bad:
        raise ConfigError(
            f"The network holds {', '.join(bad)} before a layer, which has no quantized form; use "
            "Conv1d/2d, Linear, products of two activations (MatMul), BatchNorm, LayerNorm, ReLU, "
            "GELU, SiLU, Tanh, Softmax, Embedding, max or average pooling, flattening, dropout, "
            "residual additions of two tensors and arithmetic with constants."
        )
    return roles


def _layers(module: fx.GraphModule, roles: dict[fx.Node, Role]) -> dict[str, fx.Node]:
    layers: dict[str, fx.Node] = {}
    for node, role in roles.items():
        if role not in ("layer", "product"):
            continue
        bare = node.op != "call_module"
        path = free_name(module, node.name) if bare else str(node.target)
        if path in layers:
            raise ConfigError(
                f"Layer {path!r} is used twice in the network; give each use its own module."
            )
        layers[path] = node
    return layers


def _one_line(exc: Exception) -> str:
    text = str(exc).strip()
    return text.splitlines()[0] if text else type(exc).__name__

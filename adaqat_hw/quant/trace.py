"""Analysis of a float network: its layers' shapes and where activation quantizers belong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant._layer_specs import layer_spec
from adaqat_hw.quant._nodes import Role, known_nodes, role_of, takes_indices, yields_tensor
from adaqat_hw.quant._quantizer_placement import ActSite, free_name, place
from adaqat_hw.quant._symbolic import one_line, symbolic
from adaqat_hw.quant._unquantized import float_note, refuse_unsupported, refuse_weights
from adaqat_hw.schema import NetworkSpec

_BATCH = 2  # more than one, so that a network that mixes samples gives itself away


@dataclass(frozen=True)
class Trace:
    """A traced copy of a network, its layers and its quantizer sites in execution order.

    ``layers`` maps names to graph nodes: of modules with weights, and of products of two
    activations. ``integer_input`` says that the network takes int64 indices. ``notes`` are
    sentences about what was rewritten and what stays in floating point.
    """

    module: fx.GraphModule
    spec: NetworkSpec
    sites: tuple[ActSite, ...]
    layers: dict[str, fx.Node]
    integer_input: bool
    notes: tuple[str, ...] = ()


def network_spec(
    net: nn.Module, input_shape: tuple[int, ...], name: str, num_classes: int | None = None
) -> NetworkSpec:
    """Return the layers of a float network with their shapes and MACs.

    Args:
        net: Conv1d/2d, Linear, MultiheadAttention without masks, products of two activations
            (MatMul or ``@``), BatchNorm, ReLU, pooling, nearest Upsample, flattening, dropout,
            residual adds; LayerNorm, Softmax, Embedding and other activation functions (GELU,
            LeakyReLU, Hardswish, ...), which stay float and are quantized where a layer reads
            them.
        input_shape: of one sample, without the batch dimension.
        name: the network's name in records.
        num_classes: logits that the network must have; None where its output is something else,
            of any shape.

    Raises:
        ConfigError: the network cannot be traced, holds something that has no quantized form, or
            does not fit the shapes.
    """
    return trace(net, input_shape, name, num_classes).spec


def trace(
    net: nn.Module, input_shape: tuple[int, ...], name: str, num_classes: int | None
) -> Trace:
    """Trace a copy of ``net`` and decide where its activation quantizers belong."""
    module, notes = symbolic(net)
    modules = dict(module.named_modules())
    integers = takes_indices(module.graph, modules)
    sample = _sample_batch(module, input_shape, integers)
    output = _propagate(module, sample)
    roles = _roles(module, modules, known_nodes(module.graph, modules, integers))
    outputs = _checked(output, num_classes)
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
    _check_samples(module, sample, outputs)
    spec = NetworkSpec(name=name, input_shape=input_shape, num_classes=num_classes, layers=specs)
    told = tuple(filter(None, (*notes, float_note(roles, modules))))
    return Trace(module, spec, sites, layers, integers, told)


def _propagate(module: fx.GraphModule, sample: Tensor) -> object:
    """Run the network on a batch of zeros; note the shapes in the graph and return its output."""
    try:
        with _evaluating(module):
            output: object = ShapeProp(module).propagate(sample)
    except Exception as exc:
        raise ConfigError(
            f"The network does not run on input_shape {tuple(sample.shape[1:])!r} "
            f"({one_line(exc)}); give the shape of one sample without the batch dimension."
        ) from exc
    return output


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def _sample_batch(module: fx.GraphModule, input_shape: tuple[int, ...], integers: bool) -> Tensor:
    inputs = [n for n in module.graph.nodes if n.op == "placeholder"]
    if len(inputs) != 1:
        raise ConfigError(f"The network takes {len(inputs)} inputs; it must take one tensor.")
    reference = next(module.parameters(), torch.zeros(()))
    dtype = torch.int64 if integers else reference.dtype
    return torch.zeros((_BATCH, *input_shape), dtype=dtype, device=reference.device)


def _check_samples(module: fx.GraphModule, sample: Tensor, output: Tensor) -> None:
    """Refuse a network whose output for the first sample depends on the second one."""
    if sample.is_meta:  # shapes without values
        return
    other = sample.clone()
    other[1] = 1
    with _evaluating(module):
        again = module(other)
    if not torch.allclose(again[0], output[0], rtol=1e-3, atol=1e-5, equal_nan=True):
        raise ConfigError(
            "One sample of a batch changes the output of another; the first dimension must stay "
            "the batch (nn.MultiheadAttention and nn.TransformerEncoderLayer take it first with "
            "batch_first = True only)."
        )


def _checked(output: object, num_classes: int | None) -> Tensor:
    if not isinstance(output, torch.Tensor):
        raise ConfigError(
            f"The network returns {type(output).__name__!r}; it must return one tensor."
        )
    shape = tuple(output.shape)
    if num_classes is not None and shape != (_BATCH, num_classes):
        raise ConfigError(
            f"The network maps a batch of {_BATCH} to shape {shape!r}; num_classes "
            f"{num_classes!r} asks for {(_BATCH, num_classes)!r}; an output of another form is "
            "trained with a loss_fn (in quantize, num_classes = None)."
        )
    if shape[:1] != (_BATCH,):
        raise ConfigError(
            f"The network maps a batch of {_BATCH} to shape {shape!r}; the first dimension of its "
            "output must be the batch."
        )
    return output


def _roles(
    module: fx.GraphModule, modules: dict[str, nn.Module], known: set[fx.Node]
) -> dict[fx.Node, Role]:
    """Return the roles of all tensor nodes up to the last layer, in execution order."""
    refuse_weights(module.graph, modules)
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
    refuse_unsupported(roles, modules, known)
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

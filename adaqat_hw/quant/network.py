"""QuantizedNetwork: a float network with Brevitas quantizers whose widths can be switched."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

import torch
from torch import Tensor, fx, nn

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant._nodes import operands
from adaqat_hw.quant._quantizer_placement import INPUT_QUANT, ActSite
from adaqat_hw.quant.quantizers import (
    BitWidth,
    arm_export,
    quant_input,
    quant_layer,
    quant_relu,
    quant_signed,
    quant_unsigned,
)
from adaqat_hw.quant.range_calibration import fit_weight_ranges
from adaqat_hw.quant.trace import Trace, trace
from adaqat_hw.schema import BitWidthPlan, JoinBits, LayerBits, LayerSpec, NetworkSpec, QuantConfig

PlanSource = Literal["adaqat", "uniform", "manual"]


class QuantizedNetwork(nn.Module):
    """A network whose weights and activations are quantized at run-time widths.

    ``weight_widths`` maps layer names, ``act_widths`` activation quantizers to their widths.
    ``fixed_weights`` and ``fixed_acts`` say which of them keep a configured width whatever is
    learned: the ends of the network (``config.ends == "fixed"``) and its input, unless
    ``config.learns_input``. ``input_acts`` are the quantizers of the network's input, which the
    first layer reads; there are none with ``integer_input``. Build one with :func:`quantize`. The
    widths are part of the ``state_dict``.

    A layer of kind ``matmul`` (a product of two activations) has no entry in ``weight_widths``;
    both of its operands are in ``act_widths``. With ``integer_input`` the network takes int64
    indices, and its input has no quantizer. ``notes`` say what was rewritten in the network and
    what of it stays in floating point.
    """

    def __init__(
        self,
        network: fx.GraphModule,
        spec: NetworkSpec,
        config: QuantConfig,
        weight_widths: dict[str, BitWidth],
        act_widths: dict[str, BitWidth],
        notes: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.network = network
        self.spec = spec
        self.config = config
        self.weight_widths = weight_widths
        self.act_widths = act_widths
        self.notes = notes
        self.first_layer = spec.layers[0].name
        self.last_layer = spec.layers[-1].name
        self.integer_input = INPUT_QUANT not in act_widths
        self._end_acts = _end_acts(spec, self.integer_input)
        self.input_acts = () if self.integer_input else _input_acts(spec)
        self.fixed_weights, self.fixed_acts = self._fixed()

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch (n, *input_shape), float or int64 indices, to logits (n, num_classes).

        A network without classes gives what it does.
        """
        outputs: Tensor = self.network(x)
        return outputs

    def train(self, mode: bool = True) -> Self:
        """Set the mode; Brevitas' exporter calls ``eval()`` first, so exports are armed here."""
        super().train(mode)
        if not mode:
            arm_export(self)
        return self

    def plan(self, source: PlanSource) -> BitWidthPlan:
        """Return the present widths as a plan."""
        return self._plan(
            source,
            {name: width.bits for name, width in self.weight_widths.items()},
            {name: width.bits for name, width in self.act_widths.items()},
        )

    def uniform_plan(
        self,
        weight_bits: int,
        act_bits: int,
        *,
        ends: tuple[int, int] | None = None,
        input_bits: int | None = None,
    ) -> BitWidthPlan:
        """Return the plan with one pair of widths everywhere but at the ends and the input.

        A signed quantizer gets at least 2 bits.

        Args:
            weight_bits: of all layers but fixed ends.
            act_bits: of all activations but the input's and those of fixed ends.
            ends: weights of the first and the last layer, and activations that the last one reads
                (tokens: the first one too); None as configured, the inner ones where learned.
            input_bits: of the network's input; None for ``config.input_bits``, learned or not.

        Raises:
            ConfigError: ``input_bits`` for a network that takes tokens.
        """
        if input_bits is not None and self.integer_input:
            raise ConfigError(
                f"Network {self.spec.name!r} takes integer tokens, which no quantizer narrows, so "
                f"its input has no width and cannot have {input_bits!r} bits; leave that out."
            )
        least = {name: width.minimum for name, width in self.act_widths.items()}
        weights = dict.fromkeys(self.weight_widths, weight_bits) | self.fixed_weights
        acts = {name: max(act_bits, bits) for name, bits in least.items()} | self.fixed_acts
        if ends is not None:
            weights |= {n: ends[0] for n in (self.first_layer, self.last_layer) if n in weights}
            acts |= {name: max(ends[1], least[name]) for name in self._end_acts}
        wanted = self.config.input_bits if input_bits is None else input_bits
        # The network's input wins where one quantizer feeds the first and the last layer.
        acts |= dict.fromkeys(self.input_acts, wanted)
        return self._plan("uniform", weights, acts)

    def apply_plan(self, plan: BitWidthPlan) -> None:
        """Switch all widths to ``plan``'s, or none of them.

        Raises:
            ConfigError: layers, quantizers or their signs differ from this network's, or a width
                is not possible.
        """
        current = self.plan(plan.source)
        _same_names("layers", [x.layer for x in plan.layers], [x.layer for x in current.layers])
        joins = [x.quantizer for x in current.joins]
        _same_names("join quantizers", [x.quantizer for x in plan.joins], joins)
        for row in plan.layers:
            _same_kind(row, current.layer(row.layer))
        before = self._bits()
        try:
            for layer in plan.layers:
                own = current.layer(layer.layer)
                self.act_widths[own.act].set(layer.act_bits)
                if own.second_act is None:
                    self.weight_widths[layer.layer].set(layer.second_bits)
                else:
                    self.act_widths[own.second_act].set(layer.second_bits)
            for join in plan.joins:
                self.act_widths[join.quantizer].set(join.bits)
        except ConfigError:
            for width, bits in before:
                width.set(bits)
            raise

    def _fixed(self) -> tuple[dict[str, int], dict[str, int]]:
        config = self.config
        weights: dict[str, int] = {}
        acts: dict[str, int] = {}
        if config.ends == "fixed":
            ends = (self.first_layer, self.last_layer)
            weights = {n: config.end_weight_bits for n in ends if n in self.weight_widths}
            acts = dict.fromkeys(self._end_acts, config.end_act_bits)
        if config.join_bits != "acts":
            read = read_quantizers(self.spec)
            acts |= {name: config.join_bits for name in self.act_widths if name not in read}
        for name in self.input_acts:
            acts.pop(name, None)
            if not config.learns_input:
                acts[name] = config.input_bits
        return weights, acts

    def _bits(self) -> list[tuple[BitWidth, int]]:
        widths = [*self.weight_widths.values(), *self.act_widths.values()]
        return [(width, width.bits) for width in widths]

    def _plan(
        self, source: PlanSource, weights: dict[str, int], acts: dict[str, int]
    ) -> BitWidthPlan:
        layers = tuple(self._row(layer, weights, acts) for layer in self.spec.layers)
        read = read_quantizers(self.spec)
        joins = tuple(
            JoinBits(quantizer=name, bits=acts[name], signed=width.signed)
            for name, width in self.act_widths.items()
            if name not in read
        )
        return BitWidthPlan(network=self.spec.name, source=source, layers=layers, joins=joins)

    def _row(self, layer: LayerSpec, weights: dict[str, int], acts: dict[str, int]) -> LayerBits:
        second = layer.second_act
        return LayerBits(
            layer=layer.name,
            weight_bits=weights[layer.name] if second is None else None,
            act_bits=acts[layer.act],
            act_signed=self.act_widths[layer.act].signed,
            act=layer.act,
            second_act_bits=None if second is None else acts[second],
            second_act_signed=None if second is None else self.act_widths[second].signed,
            second_act=second,
        )


def read_quantizers(spec: NetworkSpec) -> set[str]:
    """Return the names of the activation quantizers whose outputs layers multiply."""
    return {act for x in spec.layers for act in (x.act, x.second_act) if act is not None}


def quantize(
    net: nn.Module,
    config: QuantConfig,
    *,
    input_shape: tuple[int, ...],
    name: str,
    num_classes: int | None = None,
    weight_bits: float = 8,
    act_bits: float = 8,
    fused: bool = True,
) -> QuantizedNetwork:
    """Return a quantized copy of a float network, with its weights and batch-norm statistics.

    Args:
        net: the float network; it is left as it is.
        config: quantizers and the widths of the ends.
        input_shape: of one sample, without the batch dimension.
        name: the network's name in records.
        num_classes: logits that the network must have; None where its output is something else,
            of any shape.
        weight_bits: initial width of the weights, rounded up; the fixed ends keep theirs.
        act_bits: initial width of the activations, rounded up.
        fused: one fused function per quantizer; False keeps stock Brevitas arithmetic, with
            the same outputs and slower steps.

    Raises:
        ConfigError: the network has a part that cannot be quantized, or a width is not possible.
    """
    traced = trace(net, input_shape, name, num_classes)
    read = read_quantizers(traced.spec)
    weight_widths = _swap_layers(traced, config, fused)
    act_widths: dict[str, BitWidth] = {}
    for site in traced.sites:
        module, signed = _quantizer(site, config, fused)
        _insert(traced.module, site, module)
        act_widths[site.name] = BitWidth(site.name, module, weight=False, signed=signed)
    if missing := read - set(act_widths):
        raise RuntimeError(f"quantizers {sorted(missing)!r} were not placed")
    traced.module.graph.lint()
    traced.module.recompile()
    result = QuantizedNetwork(
        traced.module, traced.spec, config, weight_widths, act_widths, traced.notes
    )
    reference = next(net.parameters())
    result.to(device=reference.device, dtype=reference.dtype)
    result.apply_plan(result.uniform_plan(math.ceil(weight_bits), math.ceil(act_bits)))
    fit_weight_ranges(result.weight_widths.values())
    return result.train(net.training)


def _end_acts(spec: NetworkSpec, integer_input: bool) -> tuple[str, ...]:
    """Return the quantizers that the ends read, the network's input left out."""
    first, last = spec.layers[0], spec.layers[-1]
    ends = (last, first) if integer_input else (last,)
    return tuple(dict.fromkeys(name for layer in ends for name in _operands(layer)))


def _input_acts(spec: NetworkSpec) -> tuple[str, ...]:
    """Return the quantizers of the network's input: its own, and what the first layer reads."""
    return tuple(dict.fromkeys((INPUT_QUANT, *_operands(spec.layers[0]))))


def _operands(layer: LayerSpec) -> tuple[str, ...]:
    return (layer.act,) if layer.second_act is None else (layer.act, layer.second_act)


def _swap_layers(traced: Trace, config: QuantConfig, fused: bool) -> dict[str, BitWidth]:
    widths = {}
    for layer in traced.spec.layers:
        if layer.kind == "matmul":
            continue
        twin = quant_layer(traced.module.get_submodule(layer.name), config, 8, fused)
        traced.module.set_submodule(layer.name, twin)
        widths[layer.name] = BitWidth(layer.name, twin, weight=True, signed=True)
    return widths


def _quantizer(site: ActSite, config: QuantConfig, fused: bool) -> tuple[nn.Module, bool]:
    if site.kind == "input":
        return quant_input(config, 8, fused), config.input_signed
    if site.kind == "relu":
        return quant_relu(config, 8, fused), False
    if not site.signed:
        return quant_unsigned(config, 8, fused, clip=site.clip), False
    return quant_signed(config, 8, fused), True


def _insert(module: fx.GraphModule, site: ActSite, quantizer: nn.Module) -> None:
    """Put the quantizer into the module tree and its calls into the graph."""
    graph, node = module.graph, site.node
    if "." in site.name or hasattr(module, site.name):
        module.set_submodule(site.name, quantizer)
    else:
        module.add_module(site.name, quantizer)
    if site.kind == "relu":
        _replace(graph, node, site.name)
    elif site.kind == "join":
        _join(graph, node, site.name)
    else:
        with graph.inserting_after(node):
            call = _call(graph, site.name, node)
        readers = set(site.readers)
        everywhere = site.kind == "input"
        node.replace_all_uses_with(
            call, lambda user: user is not call and (everywhere or user in readers)
        )


def _replace(graph: fx.Graph, node: fx.Node, name: str) -> None:
    source: Any = node.args[0] if node.args else node.kwargs["input"]
    with graph.inserting_before(node):
        call = _call(graph, name, source)
    node.replace_all_uses_with(call)
    graph.erase_node(node)


def _join(graph: fx.Graph, node: fx.Node, name: str) -> None:
    """Send both addends through the one quantizer, so that they share its scale."""
    with graph.inserting_before(node):
        quantized = tuple(_call(graph, name, operand) for operand in operands(node))
    # Out of place: an in-place add would overwrite what a quantizer saved for backward.
    node.op, node.target, node.args, node.kwargs = "call_function", torch.add, quantized, {}


def _call(graph: fx.Graph, name: str, source: fx.Node) -> fx.Node:
    """Add a call of a quantizer, whose output has the shape of its input."""
    call = graph.call_module(name, (source,))
    call.meta = dict(source.meta)
    return call


def _same_names(kind: str, rows: list[str], own: list[str]) -> None:
    missing = [name for name in own if name not in rows]
    unknown = [name for name in rows if name not in own]
    if missing or unknown:
        raise ConfigError(
            f"The plan does not fit the network: {kind} {missing!r} are missing from the plan and "
            f"{unknown!r} are not in the network; give one row for each of {own!r}."
        )


def _same_kind(row: LayerBits, own: LayerBits) -> None:
    if (row.second_act is None) != (own.second_act is None):
        actual = "multiplies two activations" if own.second_act is not None else "has weights"
        raise ConfigError(
            f"The plan has weight_bits {row.weight_bits!r} and second_act {row.second_act!r} for "
            f"layer {row.layer!r}, which {actual} in the network."
        )
    for planned, read in ((row.act, own.act), (row.second_act, own.second_act)):
        if planned and planned != read:
            raise ConfigError(
                f"The plan says that layer {row.layer!r} reads {planned!r}; it reads {read!r} in "
                "the network."
            )
    for field in ("weight_signed", "weight_narrow", "act_signed", "second_act_signed"):
        if getattr(row, field) != getattr(own, field):
            raise ConfigError(
                f"The plan has {field} = {getattr(row, field)!r} for layer {row.layer!r}; the "
                f"network's quantizer has {getattr(own, field)!r}: only widths can be changed."
            )

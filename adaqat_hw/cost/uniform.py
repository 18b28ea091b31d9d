"""Uniform bit-width plans from a network's shapes alone."""

from __future__ import annotations

from pydantic import ValidationError

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import BitWidthPlan, LayerBits, LayerSpec, NetworkSpec, first_fault


def uniform_plan_for(
    spec: NetworkSpec,
    weight_bits: int,
    act_bits: int,
    end_weight_bits: int = 8,
    end_act_bits: int = 8,
    *,
    input_bits: int | None = None,
    input_signed: bool = True,
) -> BitWidthPlan:
    """Return the plan with the same widths in every inner layer.

    The first and the last layer of ``spec`` get ``end_weight_bits`` and read activations of
    ``end_act_bits``, the first one of ``input_bits`` where that is given. A quantizer that an end
    shares with inner layers has the end's width for all of them. A product of two activations
    reads two quantizers and has no weights.

    A spec knows no signs, so they are assumed: the first layer's activations are the network's
    input, signed where ``input_signed``; the right operands of products are signed; all others
    come from ReLUs and are unsigned. Shared quantizers of residual adds (``joins``) are not known
    to a spec and are left out. ``QuantizedNetwork.uniform_plan`` has all of these as they are.

    Raises:
        ConfigError: a width outside 1 to 32, or a network without layers.
    """
    if not spec.layers:
        raise ConfigError(f"Network {spec.name!r} has no multiply-accumulate layer to plan for.")
    first, last = spec.layers[0], spec.layers[-1]
    ends = {first.name, last.name}
    end_acts = {first.act, first.second_act, last.act, last.second_act} - {"", None}

    def act_width(layer: LayerSpec, act: str | None) -> int:
        at_input = layer is first or (act != "" and act in (first.act, first.second_act))
        if input_bits is not None and at_input:
            return input_bits
        return end_act_bits if layer.name in ends or act in end_acts else act_bits

    def row(layer: LayerSpec) -> LayerBits:
        of_input = layer is first or (layer.act != "" and layer.act == first.act)
        product = layer.kind == "matmul"
        weights = end_weight_bits if layer.name in ends else weight_bits
        return LayerBits(
            layer=layer.name,
            weight_bits=None if product else weights,
            act_bits=act_width(layer, layer.act),
            act_signed=input_signed and of_input,
            act=layer.act,
            second_act_bits=act_width(layer, layer.second_act) if product else None,
            second_act_signed=True if product else None,
            second_act=layer.second_act,
        )

    try:
        rows = tuple(row(layer) for layer in spec.layers)
        return BitWidthPlan(network=spec.name, source="uniform", layers=rows)
    except ValidationError as exc:
        raise ConfigError(f"Uniform plan for {spec.name!r}: {first_fault(exc)}") from exc

"""Check that a plan's rows are a network's layers."""

from __future__ import annotations

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import BitWidthPlan, NetworkSpec


def check_layers(spec: NetworkSpec, plan: BitWidthPlan) -> None:
    """Refuse a plan whose layers are not exactly those of ``spec``, and a network without any.

    Raises:
        ConfigError: names the layers on either side that the other lacks, or one whose operands
            are of another kind (weights, activations).
    """
    if not spec.layers:
        raise ConfigError(
            f"Network {spec.name!r} has no multiply-accumulate layer, so nothing can be counted."
        )
    layers = [layer.name for layer in spec.layers]
    rows = [row.layer for row in plan.layers]
    missing = [name for name in layers if name not in rows]
    extra = [name for name in rows if name not in layers]
    if missing or extra:
        parts = [f"lacks {missing!r}"] if missing else []
        parts += [f"has {extra!r}, which the network lacks"] if extra else []
        raise ConfigError(
            f"The plan for {plan.network!r} does not fit network {spec.name!r}: it "
            f"{' and '.join(parts)}; give one row per layer."
        )
    for layer in spec.layers:
        row = plan.layer(layer.name)
        if (row.weight_bits is None) != (layer.kind == "matmul"):
            operands = "two activations and no weights" if layer.kind == "matmul" else "weights"
            raise ConfigError(
                f"The plan for {plan.network!r} has weight_bits {row.weight_bits!r} and "
                f"second_act_bits {row.second_act_bits!r} for layer {layer.name!r}, which "
                f"multiplies {operands}; give the widths of its two operands."
            )

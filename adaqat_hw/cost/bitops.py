"""BitOPs and weight compression, counted as in AdaQAT (arXiv 2404.16876)."""

from __future__ import annotations

from dataclasses import dataclass

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import BitWidthPlan, LayerSpec, NetworkSpec

FLOAT_BITS = 32


@dataclass(frozen=True)
class BitOps:
    """Bit-operations for one input sample; ``per_layer`` maps layer name to its share."""

    total: int
    per_layer: dict[str, int]


@dataclass(frozen=True)
class WeightCompression:
    """Size of the weights at 32 bits over their size in the plan, weighted by their number.

    ``inner`` leaves out the first and the last layer, as the paper's figures do (32/3 = 10.7
    at 3 bits); None for a network without inner layers. ``total`` counts every layer. Products of
    two activations have no weights and do not count.
    """

    inner: float | None
    total: float


def bitops(spec: NetworkSpec, plan: BitWidthPlan) -> BitOps:
    """Return the sum over layers of MACs x weight bits x activation bits.

    A product of two activations counts MACs x left bits x right bits.

    Raises:
        ConfigError: the plan's layers are not the network's.
    """
    check_layers(spec, plan)
    rows = {row.layer: row for row in plan.layers}
    per_layer = {
        layer.name: layer.macs * rows[layer.name].second_bits * rows[layer.name].act_bits
        for layer in spec.layers
    }
    return BitOps(total=sum(per_layer.values()), per_layer=per_layer)


def weight_compression(spec: NetworkSpec, plan: BitWidthPlan) -> WeightCompression:
    """Return how much smaller the weights are than at 32 bits.

    Raises:
        ConfigError: the plan's layers are not the network's, or the network has no weights.
    """
    check_layers(spec, plan)
    bits = {row.layer: row.second_bits for row in plan.layers}
    total = _ratio(spec.layers, bits)
    if total is None:
        raise ConfigError(f"Network {spec.name!r} has no weights, so nothing can be compressed.")
    return WeightCompression(inner=_ratio(spec.layers[1:-1], bits), total=total)


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
    have = [layer.name for layer in spec.layers]
    given = [row.layer for row in plan.layers]
    missing = [name for name in have if name not in given]
    extra = [name for name in given if name not in have]
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
            what = "two activations and no weights" if layer.kind == "matmul" else "weights"
            raise ConfigError(
                f"The plan for {plan.network!r} has weight_bits {row.weight_bits!r} and "
                f"second_act_bits {row.second_act_bits!r} for layer {layer.name!r}, which "
                f"multiplies {what}; give the widths of its two operands."
            )


def _ratio(layers: tuple[LayerSpec, ...], bits: dict[str, int]) -> float | None:
    """Return the compression of ``layers``, None where they have no weights."""
    floats = sum(layer.weights for layer in layers) * FLOAT_BITS
    stored = sum(layer.weights * bits[layer.name] for layer in layers)
    return floats / stored if stored else None

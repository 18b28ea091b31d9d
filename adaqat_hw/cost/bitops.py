"""BitOPs, counted as in AdaQAT (arXiv 2404.16876): of a plan, and as a cost to learn under."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from adaqat_hw.cost.layer_widths import LayerWidths
from adaqat_hw.cost.plan_check import check_layers
from adaqat_hw.cost.protocol import Bits, HardwareCost
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import BitWidthPlan, NetworkSpec


@dataclass(frozen=True)
class BitOps:
    """Bit-operations for one input sample; ``per_layer`` maps layer name to its share."""

    total: int
    per_layer: dict[str, int]


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


class BitOpsCost(HardwareCost):
    """BitOPs of the whole network for one input sample.

    The hard loss is the MAC-weighted mean of weight x activation width over the layers that learn
    a width: this project's extension of the paper's product to one width per layer, and equal to
    it where all widths are.

    Args:
        layers: all layers, fixed ones included.
        limit: BitOPs not to be exceeded, or None.

    Raises:
        ConfigError: no layer learns a width, or one that does has no MACs.
    """

    name = "bitops"
    unit = "BitOPs"

    def __init__(self, layers: Iterable[LayerWidths], limit: float | None = None) -> None:
        self._layers = tuple(layers)
        self._learned = tuple(layer for layer in self._layers if layer.learned)
        if not self._learned or any(layer.macs <= 0 for layer in self._learned):
            raise ConfigError(
                f"Layers {[layer.layer for layer in self._layers]!r} must hold at least one with a "
                f"learned width, and MACs above 0 in each such one; these learn: "
                f"{[layer.layer for layer in self._learned]!r}."
            )
        self._learned_macs = sum(layer.macs for layer in self._learned)
        self._limit = limit

    @property
    def limit(self) -> float | None:
        """BitOPs not to be exceeded."""
        return self._limit

    @property
    def fixed(self) -> float:
        """BitOPs of the layers that learn no width."""
        return sum(layer.bitops({}) for layer in self._layers if not layer.learned)

    def value(self, bits: Bits) -> float:
        """Return the BitOPs of the whole network; an integer where ``bits`` are."""
        return sum(layer.bitops(bits) for layer in self._layers)

    def hard_loss(self, bits: Bits) -> float:
        """Return the MAC-weighted mean of weight x activation width over layers that learn."""
        return sum(layer.bitops(bits) for layer in self._learned) / self._learned_macs

    def depends_on(self, width: str) -> bool:
        """Tell whether a layer has an operand of this width."""
        return any(width in (layer.second.width, layer.acts.width) for layer in self._layers)

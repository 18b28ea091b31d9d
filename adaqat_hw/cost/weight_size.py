"""Size of the weights: compression of a plan, and as a cost to learn under."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from adaqat_hw.cost.layer_widths import LayerWidths
from adaqat_hw.cost.plan_check import check_layers
from adaqat_hw.cost.protocol import Bits, HardwareCost
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import BitWidthPlan, LayerSpec, NetworkSpec

FLOAT_BITS = 32


@dataclass(frozen=True)
class WeightCompression:
    """Size of the weights at 32 bits over their size in the plan, weighted by their number.

    ``inner`` leaves out the first and the last layer, as the paper's figures do (32/3 = 10.7
    at 3 bits); None for a network without inner layers. ``total`` counts every layer. Products of
    two activations have no weights and do not count.
    """

    inner: float | None
    total: float


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


class WeightSizeCost(HardwareCost):
    """Bits of all weights of the network; people ask for and read the compression.

    The hard loss is the mean weight width of the layers that learn one. It puts no price on
    activations.

    Args:
        layers: all layers, fixed ones included.
        compression: size of all weights at 32 bits over their size in the plan, at least to be
            reached.

    Raises:
        ConfigError: no layer learns a weight width.
    """

    name = "compression"
    unit = "x"
    title = "weight compression"

    def __init__(self, layers: Iterable[LayerWidths], compression: float) -> None:
        self._layers = tuple(layer for layer in layers if layer.weights > 0)
        self._learned = tuple(layer for layer in self._layers if layer.second.learned)
        if not self._learned:
            raise ConfigError(
                f"adaqat.budget.compression = {compression!r}: none of the layers "
                f"{[layer.layer for layer in self._layers]!r} learns a weight width; change "
                "adaqat.learn or adaqat.groups."
            )
        self._learned_weights = sum(layer.weights for layer in self._learned)
        self._float_bits = sum(layer.weights for layer in self._layers) * FLOAT_BITS
        self._compression = compression

    @property
    def limit(self) -> float:
        """Bits of all weights at the compression that was asked for."""
        return self._float_bits / self._compression

    @property
    def asked(self) -> float:
        """The compression to reach."""
        return self._compression

    @property
    def fixed(self) -> float:
        """Bits of the weights that are not learned."""
        return sum(layer.weight_bits({}) for layer in self._layers if not layer.second.learned)

    def value(self, bits: Bits) -> float:
        """Return the bits of all weights; an integer where ``bits`` are."""
        return sum(layer.weight_bits(bits) for layer in self._layers)

    def hard_loss(self, bits: Bits) -> float:
        """Return the mean weight width of the layers that learn one."""
        return sum(layer.weight_bits(bits) for layer in self._learned) / self._learned_weights

    def depends_on(self, width: str) -> bool:
        """Tell whether it is the width of a layer's weights."""
        return any(layer.second.width == width for layer in self._layers)

    def reached(self, bits: Bits) -> float:
        """Return the compression of all weights."""
        return self._float_bits / self.value(bits)

    def describe(self, value: float) -> str:
        """Return a compression as text."""
        return f"{value:.2f}x weight compression"


def _ratio(layers: tuple[LayerSpec, ...], bits: dict[str, int]) -> float | None:
    """Return the compression of ``layers``, None where they have no weights."""
    floats = sum(layer.weights for layer in layers) * FLOAT_BITS
    stored = sum(layer.weights * bits[layer.name] for layer in layers)
    return floats / stored if stored else None

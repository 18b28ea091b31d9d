"""What bit-widths cost: BitOPs, hardware features and fitted models. No torch."""

from adaqat_hw.cost.bitops import BitOps, BitOpsCost, bitops
from adaqat_hw.cost.features import (
    LayerFeatures,
    bitops_per_cycle,
    layer_features,
    threshold_bits,
)
from adaqat_hw.cost.model import CostFit, FitOutcome, fit_cost
from adaqat_hw.cost.network_product import NetworkProductCost
from adaqat_hw.cost.protocol import HardwareCost
from adaqat_hw.cost.uniform import uniform_plan_for
from adaqat_hw.cost.weight_size import WeightCompression, WeightSizeCost, weight_compression

__all__ = [
    "BitOps",
    "BitOpsCost",
    "CostFit",
    "FitOutcome",
    "HardwareCost",
    "LayerFeatures",
    "NetworkProductCost",
    "WeightCompression",
    "WeightSizeCost",
    "bitops",
    "bitops_per_cycle",
    "fit_cost",
    "layer_features",
    "threshold_bits",
    "uniform_plan_for",
    "weight_compression",
]

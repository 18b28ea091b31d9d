"""What bit-widths cost: BitOPs, hardware features and fitted models. No torch."""

from adaqat_hw.cost.bitops import BitOps, WeightCompression, bitops, weight_compression
from adaqat_hw.cost.features import (
    LayerFeatures,
    bitops_per_cycle,
    layer_features,
    threshold_bits,
)
from adaqat_hw.cost.model import CostFit, FitOutcome, fit_cost
from adaqat_hw.cost.uniform import uniform_plan_for

__all__ = [
    "BitOps",
    "CostFit",
    "FitOutcome",
    "LayerFeatures",
    "WeightCompression",
    "bitops",
    "bitops_per_cycle",
    "fit_cost",
    "layer_features",
    "threshold_bits",
    "uniform_plan_for",
    "weight_compression",
]

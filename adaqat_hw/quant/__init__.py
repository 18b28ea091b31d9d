"""AdaQAT itself: quantizers with run-time widths, the controller, probes and plans."""

from adaqat_hw.quant.batchnorm import probing, recalibrate_batch_norm
from adaqat_hw.quant.binding import Binding, bind
from adaqat_hw.quant.controller import (
    AdaQatController,
    Flip,
    Freeze,
    Gradient,
    StepEvents,
    Width,
)
from adaqat_hw.quant.matmul import MatMul
from adaqat_hw.quant.network import QuantizedNetwork, quantize
from adaqat_hw.quant.plan_text import format_plan
from adaqat_hw.quant.probes import compare_losses, draws_numbers, probe_losses
from adaqat_hw.quant.quantizers import BitWidth
from adaqat_hw.quant.range_calibration import calibrate_clips, fit_weight_ranges
from adaqat_hw.quant.trace import network_spec

__all__ = [
    "AdaQatController",
    "Binding",
    "BitWidth",
    "Flip",
    "Freeze",
    "Gradient",
    "MatMul",
    "QuantizedNetwork",
    "StepEvents",
    "Width",
    "bind",
    "calibrate_clips",
    "compare_losses",
    "draws_numbers",
    "fit_weight_ranges",
    "format_plan",
    "network_spec",
    "probe_losses",
    "probing",
    "quantize",
    "recalibrate_batch_norm",
]

"""AdaQAT itself: quantizers with run-time widths, the controller, probes and plans."""

from adaqat_hw.quant.batchnorm import probing, recalibrate_batch_norm
from adaqat_hw.quant.binding import Binding, bind, live_loss, probe_losses
from adaqat_hw.quant.budget import BudgetOutcome
from adaqat_hw.quant.controller import (
    AdaQatController,
    Flip,
    Freeze,
    Gradient,
    StepEvents,
    Width,
)
from adaqat_hw.quant.hardware_loss import CostTerm, layer_cost, network_cost
from adaqat_hw.quant.matmul import MatMul
from adaqat_hw.quant.network import QuantizedNetwork, quantize
from adaqat_hw.quant.plan_text import format_plan
from adaqat_hw.quant.quantizers import BitWidth
from adaqat_hw.quant.trace import network_spec

__all__ = [
    "AdaQatController",
    "Binding",
    "BitWidth",
    "BudgetOutcome",
    "CostTerm",
    "Flip",
    "Freeze",
    "Gradient",
    "MatMul",
    "QuantizedNetwork",
    "StepEvents",
    "Width",
    "bind",
    "format_plan",
    "layer_cost",
    "live_loss",
    "network_cost",
    "network_spec",
    "probe_losses",
    "probing",
    "quantize",
    "recalibrate_batch_norm",
]

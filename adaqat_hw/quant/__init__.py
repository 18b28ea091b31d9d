"""AdaQAT itself: quantizers with run-time widths, the controller, probes and plans."""

from adaqat_hw.quant._rewrite import copy_network
from adaqat_hw.quant.allocation_rounds import (
    Neighbour,
    RoundOutcome,
    best_plan,
    changed_widths,
    judge,
    neighbours,
    reference_plan,
    round_steps,
)
from adaqat_hw.quant.batchnorm import (
    probing,
    recalibrate_batch_norm,
    use_running_statistics,
)
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
from adaqat_hw.quant.precision import tensor_float32
from adaqat_hw.quant.probes import (
    Probes,
    compare_losses,
    draws_numbers,
    plan_losses,
    probe_losses,
    run_probes,
)
from adaqat_hw.quant.quantizers import BitWidth
from adaqat_hw.quant.range_calibration import calibrate_clips, fit_weight_ranges
from adaqat_hw.quant.state_difference import state_difference
from adaqat_hw.quant.trace import network_spec

__all__ = [
    "AdaQatController",
    "Binding",
    "BitWidth",
    "Flip",
    "Freeze",
    "Gradient",
    "MatMul",
    "Neighbour",
    "Probes",
    "QuantizedNetwork",
    "RoundOutcome",
    "StepEvents",
    "Width",
    "best_plan",
    "bind",
    "calibrate_clips",
    "changed_widths",
    "compare_losses",
    "copy_network",
    "draws_numbers",
    "fit_weight_ranges",
    "format_plan",
    "judge",
    "neighbours",
    "network_spec",
    "plan_losses",
    "probe_losses",
    "probing",
    "quantize",
    "recalibrate_batch_norm",
    "reference_plan",
    "round_steps",
    "run_probes",
    "state_difference",
    "tensor_float32",
    "use_running_statistics",
]

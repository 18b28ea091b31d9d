"""Fit the ranges of quantizers: clips of activations to data, learned ranges of weights.

The clip of an activation is the one of least squared error between a quantizer's input and output.
It is known for every width from one pass, so that a probe at another width sees the clip that
belongs to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adaqat_hw.quant._fused import integer_range
from adaqat_hw.quant._ranges import WIDEST
from adaqat_hw.quant.batchnorm import probing
from adaqat_hw.quant.quantizers import BitWidth

if TYPE_CHECKING:
    from adaqat_hw.quant.network import QuantizedNetwork

_SAMPLES = 16_384  # of one activation, that a clip is fitted to
_CLIPS = 72  # candidates, from the largest magnitude down to 1/_SPAN of it
_SPAN = 100.0
_WIDTHS = 8  # bits; wider quantizers keep the clip of this one


def fit_weight_ranges(widths: Iterable[BitWidth]) -> None:
    """Fit the ranges of weights that are learned; others follow their weights by themselves."""
    for width in widths:
        if width.of_weight and (scale := width.learned_range) is not None:
            scale.fit_weight(width.module.weight)


def calibrate_clips(
    net: QuantizedNetwork,
    x: Tensor,
    widths: Iterable[BitWidth] | None = None,
    *,
    ratios_only: bool = False,
) -> None:
    """Fit the learned clips of activation quantizers to one batch.

    One pass in execution order: a quantizer sees its input as the quantizers in front of it, fitted
    already, leave it. Batch norm uses the batch's statistics, dropout is off, and nothing else
    changes. A quantizer whose input is 0 everywhere keeps its clip.

    Args:
        net: the network at the widths to fit for.
        x: a batch (n, ...) on its device; processes that share the network take the same one.
        widths: of the quantizers to fit, those without a learned clip apart; all where None.
        ratios_only: keep the clips at the present widths, and fit what others are relative to them.
    """
    chosen = net.act_widths.values() if widths is None else widths
    fitted = [x for x in chosen if not x.of_weight and x.learned_range is not None]
    values: dict[str, list[Tensor]] = {}
    hooks = [
        width.module.register_forward_pre_hook(partial(_fit_to_input, width, values, ratios_only))
        for width in fitted
    ]
    try:
        if fitted:
            with probing(net, dropout=False):
                net(x)
    finally:
        for hook in hooks:
            hook.remove()


def _fit_to_input(
    width: BitWidth,
    values: dict[str, list[Tensor]],
    ratios_only: bool,
    module: Any,
    inputs: tuple[Any, ...],
) -> None:
    x = inputs[0] if isinstance(inputs[0], Tensor) else inputs[0].value
    # Both addends of a residual sum pass through one quantizer, one after the other.
    seen = values.setdefault(width.name, [])
    seen.append(_sample(x, width.signed))
    clips = _best_clips(torch.cat(seen), width.signed)
    scale = width.learned_range
    if clips is None or scale is None:
        return
    by_width = [clips[0], *clips, *[clips[-1]] * (WIDEST - len(clips))]
    present = scale.value.detach().clone()
    scale.fit(by_width, present if ratios_only else torch.full_like(present, by_width[width.bits]))


def _sample(x: Tensor, signed: bool) -> Tensor:
    values = x.detach().float().flatten()
    values = values[:: max(1, values.numel() // _SAMPLES)]
    return values if signed else values.clamp_min(0)


def _best_clips(values: Tensor, signed: bool) -> list[float] | None:
    """Return the clips of least squared error for 1 to 8 bits; None where all values are 0."""
    largest = values.abs().max()
    if not bool(largest > 0):
        return None
    shares = torch.logspace(0, -1, _CLIPS, base=_SPAN, device=values.device)
    clips = (largest * shares)[:, None]
    best = []
    for bits in range(1, _WIDTHS + 1):
        low, high = integer_range(max(bits, 2) if signed else bits, signed, narrow=False)
        scale = clips / (-low if signed else high)
        errors = (values / scale).round_().clamp_(low, high).mul_(scale).sub_(values)
        best.append(float(clips[errors.square_().sum(1).argmin(), 0]))
    return best

"""A bit-width plan as an aligned table."""

from __future__ import annotations

from adaqat_hw.schema import BitWidthPlan


def format_plan(plan: BitWidthPlan) -> str:
    """Return the plan as text: one row per layer, then one per quantizer that no layer reads.

    ``s`` marks signed activations. A product of two activations has no weights; its operands
    stand on both sides of an ``x``.
    """
    rows = [("layer", "weights", "acts", "quantizer")]
    for layer in plan.layers:
        acts, quantizer, weights = _acts(layer.act_bits, layer.act_signed), layer.act, "-"
        if layer.weight_bits is not None:
            weights = str(layer.weight_bits)
        else:
            acts = f"{acts} x {_acts(layer.second_bits, bool(layer.second_act_signed))}"
            quantizer = f"{quantizer} x {layer.second_act}"
        rows.append((layer.layer, weights, acts, quantizer))
    for join in plan.joins:
        rows.append(("-", "-", _acts(join.bits, join.signed), join.quantizer))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [f"network {plan.network}, {plan.source} widths in bits (s = signed activations)"]
    for name, weights, acts, quantizer in rows:
        cells = (
            name.ljust(widths[0]),
            weights.rjust(widths[1]),
            acts.rjust(widths[2]),
            quantizer,
        )
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _acts(bits: int, signed: bool) -> str:
    return f"{bits}{'s' if signed else ''}"

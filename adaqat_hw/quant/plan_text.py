"""A bit-width plan as an aligned table."""

from __future__ import annotations

from adaqat_hw.schema import BitWidthPlan


def format_plan(plan: BitWidthPlan) -> str:
    """Return the plan as text: one row per layer, then one per quantizer that no layer reads.

    ``s`` marks signed activations.
    """
    rows = [("layer", "weights", "acts", "quantizer")]
    for layer in plan.layers:
        acts = f"{layer.act_bits}{'s' if layer.act_signed else ''}"
        rows.append((layer.layer, str(layer.weight_bits), acts, layer.act))
    for join in plan.joins:
        rows.append(("-", "-", f"{join.bits}{'s' if join.signed else ''}", join.quantizer))
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

"""How a folding and what stands in its way are put into words."""

from __future__ import annotations

from collections.abc import Mapping

from adaqat_hw.cost.fold_problem import COUNTED, Counts
from adaqat_hw.schema import HardwareNode

_UNITS = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram_18k": "BRAM 18k"}


def node_text(node: HardwareNode) -> str:
    """Return a node's layer and what it does in it."""
    return f"{node.layer} ({node.op})" if node.layer is not None else node.name


def folds_text(folds: Mapping[str, int]) -> str:
    """Return a folding as it is spoken.

    >>> folds_text({"PE": 8, "SIMD": 9})
    'PE 8 SIMD 9'
    """
    return " ".join(f"{name} {value}" for name, value in folds.items())


def lacks(excess: Counts) -> str:
    """Return how much of which resource is lacking."""
    parts = [
        f"{value:,.0f} {_UNITS[name]}"
        for name, value in zip(COUNTED, excess, strict=True)
        if value >= 0.5
    ]
    return " and ".join(parts) or "a little"


def percent(fraction: float) -> str:
    """Return a fraction in percent.

    >>> percent(0.7)
    '70 %'
    """
    return f"{100 * fraction:g} %"


def at_its_most(interval: int) -> str:
    """Say that no legal folding is faster."""
    return (
        f"no legal folding takes fewer than {interval:,} cycles per frame; its PE and SIMD are as "
        "large as its shape allows"
    )

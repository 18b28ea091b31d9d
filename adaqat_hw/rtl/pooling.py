"""What a Pool node computes: its function, its window and its shift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl.reference import quant_avg_shift
from adaqat_hw.schema import HardwareNode


@dataclass(frozen=True)
class Pooling:
    """Maximum, or sum shifted right by ``shift``, over ``window`` values per channel."""

    function: Literal["max", "sum"]
    window: int
    shift: int = 0


def pooling_of(node: HardwareNode) -> Pooling:
    """Read a Pool node.

    FINN's ``MaxPool``, ``AccPool`` (the sum) and ``QuantAvgPool``, whose shift is its attribute
    ``Size``: the bits of the largest sum less those of the output.

    Raises:
        ConfigError: another function, no window, or a shift that is none.
    """
    kernel = node.attributes.get("KernelSize")
    if not isinstance(kernel, tuple) or not kernel or min(kernel) < 1:
        raise ConfigError(f"Attribute 'KernelSize' of {node.name!r} is {kernel!r}, not a size.")
    window = 1
    for size in kernel:
        window *= size
    function = node.attributes.get("Function", "MaxPool")
    if function == "MaxPool":
        return Pooling("max", window)
    if function == "AccPool":
        return Pooling("sum", window)
    if function == "QuantAvgPool":
        bits = node.inputs[0].dtype.bits, node.outputs[0].dtype.bits
        shift = node.attributes.get("Size", quant_avg_shift(bits[0], window, bits[1]))
        if not isinstance(shift, int) or shift < 0:
            raise ConfigError(
                f"Attribute 'Size' of {node.name!r} is {shift!r}; the shift of QuantAvgPool must "
                "be 0 or more."
            )
        return Pooling("sum", window, shift)
    raise ConfigError(
        f"Node {node.name!r} pools with {function!r}; hw/rtl has 'MaxPool', 'QuantAvgPool' and "
        "'AccPool'."
    )

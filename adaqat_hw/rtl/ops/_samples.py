"""Nodes of this project's own RTL, to be synthesized alone and measured."""

from __future__ import annotations

from collections.abc import Iterator

from adaqat_hw.schema import HardwareNode, IntType, MvauImpl, Resources, Stream
from adaqat_hw.schema.operators import Operator


def sample_node(
    record: Operator,
    source: tuple[int, int, int],
    target: tuple[int, int, int],
    *,
    signed: bool = False,
    impl: MvauImpl | None = None,
    copies: int = 1,
    **attributes: int | str | tuple[int, ...],
) -> HardwareNode:
    """Return a node; streams are (bits, values per beat, values per vector).

    ``signed`` is the sign of the output, inputs are unsigned.
    """

    def stream(name: str, sizes: tuple[int, int, int], sign: bool) -> Stream:
        bits, elements, values = sizes
        shape = (1, max(1, values // elements), elements)
        return Stream(name=name, dtype=IntType(bits=bits, signed=sign), folded_shape=shape)

    return HardwareNode(
        name="node",
        op=record.name,
        backend="hls",
        layer=None,
        generator="adaqat",
        impl=impl,
        inputs=tuple(stream(f"in{k}", source, False) for k in range(record.inputs)),
        outputs=tuple(stream(f"out{k}", target, signed) for k in range(copies)),
        attributes=attributes,
        cycles=1,
        estimate=Resources(),
    )


def sizes() -> Iterator[tuple[int, int, int]]:
    """Yield (bits, PE, channels) over widths and foldings."""
    for bits, pe in ((2, 1), (4, 1), (4, 4), (8, 2), (4, 16), (8, 8), (13, 4), (6, 32)):
        yield bits, pe, 2 * pe if pe > 4 else 16

"""Integer arrays to stream words and back: two's complement, element 0 lowest, byte padding.

A word is a Python int that holds all elements of one beat side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adaqat_hw.schema import IntType, write_atomic

IntArray = NDArray[np.int64]

_MAX_BITS = 63  # everything is held in int64


def limits(dtype: IntType) -> tuple[int, int]:
    """Return the smallest and the largest value of ``dtype``.

    >>> limits(IntType(bits=4, signed=True)), limits(IntType(bits=4, signed=False))
    ((-8, 7), (0, 15))
    """
    if not 1 <= dtype.bits <= _MAX_BITS:
        raise ValueError(f"Width {dtype.bits!r} is not within 1..{_MAX_BITS} bits.")
    if dtype.signed:
        return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1
    return 0, (1 << dtype.bits) - 1


def require_range(values: ArrayLike, dtype: IntType, name: str) -> IntArray:
    """Return ``values`` as int64; raise ValueError when one is not of ``dtype``.

    Args:
        values: integers of any shape.
        dtype: the declared type.
        what: what the values are, to begin the message with.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "iub":
        raise ValueError(f"{name} must be integers, not {array.dtype.name!r}.")
    low, high = limits(dtype)
    if array.size:
        for extreme in (int(array.min()), int(array.max())):
            if not low <= extreme <= high:
                sign = "signed" if dtype.signed else "unsigned"
                raise ValueError(
                    f"{name} holds {extreme!r}, outside {low}..{high} of {dtype.bits} bits {sign}."
                )
    return array.astype(np.int64)


def padded_width(elements: int, bits: int) -> int:
    """Return the bus width of ``elements`` values of ``bits`` bits, padded to whole bytes."""
    return (elements * bits + 7) // 8 * 8


def pack_words(values: ArrayLike, dtype: IntType) -> list[int]:
    """Pack integers (..., elements) into one word per row, in row order.

    Raises:
        ValueError: a value is not of ``dtype``.

    >>> [hex(word) for word in pack_words([[1, -1], [2, 0]], IntType(bits=4, signed=True))]
    ['0xf1', '0x2']
    """
    array = require_range(values, dtype, "Stream data")
    if array.ndim == 0:
        raise ValueError("Stream data needs at least one dimension: the elements of a beat.")
    elements = array.shape[-1]
    rows = array.reshape(-1, elements)
    planes = (rows[:, :, None] >> np.arange(dtype.bits)) & 1
    packed = np.packbits(
        planes.reshape(len(rows), elements * dtype.bits).astype(np.uint8), axis=1, bitorder="little"
    )
    return [int.from_bytes(row.tobytes(), "little") for row in packed]


def unpack_words(words: Sequence[int], elements: int, dtype: IntType) -> IntArray:
    """Unpack words into integers (len(words), elements); padding bits are ignored."""
    limits(dtype)
    used = elements * dtype.bits
    size = (used + 7) // 8
    mask = (1 << used) - 1
    raw = b"".join((word & mask).to_bytes(size, "little") for word in words)
    octets = np.frombuffer(raw, dtype=np.uint8).reshape(len(words), size)
    planes = np.unpackbits(octets, axis=1, bitorder="little")[:, :used]
    weights = np.int64(1) << np.arange(dtype.bits, dtype=np.int64)
    if dtype.signed:
        weights[-1] = -weights[-1]
    bits = planes.reshape(len(words), elements, dtype.bits).astype(np.int64)
    return np.asarray(bits @ weights, dtype=np.int64)


def mvau_weight_words(
    weights: ArrayLike, pe: int, simd: int, bits: int, *, signed: bool = True
) -> list[int]:
    """Pack an MVAU's weights (MW, MH) into the words of its weight memory.

    Word nf*SF + sf holds, lowest first, for each pe the SIMD weights of output row
    mh = nf*PE + pe, columns mw = sf*SIMD + simd: FINN's order. ``bits`` is the weight width.

    Raises:
        ValueError: PE does not divide MH, SIMD does not divide MW, or a weight does not fit.
    """
    matrix = np.asarray(weights)
    if matrix.ndim != 2:
        raise ValueError(f"Weights must be (MW, MH), not of shape {matrix.shape!r}.")
    mw, mh = matrix.shape
    if pe < 1 or mh % pe:
        raise ValueError(f"PE {pe!r} does not divide MH {mh!r}.")
    if simd < 1 or mw % simd:
        raise ValueError(f"SIMD {simd!r} does not divide MW {mw!r}.")
    folded = matrix.T.reshape(mh // pe, pe, mw // simd, simd).transpose(0, 2, 1, 3)
    return pack_words(folded.reshape(-1, pe * simd), IntType(bits=bits, signed=signed))


def hex_lines(words: Iterable[int], width: int) -> str:
    """Return ``words`` as text for ``$readmemh``: one per line, all of ``width`` bits."""
    digits = (width + 3) // 4
    lines = []
    for word in words:
        if word < 0 or word >> width:
            raise ValueError(f"Word {word!r} does not fit {width!r} bits.")
        lines.append(f"{word:0{digits}x}\n")
    return "".join(lines)


def write_hex(path: Path, words: Iterable[int], width: int) -> Path:
    """Write ``words`` of ``width`` bits for ``$readmemh`` and return the path."""
    write_atomic(path, hex_lines(words, width))
    return path

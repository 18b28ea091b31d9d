from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaqat_hw.rtl.packing import (
    hex_lines,
    limits,
    mvau_weight_words,
    pack_words,
    padded_width,
    require_range,
    unpack_words,
    write_hex,
)
from adaqat_hw.schema import IntType


@st.composite
def _typed_rows(draw: st.DrawFn) -> tuple[IntType, list[list[int]]]:
    dtype = IntType(bits=draw(st.integers(1, 40)), signed=draw(st.booleans()))
    low, high = limits(dtype)
    elements = draw(st.integers(1, 9))
    value = st.integers(low, high)
    rows = draw(st.lists(st.lists(value, min_size=elements, max_size=elements), min_size=1))
    return dtype, rows


@given(_typed_rows())
def test_words_are_twos_complement_with_element_zero_lowest(
    case: tuple[IntType, list[list[int]]],
) -> None:
    dtype, rows = case
    words = pack_words(rows, dtype)
    for row, word in zip(rows, words, strict=True):
        expected = 0
        for position, value in enumerate(row):
            expected |= (value % (1 << dtype.bits)) << (position * dtype.bits)
        assert word == expected
    assert unpack_words(words, len(rows[0]), dtype).tolist() == rows


@given(_typed_rows(), st.integers(0, 7))
def test_unpacking_ignores_padding_bits(
    case: tuple[IntType, list[list[int]]], garbage: int
) -> None:
    dtype, rows = case
    top = len(rows[0]) * dtype.bits
    words = [word | garbage << top for word in pack_words(rows, dtype)]
    assert unpack_words(words, len(rows[0]), dtype).tolist() == rows


@pytest.mark.parametrize(
    ("elements", "bits", "width"), [(1, 1, 8), (2, 4, 8), (3, 3, 16), (1, 8, 8), (5, 13, 72)]
)
def test_buses_are_padded_to_bytes(elements: int, bits: int, width: int) -> None:
    assert padded_width(elements, bits) == width


@pytest.mark.parametrize(
    ("bits", "signed", "value"), [(4, True, 8), (4, True, -9), (4, False, 16), (4, False, -1)]
)
def test_a_value_outside_its_type_is_refused(bits: int, signed: bool, value: int) -> None:
    with pytest.raises(ValueError, match=rf"Stream data holds {value}, outside"):
        pack_words([[0, value]], IntType(bits=bits, signed=signed))


def test_other_refusals() -> None:
    with pytest.raises(ValueError, match="must be integers, not 'float64'"):
        require_range(np.zeros(3), IntType(bits=4, signed=True), "Input")
    with pytest.raises(ValueError, match="Width 0"):
        limits(IntType(bits=0, signed=True))
    with pytest.raises(ValueError, match="at least one dimension"):
        pack_words(3, IntType(bits=4, signed=True))
    with pytest.raises(ValueError, match="does not fit 4 bits"):
        hex_lines([16], 4)


@pytest.mark.parametrize(("pe", "simd"), [(1, 1), (2, 3), (4, 1), (1, 6), (4, 6)])
def test_weight_words_follow_the_folding(pe: int, simd: int) -> None:
    mw, mh, bits = 6, 4, 5
    weights = np.arange(mw * mh).reshape(mw, mh) - 12
    words = mvau_weight_words(weights, pe, simd, bits)
    assert len(words) == (mh // pe) * (mw // simd)
    for nf in range(mh // pe):
        for sf in range(mw // simd):
            word = words[nf * (mw // simd) + sf]
            for p in range(pe):
                for s in range(simd):
                    field = word >> ((p * simd + s) * bits) & 31
                    assert field == weights[sf * simd + s, nf * pe + p] % 32


def test_weight_words_refuse_a_folding_that_does_not_divide() -> None:
    weights = np.zeros((6, 4), dtype=np.int64)
    with pytest.raises(ValueError, match="PE 3 does not divide MH 4"):
        mvau_weight_words(weights, 3, 1, 4)
    with pytest.raises(ValueError, match="SIMD 4 does not divide MW 6"):
        mvau_weight_words(weights, 1, 4, 4)
    with pytest.raises(ValueError, match="must be"):
        mvau_weight_words(weights[0], 1, 1, 4)
    with pytest.raises(ValueError, match="holds -9"):
        mvau_weight_words(weights - 9, 1, 1, 4)


def test_hex_files_have_one_full_width_word_per_line(tmp_path: Path) -> None:
    path = write_hex(tmp_path / "w.hex", [0x1F, 3], 9)
    assert path.read_text(encoding="utf-8") == "01f\n003\n"

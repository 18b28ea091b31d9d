"""IntType: an integer data type of any width."""

from __future__ import annotations

from adaqat_hw.schema._base import Record


class IntType(Record):
    """An integer data type."""

    bits: int
    signed: bool

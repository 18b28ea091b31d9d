"""Where Yosys puts a memory: block RAM, distributed RAM or logic, the cheapest by its own costs.

After ``memory_libmap`` of Yosys 0.70 for 7-series and UltraScale+: 18 kbit of block RAM cost 129,
32, 64 or 128 words of one bit in distributed RAM with two ports 2, 4 or 8, and 64 bits of a ROM in
logic 1. Yosys folds a memory that is deep and narrow into fewer wide words, so the number of blocks
follows the bits, but for words wider than a block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_BLOCK_BITS, _BLOCK_WIDTH, _BLOCK_COST = 18432, 36, 129
_LOGIC_COST = 1 / 64


@dataclass(frozen=True)
class MappedMemory:
    """Where a memory lies; two of the three are 0. ``lutram_sites`` are LUTs of 64 x 1 bits."""

    bram_18k: int = 0
    lutram_sites: int = 0
    logic_bits: int = 0


def map_rom(depth: int, width: int) -> MappedMemory:
    """Map a read-only memory of ``depth`` words; one word is wires.

    >>> map_rom(640, 12), map_rom(1024, 24).bram_18k
    (MappedMemory(bram_18k=0, lutram_sites=0, logic_bits=7680), 2)
    """
    if depth <= 1 or width == 0:
        return MappedMemory()
    blocks = _blocks(depth, width)
    if blocks * _BLOCK_COST < depth * width * _LOGIC_COST:
        return MappedMemory(bram_18k=blocks)
    return MappedMemory(logic_bits=depth * width)


def map_ram(depth: int, width: int) -> MappedMemory:
    """Map a memory with one write and one read port."""
    if depth <= 1 or width == 0:
        return MappedMemory()
    cost = 2 * width if depth <= 32 else 4 * math.ceil(depth / 64) * width
    blocks = _blocks(depth, width)
    if blocks * _BLOCK_COST < cost:
        return MappedMemory(bram_18k=blocks)
    return MappedMemory(lutram_sites=math.ceil(cost / 4))


def _blocks(depth: int, width: int) -> int:
    return max(math.ceil(width / _BLOCK_WIDTH), math.ceil(depth * width / _BLOCK_BITS))

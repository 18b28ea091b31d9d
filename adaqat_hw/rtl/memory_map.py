"""Where Yosys puts a memory: block RAM, distributed RAM or logic, the cheapest by its own costs.

The costs are those of a family's ``memory_libmap`` (:class:`adaqat_hw.schema.MemoryCosts`). Yosys
folds a memory that is deep and narrow into fewer wide words, so the number of blocks follows the
bits, but for words wider than a block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from adaqat_hw.schema import BlockRam, MemoryCosts


@dataclass(frozen=True)
class MappedMemory:
    """Where a memory lies; two of the three are 0. ``lutram_sites`` are LUTs of 64 x 1 bits."""

    bram_18k: int = 0
    lutram_sites: int = 0
    logic_bits: int = 0


def map_rom(depth: int, width: int, costs: MemoryCosts) -> MappedMemory:
    """Map a read-only memory of ``depth`` words; one word is wires."""
    if depth <= 1 or width == 0:
        return MappedMemory()
    blocks = _blocks(depth, width, costs.block)
    if blocks * costs.block.cost < depth * width * costs.rom_bit_cost:
        return MappedMemory(bram_18k=blocks)
    return MappedMemory(logic_bits=depth * width)


def map_ram(depth: int, width: int, costs: MemoryCosts) -> MappedMemory:
    """Map a memory with one write and one read port."""
    if depth <= 1 or width == 0:
        return MappedMemory()
    ram = next((each for each in costs.distributed if depth <= each.words), costs.distributed[-1])
    cost = ram.cost * math.ceil(depth / ram.words) * width
    blocks = _blocks(depth, width, costs.block)
    if blocks * costs.block.cost < cost:
        return MappedMemory(bram_18k=blocks)
    return MappedMemory(lutram_sites=math.ceil(cost / 4))


def _blocks(depth: int, width: int, block: BlockRam) -> int:
    return max(math.ceil(width / block.width), math.ceil(depth * width / block.bits))

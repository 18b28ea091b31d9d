"""Physical features of one folded hardware node: what its LUTs, FFs, DSPs and BRAMs follow.

A node is described by plain numbers (its *facts*), so that a measured row and a candidate that
nobody has built yet go through the same functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from adaqat_hw.cost.folding import Candidate
from adaqat_hw.cost.memory_map import map_ram, map_rom
from adaqat_hw.errors import NotMeasured
from adaqat_hw.schema import DspBlock, HardwareNode

Facts = dict[str, int]
Features = dict[str, float]

_WINDOW = "ConvolutionInputGenerator"


def kind_of(node: HardwareNode) -> str:
    """Return the name under which nodes of this sort share a cost model: ``MVAU/lut``, ..."""
    return cost_kind(node.op, node.impl)


def cost_kind(op: str, impl: str | None) -> str:
    """Return the cost model's name of an operator, built in ``impl`` where there is a choice."""
    return f"{op}/{impl}" if impl else op


def node_facts(node: HardwareNode, *, narrow: bool = True) -> Facts:
    """Return the facts of a node as it stands.

    Args:
        node: a node of a hardware graph.
        narrow: for an MVAU, whether its weights leave out the most negative value, which lets a
            DSP block hold one more.
    """
    source, target = node.inputs[0], node.outputs[0]
    return facts_of_row(
        {
            "op": node.op,
            "in_bits": source.dtype.bits,
            "in_elements": source.elements,
            "out_bits": target.dtype.bits,
            "out_elements": target.elements,
            "narrow": int(narrow),
            "in1_bits": node.inputs[-1].dtype.bits,
            "outputs": len(node.outputs),
            "attributes": node.attributes,
        }
    )


def facts_of_row(row: Mapping[str, Any]) -> Facts:
    """Return the facts of a measured row; its ``attributes`` are the node's.

    Raises:
        ConfigError: an attribute that the operator must have is missing.
    """
    names = ("in_bits", "in_elements", "out_bits", "out_elements", "narrow", "outputs")
    facts = {name: int(row.get(name, 1)) for name in names}
    facts["in1_bits"] = int(row.get("in1_bits", facts["in_bits"]))
    attributes = row["attributes"]
    for name in ("PE", "SIMD", "MW", "MH", "weight_bits", "NumChannels", "Channels", "Labels"):
        if isinstance(attributes.get(name), int):
            facts[name] = attributes[name]
    op = str(row["op"])
    if op == _WINDOW:
        (kh, kw), (_, width) = attributes["ConvKernelDim"], attributes["IFMDim"]
        facts |= {
            "channels": attributes["IFMChannels"],
            "buffered": (kh - 1) * width + kw,
            "taps": kh * kw,
            "depthwise": attributes.get("depthwise", 0),
        }
    if op in ("VVAU", "Pool"):
        facts["taps"] = math.prod(attributes["Kernel" if op == "VVAU" else "KernelSize"])
        facts["average"] = int(attributes.get("Function") == "QuantAvgPool")
    if op == "StreamingFIFO":
        facts["depth"] = int(attributes.get("depth", 2))
    return facts


def fold_facts(facts: Facts, candidate: Candidate) -> Facts:
    """Return the facts of a node after it took ``candidate``'s folding."""
    streams = {"in_elements": candidate.in_elements, "out_elements": candidate.out_elements}
    return facts | candidate.folds | streams


def features_of(kind: str, facts: Facts) -> Features:
    """Return the features of a node of ``kind``; ``bram_18k`` and ``dsp`` are counts, not features.

    Raises:
        NotMeasured: there are no features for such nodes.
    """
    found = _FEATURES.get(kind)
    if found is None:
        raise NotMeasured(
            f"There is no cost model for nodes of kind {kind!r}; there is one for "
            f"{', '.join(sorted(_FEATURES))}."
        )
    return found(facts)


def dsp_blocks(kind: str, facts: Facts, block: DspBlock) -> int:
    """Return the DSP blocks of a node: FINN's RTL MVAU packs ``lanes`` weights into one.

    The packing is that of FINN's ``mvu.sv``: lanes lie weight + activation - 1 bits apart in the
    wide operand. No other node has any.
    """
    if kind != "MVAU/dsp":
        return 0
    width, weight = block.wide_bits, facts["weight_bits"]
    spare = width - weight - (0 if facts["narrow"] else 1)
    lanes = 1 + max(0, spare) // (weight + facts["in_bits"] - 1)
    return math.ceil(facts["PE"] / lanes) * facts["SIMD"]


def tree_bits(operands: int, width: int) -> int:
    """Return the full-adder bits of an exact adder tree: every level is one bit wider.

    >>> tree_bits(4, 3)
    13
    """
    bits = 0
    while operands > 1:
        width += 1
        bits += operands // 2 * width
        operands = -(-operands // 2)
    return bits


def _mvau_lut(facts: Facts) -> Features:
    pe, simd, weight, act = (facts[k] for k in ("PE", "SIMD", "weight_bits", "in_bits"))
    folds, passes = facts["MW"] // simd, facts["MH"] // pe
    low, high = min(weight, act), max(weight, act)
    rom = map_rom(folds * passes, pe * simd * weight)
    ram = map_ram(2 * folds, simd * act) if passes > 1 else map_ram(0, 0)
    # Weights of one or two words dissolve into the logic that they gate.
    shallow = folds * passes <= 2
    trees = pe * low * tree_bits(simd, high)
    gates = pe * low * high * simd
    return {
        "trees": 0 if shallow else trees,
        "gates": 0 if shallow else gates,
        "shallow_gates": gates if shallow else 0,
        "bit_sums": pe * tree_bits(low, high + math.ceil(math.log2(simd)) + 1),
        "accumulators": 0 if folds == 1 else pe * facts["out_bits"],
        "outputs": pe * facts["out_bits"],
        "inputs": simd * act,
        "rom_bits": rom.logic_bits,
        "rom_words": pe * simd * weight if folds * passes > 1 else 0,
        "ram_sites": ram.lutram_sites,
        "counters": math.log2(folds * passes) + math.log2(folds),
        "one": 1,
        "bram_18k": rom.bram_18k + ram.bram_18k,
    }


def _mvau_dsp(facts: Facts) -> Features:
    pe, simd, weight, act = (facts[k] for k in ("PE", "SIMD", "weight_bits", "in_bits"))
    folds, passes = facts["MW"] // simd, facts["MH"] // pe
    rom = map_rom(folds * passes, pe * simd * weight)
    ram = map_ram(folds, simd * act) if passes > 1 else map_ram(0, 0)
    return {
        "macs": pe * simd,
        "products": pe * simd * (weight + act),
        "outputs": pe * facts["out_bits"],
        "sums": pe * tree_bits(simd, weight + act),
        "inputs": simd * act,
        "rom_bits": rom.logic_bits,
        "rom_words": pe * simd * weight,
        "ram_sites": ram.lutram_sites,
        "counters": math.log2(folds * passes) + math.log2(folds),
        "one": 1,
        "bram_18k": rom.bram_18k + ram.bram_18k,
    }


def _thresholding(facts: Facts) -> Features:
    pe, accu, levels = facts["PE"], facts["in_bits"], facts["out_bits"]
    folds = facts["NumChannels"] // pe
    maps = [map_rom(folds * 2**stage, accu) for stage in range(levels)]
    return {
        "compared": pe * levels * accu,
        "threshold_bits": pe * sum(m.logic_bits for m in maps),
        "passed_on": pe * levels * levels,
        "outputs": pe * levels,
        "one": 1,
        "bram_18k": pe * sum(m.bram_18k for m in maps),
    }


def _window(facts: Facts) -> Features:
    width = facts["SIMD"] * facts["in_bits"]
    depth = facts["buffered"] * (facts["channels"] // facts["SIMD"])
    return {
        "ram_sites": width * math.ceil(depth / 32),
        "width": width,
        "address": math.log2(depth + 1),
        "folded": float(facts["SIMD"] < facts["channels"]),
        "depthwise": facts["depthwise"],
        "one": 1,
        "bram_18k": 0,
    }


def _stream(facts: Facts) -> Features:
    return {"width": facts["in_elements"] * facts["in_bits"], "one": 1, "bram_18k": 0}


def _fifo(facts: Facts) -> Features:
    width = facts["in_elements"] * facts["in_bits"]
    deep = facts.get("depth", 2)
    return {
        "width": width,
        "ram_sites": 0 if deep <= 2 else width * math.ceil(deep / 32),
        "one": 1,
        "bram_18k": 0,
    }


def _width_converter(facts: Facts) -> Features:
    """FINN's converter shifts by bits: down a tree of multiplexers, up into fixed places."""
    source, target = facts["in_elements"], facts["out_elements"]
    narrow, wide = sorted((source, target))
    bits, whole = facts["in_bits"], wide % narrow == 0
    levels = math.log2(wide / narrow)
    return {
        "in": source * bits,
        "out": target * bits,
        "unpacked": wide * bits * levels if whole and source > target else 0,
        "shifted": 0 if whole else (wide + narrow) * bits * math.log2(wide),
        "one": 1,
        "bram_18k": 0,
    }


def _pool(facts: Facts) -> Features:
    width, counter = facts["in_elements"] * facts["in_bits"], math.log2(facts["taps"])
    sums = facts["in_elements"] * (facts["in_bits"] + math.ceil(counter))
    return {
        "compared": 0 if facts["average"] else width,
        "sums": sums if facts["average"] else 0,
        "outputs": facts["out_elements"] * facts["out_bits"],
        "counter": counter,
        "one": 1,
        "bram_18k": 0,
    }


def _duplicate(facts: Facts) -> Features:
    width = facts["in_elements"] * facts["in_bits"]
    return {"width": width, "outputs": facts["outputs"], "bram_18k": 0}


def _add(facts: Facts) -> Features:
    return {
        "in": facts["in_elements"] * (facts["in_bits"] + facts["in1_bits"]),
        "out": facts["out_elements"] * facts["out_bits"],
        "one": 1,
        "bram_18k": 0,
    }


def _vvau(facts: Facts) -> Features:
    pe, simd, weight, act = (facts[k] for k in ("PE", "SIMD", "weight_bits", "in_bits"))
    low, high = min(weight, act), max(weight, act)
    words = facts["Channels"] // pe * facts["taps"] // simd
    rom = map_rom(words, pe * simd * weight)
    return {
        "trees": pe * low * tree_bits(simd, high),
        "gates": pe * simd * low * high,
        "bit_sums": pe * tree_bits(low, high + math.ceil(math.log2(simd)) + 1),
        "outputs": pe * facts["out_bits"],
        "inputs": pe * simd * act,
        "rom_bits": rom.logic_bits,
        "one": 1,
        "bram_18k": rom.bram_18k,
    }


def _accumulating_pool(facts: Facts) -> Features:
    width, folds = facts["out_elements"] * facts["out_bits"], facts["NumChannels"] // facts["PE"]
    ram = map_ram(folds, width)
    return {
        "width": width,
        "unfolded": width if folds == 1 else 0,
        "ram_sites": ram.lutram_sites,
        "counters": math.log2(folds) + 1,
        "one": 1,
        "bram_18k": ram.bram_18k,
    }


def _label_select(facts: Facts) -> Features:
    pe, bits, index = facts["PE"], facts["in_bits"], math.log2(facts["Labels"])
    return {
        "compared": (pe - 1) * bits,
        "kept": bits,
        "indices": index * (1 + math.log2(pe)),
        "one": 1,
        "bram_18k": 0,
    }


_FEATURES: dict[str, Callable[[Facts], Features]] = {
    "MVAU/lut": _mvau_lut,
    "MVAU/dsp": _mvau_dsp,
    "VVAU/lut": _vvau,
    "Thresholding": _thresholding,
    "ConvolutionInputGenerator": _window,
    "FMPadding": _stream,
    "Pool": _pool,
    "StreamingFIFO": _fifo,
    "StreamingDataWidthConverter": _width_converter,
    "DuplicateStreams": _duplicate,
    "ElementwiseAdd": _add,
    "AddStreams": _add,
    "GlobalAccPool": _accumulating_pool,
    "LabelSelect": _label_select,
}

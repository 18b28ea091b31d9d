"""MVAU: vectors times a matrix of weights, in LUTs (hw/rtl/mvau_lut) or in DSP blocks by FINN."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl.memory_map import map_ram, map_rom
from adaqat_hw.rtl.ops._protocol import (
    Facts,
    Features,
    HardwareOperator,
    Parameters,
    Sample,
    ValueRange,
    parameter,
    pixel_shape,
)
from adaqat_hw.rtl.ops._samples import sample_node
from adaqat_hw.rtl.ops._weighted import dot_range, packed, refuse_unbuilt, tree_bits, weights_of
from adaqat_hw.rtl.packing import (
    IntArray,
    hex_lines,
    mvau_weight_words,
    padded_width,
    require_range,
)
from adaqat_hw.rtl.verilog_writer import (
    NodeRtl,
    expect,
    finn_module,
    instance,
    node_module,
    require_ports,
    stream_ports,
    through,
)
from adaqat_hw.schema import Family, HardwareNode, IntType
from adaqat_hw.schema.operators import MVAU

# With one, an MVAU waits for its next vector: 1,289 instead of 1,024 cycles per frame on an MLP.
# The second costs nothing in LUTs up to a fold of 16, some tens for the longest vectors.
_BUFFER_VECTORS = 2
# (MW, MH) of dense and convolutional layers from a first layer to a classifier.
_SHAPES = (
    *((27, 16), (144, 16), (64, 64), (64, 10), (288, 32), (576, 64), (256, 10), (72, 16)),
    *((147, 64), (1152, 128), (16, 16)),
)
_MOST_BIT_PRODUCTS = 4000  # per cycle; what Yosys does in half a minute
_MOST_PRODUCTS, _MOST_WEIGHT_BITS = 400, 240_000


def matmul(
    inputs: ArrayLike,
    weights: ArrayLike,
    *,
    input_type: IntType,
    weight_type: IntType,
    output_type: IntType,
) -> IntArray:
    """Multiply vectors (..., MW) with weights (MW, MH) to (..., MH).

    The RTL (hw/rtl/mvau_lut, FINN's MVAU) accumulates modulo 2**bits of ``output_type``, which
    is exact whenever the result fits.

    Raises:
        ValueError: shapes that do not match, or a value outside its type.
    """
    x = require_range(inputs, input_type, "MVAU input")
    w = require_range(weights, weight_type, "MVAU weights")
    if w.ndim != 2 or x.shape[-1] != w.shape[0]:
        raise ValueError(
            f"Inputs of shape {x.shape!r} do not match weights of shape {w.shape!r}: "
            "the last dimension must equal MW."
        )
    low, high = int(np.abs(x).max(initial=0)), int(np.abs(w).max(initial=0))
    # Products of doubles are exact below 2**53, and BLAS is far faster than int64 loops.
    if low * high * w.shape[0] < 1 << 53:
        result = np.rint(x.astype(np.float64) @ w.astype(np.float64)).astype(np.int64)
    else:
        result = np.asarray(x @ w, dtype=np.int64)
    return require_range(result, output_type, "MVAU output")


class _Mvau(HardwareOperator):
    record = MVAU

    def check(self, node: HardwareNode) -> None:
        refuse_unbuilt(node)

    def reference(self, node: HardwareNode, parameters: Parameters, *inputs: IntArray) -> IntArray:
        (x,) = inputs
        weights = parameter(node, parameters, "weights")
        y = matmul(
            x.reshape(len(x), -1, weights.shape[0]),
            weights,
            input_type=node.inputs[0].dtype,
            weight_type=node.weight_type,
            output_type=node.outputs[0].dtype,
        )
        return y.reshape(len(x), *pixel_shape(x, y.shape[1]), y.shape[-1])

    def ranges(
        self, node: HardwareNode, parameters: Parameters, *inputs: ValueRange
    ) -> ValueRange:  # fmt: skip
        return dot_range(parameter(node, parameters, "weights"), 0, inputs[0])

    def verilog(
        self,
        node: HardwareNode,
        module: str,
        parameters: Parameters,
        data_files: Mapping[str, Path],
    ) -> NodeRtl:
        require_ports(node)
        pe, simd, dtype = node.pe, node.simd, node.weight_type
        weights = weights_of(node, parameters, (node.mw, node.mh), "MW and MH")
        words = packed(
            node, lambda: mvau_weight_words(weights, pe, simd, dtype.bits, signed=dtype.signed)
        )
        texts = {f"{module}_weights.hex": hex_lines(words, pe * simd * dtype.bits)}
        expect(node, node.inputs[0].elements == simd, f"SIMD {simd!r}", node.inputs[0])
        expect(node, node.outputs[0].elements == pe, f"PE {pe!r}", node.outputs[0])
        built = MVAU.implementation(node.impl)
        if built is None or node.generator != built.generator:
            ways = " and ".join(f"{i.name!r} from {i.generator!r}" for i in MVAU.implementations)
            raise ConfigError(
                f"Node {node.name!r} is an MVAU of implementation {node.impl!r} from "
                f"{node.generator!r}; there are {ways}."
            )
        write = _in_luts if node.generator == "adaqat" else _in_dsp_blocks
        return write(node, module, len(words), texts)

    def own_facts(self, node: HardwareNode) -> Facts:
        return {
            "PE": node.pe,
            "SIMD": node.simd,
            "MW": node.mw,
            "MH": node.mh,
            "weight_bits": node.integer("weight_bits"),
        }

    def features(self, facts: Facts, impl: str | None, family: Family) -> Features:
        pe, simd, weight, act = (facts[k] for k in ("PE", "SIMD", "weight_bits", "in_bits"))
        folds, passes = facts["MW"] // simd, facts["MH"] // pe
        vectors = _BUFFER_VECTORS if impl == "lut" else 1
        rom = map_rom(folds * passes, pe * simd * weight, family.memory)
        buffered = vectors * folds if passes > 1 else 0
        ram = map_ram(buffered, simd * act, family.memory)
        memory: Features = {
            "rom_bits": rom.logic_bits,
            "ram_sites": ram.lutram_sites,
            "counters": math.log2(folds * passes) + math.log2(folds),
            "one": 1,
            "bram_18k": rom.bram_18k + ram.bram_18k,
        }
        if impl == "dsp":
            return {
                "macs": pe * simd,
                "products": pe * simd * (weight + act),
                "outputs": pe * facts["out_bits"],
                "sums": pe * tree_bits(simd, weight + act),
                "inputs": simd * act,
                "rom_words": pe * simd * weight,
                **memory,
            }
        low, high = min(weight, act), max(weight, act)
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
            "rom_words": pe * simd * weight if folds * passes > 1 else 0,
            **memory,
        }

    def dsp_blocks(self, facts: Facts, impl: str | None, family: Family) -> int:
        """Return the blocks of FINN's RTL, which packs ``lanes`` weights into one.

        The packing is that of FINN's ``mvu.sv``: lanes lie weight + activation - 1 bits apart in
        the wide operand.
        """
        if impl != "dsp":
            return 0
        lanes, weight = 1, facts["weight_bits"]
        if family.dsp.packing == "lanes":
            spare = family.dsp.wide_bits - weight - (0 if facts["narrow"] else 1)
            lanes += max(0, spare) // (weight + facts["in_bits"] - 1)
        return math.ceil(facts["PE"] / lanes) * facts["SIMD"]

    def samples(self, count: int, seed: int) -> Iterator[Sample]:
        """Yield LUT MVAUs of layers as they occur, with random widths, folds and weights."""
        rng = random.Random(seed)  # noqa: S311
        k = 0
        while k < count:
            mw, mh = rng.choice(_SHAPES)
            pe, simd = rng.choice(_divisors(mh)), rng.choice(_divisors(mw))
            weight, act = (
                rng.choice([1, 2, 2, 3, 3, 4, 4, 5, 6, 8]),
                rng.choice([1, 2, 2, 3, 4, 4, 5, 6, 8, 8]),
            )
            if pe * simd * weight * act > _MOST_BIT_PRODUCTS or pe * simd > _MOST_PRODUCTS:
                continue
            if mw * mh * weight > _MOST_WEIGHT_BITS:
                continue
            accu = min(32, weight + act + math.ceil(math.log2(mw)))
            node = sample_node(
                MVAU, (act, simd, mw), (accu, pe, mh), signed=True, impl="lut",
                PE=pe, SIMD=simd, MW=mw, MH=mh, weight_bits=weight, weight_signed=1,
            )  # fmt: skip
            values = np.random.default_rng(k + 1000 * seed)
            low, high = -(2 ** (weight - 1)), 2 ** (weight - 1) - 1
            yield node, {f"{node.name}__weights": values.integers(low, high + 1, (mw, mh))}
            k += 1


def _in_luts(node: HardwareNode, module: str, depth: int, texts: dict[str, str]) -> NodeRtl:
    del depth
    source, target, dtype = node.inputs[0].dtype, node.outputs[0].dtype, node.weight_type
    values: dict[str, int | str] = {
        "PE": node.pe,
        "SIMD": node.simd,
        "MW": node.mw,
        "MH": node.mh,
        "WEIGHT_WIDTH": dtype.bits,
        "WEIGHT_SIGNED": int(dtype.signed),
        "ACT_WIDTH": source.bits,
        "ACT_SIGNED": int(source.signed),
        "ACCU_WIDTH": target.bits,
        "ACCU_SIGNED": int(target.signed),
        "BUFFER_VECTORS": _BUFFER_VECTORS,
        "INIT_FILE": next(iter(texts)),
    }
    body = instance("adq_mvau_lut", "core", values, through(node))
    return NodeRtl(module, node_module(node, module, body), ("adq_mvau_lut",), texts)


def _in_dsp_blocks(node: HardwareNode, module: str, depth: int, texts: dict[str, str]) -> NodeRtl:
    """Write FINN's MVAU with this project's memory of weights beside it."""
    if node.flag("pumpedCompute"):
        raise ConfigError(
            f"Node {node.name!r} wants a double-speed clock (pumpedCompute); the stitched design "
            "has one clock."
        )
    core = finn_module(node)
    lanes, bits = node.pe * node.simd, node.weight_type.bits
    wires = (
        f"  logic [{padded_width(lanes, bits) - 1}:0] weights_TDATA;\n"
        "  logic weights_TVALID;\n  logic weights_TREADY;\n\n"
    )
    memory = instance(
        "adq_weight_stream",
        "weight_memory",
        {"DEPTH": depth, "WIDTH": lanes * bits, "INIT_FILE": next(iter(texts))},
        {"ap_clk": "ap_clk", "ap_rst_n": "ap_rst_n", **stream_ports("out0_V", "weights")},
    )
    ports = through(node) | {"ap_clk2x": "ap_clk"} | stream_ports("in1_V", "weights")
    body = wires + memory + "\n" + instance(core, "core", {"WEIGHT_WIDTH": bits}, ports)
    return NodeRtl(module, node_module(node, module, body), (core, "adq_weight_stream"), texts)


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


OPERATOR = _Mvau()

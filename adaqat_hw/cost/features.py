"""Hardware features of a folded layer: what its LUT or DSP count can be fitted against.

The BitOPs of a network say nothing about its area once folding is free; bit-operations per
clock cycle do, at one throughput.
"""

from __future__ import annotations

from dataclasses import dataclass

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import BitWidthPlan, HardwareGraph, HardwareNode, MvauImpl


@dataclass(frozen=True)
class LayerFeatures:
    """What one layer does in every clock cycle.

    ``macs_per_cycle`` is PE x SIMD, ``bitops_per_cycle`` that times the plan's widths,
    ``weight_bits_stored`` the bits of weight memory. ``threshold_bits`` is the sum over the
    layer's thresholding nodes, None when it has none. ``cycles`` is FINN's estimate per frame.
    """

    layer: str
    impl: MvauImpl | None
    pe: int
    simd: int
    weight_bits: int
    act_bits: int
    macs_per_cycle: int
    bitops_per_cycle: int
    weight_bits_stored: int
    threshold_bits: int | None
    cycles: int


def bitops_per_cycle(pe: int, simd: int, weight_bits: int, act_bits: int) -> int:
    """Return PE x SIMD x weight bits x activation bits.

    Raises:
        ConfigError: one of the four is below 1.
    """
    factors = {"PE": pe, "SIMD": simd, "weight_bits": weight_bits, "act_bits": act_bits}
    for name, value in factors.items():
        if value < 1:
            raise ConfigError(f"{name} is {value!r}; it must be 1 or more.")
    return pe * simd * weight_bits * act_bits


def threshold_bits(pe: int, accumulator_bits: int, out_bits: int) -> int:
    """Return PE x (2^out_bits - 1) x accumulator bits: comparator inputs in parallel.

    This is the cost of turning accumulators into ``out_bits`` activations; it dominates a
    layer at 8 bits, and BitOPs do not know it.

    Raises:
        ConfigError: one of the three is below 1.
    """
    for name, value in {"PE": pe, "accumulator": accumulator_bits, "output": out_bits}.items():
        if value < 1:
            raise ConfigError(f"{name} of a threshold is {value!r}; it must be 1 or more.")
    return int(pe * (2**out_bits - 1) * accumulator_bits)


def layer_features(graph: HardwareGraph, plan: BitWidthPlan) -> tuple[LayerFeatures, ...]:
    """Return the features of every layer of ``plan`` that ``graph`` computes, in plan order.

    Raises:
        ConfigError: a compute node belongs to no layer of the plan, a layer has no compute
            node or several, or a node lacks an attribute; the plan has a product of two
            activations, which no hardware node computes.
    """
    products = [row.layer for row in plan.layers if row.weight_bits is None]
    if products:
        raise ConfigError(
            f"Layers {products!r} of the plan for {plan.network!r} multiply two activations, which "
            "no hardware node computes; features are for networks of layers with weights."
        )
    compute: dict[str, HardwareNode] = {}
    for node in graph.nodes:
        if not node.operator.weighted:
            continue
        if node.layer is None or node.layer not in {row.layer for row in plan.layers}:
            raise ConfigError(
                f"Hardware node {node.name!r} is counted into layer {node.layer!r}, which the "
                f"plan for {plan.network!r} lacks; use the plan that the build was made from."
            )
        if node.layer in compute:
            raise ConfigError(
                f"Layer {node.layer!r} has two compute nodes, {compute[node.layer].name!r} and "
                f"{node.name!r}; features need exactly one."
            )
        compute[node.layer] = node
    missing = [row.layer for row in plan.layers if row.layer not in compute]
    if missing:
        raise ConfigError(f"The hardware graph has no compute node for the layers {missing!r}.")
    return tuple(
        _features(compute[row.layer], row.second_bits, row.act_bits, graph) for row in plan.layers
    )


def _features(
    node: HardwareNode, weight_bits: int, act_bits: int, graph: HardwareGraph
) -> LayerFeatures:
    pe, simd = node.pe, node.simd
    thresholds = [
        threshold_bits(n.pe, n.inputs[0].dtype.bits, n.outputs[0].dtype.bits)
        for n in graph.nodes
        if n.layer == node.layer and _holds_thresholds(n)
    ]
    assert node.layer is not None
    return LayerFeatures(
        layer=node.layer,
        impl=node.impl,
        pe=pe,
        simd=simd,
        weight_bits=weight_bits,
        act_bits=act_bits,
        macs_per_cycle=pe * simd,
        bitops_per_cycle=bitops_per_cycle(pe, simd, weight_bits, act_bits),
        weight_bits_stored=node.parameter_count * weight_bits,
        threshold_bits=sum(thresholds) if thresholds else None,
        cycles=node.cycles,
    )


def _holds_thresholds(node: HardwareNode) -> bool:
    parameters = node.operator.parameters
    return parameters is not None and parameters.name == "thresholds"

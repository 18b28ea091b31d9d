"""Choose how each node with weights is built: in LUTs, or in DSP blocks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from onnx import NodeProto

from adaqat_hw.schema import DspBlock, ImplChoice
from adaqat_hw.schema.operators import Implementation, find_operator
from flows.flow_state import FlowState, MvauChoice, Refused
from flows.graph_types import DataType, HardwareOp, Model, hardware_op

# Up to this product of widths a LUT multiplier is small; docs: LUTs grow with the product,
# DSP blocks do not.
LUT_BIT_PRODUCT = 16
_LUT_WEIGHTS = ("BINARY", "TERNARY")


def choose_impl(
    requested: ImplChoice, weight_bits: int, act_bits: int, dsp_refusal: str | None
) -> MvauChoice | str:
    """Choose LUT or DSP for one MVAU.

    Args:
        asked: what the request says for its layer.
        weight_bits: width of its weights.
        act_bits: width of its activations.
        dsp_refusal: why the DSP version cannot take it, or None.

    Returns:
        The choice, or the reason for which the request cannot be met.
    """
    if requested == "lut":
        return MvauChoice("lut", "asked for")
    if requested == "dsp":
        return MvauChoice("dsp", "asked for") if dsp_refusal is None else dsp_refusal
    if dsp_refusal is not None:
        return MvauChoice("lut", f"auto: {dsp_refusal}")
    product = weight_bits * act_bits
    sizes = f"{weight_bits} x {act_bits} bits = {product}"
    if product <= LUT_BIT_PRODUCT:
        return MvauChoice("lut", f"auto: {sizes}, at most {LUT_BIT_PRODUCT}")
    return MvauChoice("dsp", f"auto: {sizes}, above {LUT_BIT_PRODUCT}")


def choose_all(state: FlowState) -> None:
    """Fill ``state.choices`` for every node with a choice and tell FINN which backend to take.

    Raises:
        Refused: a layer that the request names does not exist, or cannot be built as asked.
    """
    request, model = state.request, state.model
    nodes = [n for n in model.graph.node if _implementations(n)]
    # Beside the network's own layers, those that the flow made: shortcuts without parameters.
    known = {x.name for x in state.layers} | {x for n in nodes if (x := state.layer_of.get(n.name))}
    problems = [
        f"The request sets impl_per_layer of {name!r}, which is no layer; there are "
        f"{sorted(known)!r}."
        for name in request.impl_per_layer
        if name not in known
    ]
    for node in model.graph.node:
        instance, ways = hardware_op(node), _implementations(node)
        if not ways:
            instance.set_nodeattr("preferred_impl_style", "")
            continue
        layer = state.layer_of.get(node.name) or node.name
        requested = request.implementation(layer)
        weights, acts = instance.get_input_datatype(1), instance.get_input_datatype(0)
        limit = _lut_refusal(weights, acts)
        refusal = None
        if ways["dsp"].generator == "finn":
            refusal = _dsp_refusal(model, node, instance, request.dsp)
        choice: MvauChoice | str
        if limit is not None:
            choice = limit
        else:
            choice = choose_impl(requested, weights.bitwidth(), acts.bitwidth(), refusal)
        if isinstance(choice, str):
            problems.append(f"Layer {layer!r} cannot be built with impl={requested!r}: {choice}.")
            continue
        state.choices[node.name] = replace(choice, dsp_refusal=refusal)
        instance.set_nodeattr("preferred_impl_style", ways[choice.impl].backend)
        if choice.impl == "lut":
            instance.set_nodeattr("resType", "lut")
    if problems:
        raise Refused(problems)


def _implementations(node: NodeProto) -> dict[str, Implementation]:
    record = find_operator(node.op_type)
    return {each.name: each for each in record.implementations} if record is not None else {}


def _lut_refusal(weights: DataType, acts: DataType) -> str | None:
    """Return why no MVAU can take these types: values of two levels that are not 0 and 1."""
    for operand, datatype in (("weights", weights), ("activations", acts)):
        name = datatype.name
        if not (name in _LUT_WEIGHTS or name.startswith(("INT", "UINT"))):
            return f"its {operand} are {name}, not integers of 1 bit or more; use 2-bit {operand}"
    return None


def _dsp_refusal(model: Model, node: NodeProto, instance: HardwareOp, dsp: DspBlock) -> str | None:
    """Return why FINN's RTL MVAU cannot take this node, or None."""
    weights, acts = instance.get_input_datatype(1), instance.get_input_datatype(0)
    accu = instance.get_output_datatype()
    if dsp.finn_refusal is not None:
        return dsp.finn_refusal
    max_act, max_weight, max_accu = dsp.datapath
    if not weights.signed():
        return f"the DSP version needs signed weights and these are {weights.name}"
    if weights.bitwidth() < 2 or acts.bitwidth() < 2:
        return (
            "the DSP version needs 2 bits or more and this has "
            f"{weights.bitwidth()}-bit weights and {acts.bitwidth()}-bit activations"
        )
    if dsp.narrow_weights:
        values = model.get_initializer(node.input[1])
        if values is None or np.min(values) <= weights.min():
            return (
                f"the DSP version on {dsp.primitive} needs narrow weights and these reach "
                f"{int(weights.min())}"
            )
    act_width = acts.bitwidth() - int(acts.signed())
    if act_width >= max_act or weights.bitwidth() > max_weight or accu.bitwidth() > max_accu:
        return (
            f"weights of {weights.bitwidth()}, activations of {acts.bitwidth()} and accumulators "
            f"of {accu.bitwidth()} bits exceed the {dsp.primitive} datapath {dsp.datapath!r}"
        )
    return None

"""Verify after every step that the graph still computes what it computed before."""

from __future__ import annotations

import zlib
from copy import deepcopy
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from adaqat_hw.schema.operators import base_op, find_operator
from flows import layerwise
from flows.flow_state import FlowError, FlowState, Probe
from flows.golden import RELATIVE_TOLERANCE, read_real, run
from flows.graph_types import Model
from flows.host_interface import dtype_range, logits, quantize_inputs, raw_values
from flows.normalize_qonnx import apply_steps
from flows.rounding_ties import WAYS, nudged_logits

# "logits": equal to the file's logits but for rounding ties; "integers": equal to the integers
# of the step before; "no": the step leaves the graph as it is.
Comparison = Literal["no", "logits", "integers"]
_REAL_FRAMES = 2
_RANDOM_FRAMES = 3  # where there are no real ones
_HARDWARE = "finn.custom_op.fpgadataflow"


def choose_frames(state: FlowState) -> None:
    """Set ``state.probe``: a few golden frames and a random one, and the file's logits."""
    quantizer = state.quantizer
    low, high = dtype_range(quantizer.bits, quantizer.signed, quantizer.narrow)
    rng = np.random.default_rng(zlib.crc32(state.request.model_sha256.encode()))
    real = read_real(state)
    shape = (_RANDOM_FRAMES if real is None else 1, *state.input_shape[1:])
    drawn = rng.integers(low, high, size=shape, endpoint=True)
    frames = [raw_values(quantizer, state.steps, drawn)]
    if real is not None:
        frames.insert(0, real.inputs[:_REAL_FRAMES])
    inputs = np.concatenate(frames).astype(np.float32)
    state.probe = Probe(inputs, nudged_logits(state.file_model, inputs, 0))


def verify(state: FlowState, comparison: Comparison) -> None:
    """Execute ``state.model`` on the probe and compare.

    Raises:
        FlowError: the graph computes something else than before this step.
    """
    probe = state.probe
    if comparison == "no" or probe is None:
        return
    if state.host is None:
        floats = apply_steps(state.steps, probe.inputs)
        computed = nudged_logits(state.model, floats, 0)
        _compare_logits(state, probe, computed, state.model, floats, nudge=True)
        return
    inputs = quantize_inputs(state.host, probe.inputs)
    graph = executable(state.model)
    integers = np.concatenate([run(graph, inputs[k : k + 1]) for k in range(len(inputs))])
    integers = integers.reshape(len(integers), -1)
    before, probe.integers = probe.integers, integers
    if comparison == "logits" or before is None:
        computed = logits(state.host, integers)
        _compare_logits(state, probe, computed, graph, inputs, nudge=False)
    elif integers.shape != before.shape or not np.array_equal(integers, before):
        wrong = np.any(integers != before, axis=1) if integers.shape == before.shape else [True]
        raise FlowError(
            f"this step changed what the graph computes: {int(np.sum(wrong))} of {len(integers)} "
            "frames differ from those of the step before"
        )


def executable(model: Model) -> Model:
    """Return a copy that qonnx can execute: no backends, no streams between the layers.

    FINN executes nodes of a backend by compiling C++ or RTL only; the same node without its
    backend has a model in Python.
    """
    copy = deepcopy(model)
    graph = copy.graph
    for node in [n for n in graph.node if _is_mover(n)]:
        _bypass(copy, node)
    for node in graph.node:
        if node.domain.startswith(_HARDWARE):
            node.op_type, node.domain = base_op(node.op_type), _HARDWARE
    return copy


def _is_mover(node: NodeProto) -> bool:
    record = find_operator(node.op_type)
    return record is not None and record.mover


def _bypass(model: Model, node: NodeProto) -> None:
    source, target = node.input[0], node.output[0]
    readers = model.find_consumers(target)
    producer = model.find_producer(source)
    model.graph.node.remove(node)
    for reader in readers:
        reader.input[:] = [source if name == target else name for name in reader.input]
    if target == model.graph.output[0].name and producer is not None:
        shape, datatype = model.get_tensor_shape(source), model.get_tensor_datatype(source)
        producer.output[:] = [target if name == source else name for name in producer.output]
        model.set_tensor_shape(target, shape)
        model.set_tensor_datatype(target, datatype)


def _compare_logits(
    state: FlowState,
    probe: Probe,
    computed: NDArray[np.float64],
    model: Model,
    inputs: NDArray[Any],
    *,
    nudge: bool,
) -> None:
    """Compare what ``model`` makes of ``inputs`` with the file's logits.

    A frame may differ by ties: nudged the file gives the same, with ``nudge`` the graph nudged as
    well (a float graph rounds its ties one by one, some up and some down), or every single layer
    agrees with the file's.
    """
    scale = max(float(np.max(np.abs(probe.logits))), 1e-12)
    wrong = _outside(computed, probe.logits, scale)
    for way in WAYS:
        if not wrong.any():
            return
        nudged = nudged_logits(state.file_model, probe.inputs[wrong], *way)
        still = _outside(computed[wrong], nudged, scale)
        if nudge and still.any():
            again = nudged_logits(state.model, inputs[wrong], *way)
            still &= _outside(again, nudged, scale)
        wrong[wrong] = still
    if wrong.any():
        fine, of_file = layerwise.explained(state, probe.inputs[wrong], model, inputs[wrong])
        wrong[wrong] = ~fine | _outside(computed[wrong], of_file, scale)
    if wrong.any():
        worst = float(np.max(np.abs(computed - probe.logits)) / scale)
        raise FlowError(
            f"this step changed what the graph computes: {int(wrong.sum())} of {len(wrong)} frames "
            f"deviate from the file's logits, by up to {worst:.3g} of the largest"
        )


def _outside(
    computed: NDArray[np.float64], golden: NDArray[np.float64], scale: float
) -> NDArray[np.bool_]:
    return np.asarray(np.max(np.abs(computed - golden), axis=1) > RELATIVE_TOLERANCE * scale)

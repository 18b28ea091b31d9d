"""Compare the values at every quantizer of the file with those of a graph made from it.

A deep network of wide activations has values so near the middle of two levels that float
arithmetic decides, in almost every frame, and one such value changes all that come after it. So
the file is executed with the other graph's own activations put in at every quantizer: what each
layer then hands to its quantizer must round to the other graph's value, or lie next to a tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.flow_state import FlowState
from flows.graph_types import Model, custom_op, known_shape
from flows.host_interface import dtype_range
from flows.network import constant_of

# In levels. Float32 errs by some ten-millionths of the largest value: with 255 levels, by this.
NEAR_A_TIE = 1e-3
# A wrong pairing of tensors agrees on far fewer values; float noise changes far fewer.
_ALIKE = 0.95
_QUANTIZERS = ("Quant", "IntQuant")


@dataclass(frozen=True)
class _Pair:
    """A quantizer of the file and the tensor of the other graph that holds its integers."""

    source: str  # what it quantizes
    quantized: str
    integers: str
    arrangement: int
    scale: NDArray[np.float32]
    low: int
    high: int


def explained(
    state: FlowState, frames: NDArray[np.float32], model: Model, inputs: NDArray[Any]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Tell for each of ``frames`` whether ties alone set ``model`` apart from the file.

    Args:
        state: of the flow, with the file's graph.
        frames: (n, ...) float inputs of the file.
        model: what the flow has made of it, float or integer.
        inputs: (n, ...) the same frames as ``model`` takes them.

    Returns:
        (n,) whether every quantizer agrees up to ties, and (n, classes) the logits that the file
        computes from the last activations of ``model``, to be compared with its own.
    """
    from qonnx.transformation.infer_shapes import InferShapes

    file = deepcopy(state.file_model).transform(InferShapes())
    other = deepcopy(model).transform(InferShapes())
    pairs = _pairs(state, file, frames[:1], _computed(other, inputs[:1]))
    forced = _opened(file, pairs)
    fine = np.zeros(len(frames), dtype=np.bool_)
    logits = []
    for k in range(len(frames)):
        computed = _computed(other, inputs[k : k + 1])
        feed = {state.input_name: frames[k : k + 1]}
        for pair in pairs:
            values = _arranged(computed[pair.integers], known_shape(file, pair.quantized))
            feed[pair.quantized] = (values[pair.arrangement] * pair.scale).astype(np.float32)
        tensors = _execute(forced, feed)
        agreeing = (_agrees(tensors[p.source], feed[p.quantized], p) for p in pairs)
        fine[k] = bool(pairs) and all(agreeing)
        logits.append(np.asarray(tensors[forced.graph.output[0].name], np.float64).reshape(1, -1))
    return fine, np.concatenate(logits)


def _agrees(source: NDArray[Any], quantized: NDArray[Any], pair: _Pair) -> bool:
    """Tell whether what comes to a quantizer rounds to ``quantized``, or lies next to a tie."""
    level = np.clip(np.asarray(source, np.float64) / pair.scale, pair.low, pair.high)
    distance = np.abs(level - np.asarray(quantized, np.float64) / pair.scale)
    return bool(np.all(distance <= 0.5 + NEAR_A_TIE))


def _pairs(
    state: FlowState, file: Model, frame: NDArray[np.float32], computed: dict[str, NDArray[Any]]
) -> list[_Pair]:
    """Return the inner quantizers of the file whose integers the other graph has."""
    floats = _execute(file, {state.input_name: frame})
    pairs = []
    for node in file.graph.node:
        if node.op_type not in _QUANTIZERS or constant_of(file, node.input[0]) is not None:
            continue
        scale, bits = constant_of(file, node.input[1]), constant_of(file, node.input[3])
        if scale is None or bits is None:
            continue
        integers = np.rint(floats[node.output[0]] / scale)
        likeness, name, arrangement = max(
            (float(np.mean(values == integers)), name, k)
            for name, tensor in [*computed.items(), ("", np.zeros(1))]
            for k, values in enumerate(_arranged(tensor, integers.shape) or [np.full(1, np.nan)])
        )
        if likeness >= _ALIKE:
            flags = [custom_op(node).get_nodeattr(key) for key in ("signed", "narrow")]
            low, high = dtype_range(int(np.max(bits)), *map(bool, flags))
            ends = (node.input[0], node.output[0])
            scales = np.asarray(scale, np.float32)
            pairs.append(_Pair(*ends, name, arrangement, scales, low, high))
    return pairs


def _arranged(values: NDArray[Any], shape: Sequence[int]) -> list[NDArray[Any]]:
    """Return values as they are and with channels before pixels, where ``shape`` allows it."""
    both = [values]
    if values.ndim == 4:
        both.append(np.transpose(values, (0, 3, 1, 2)))
    return [moved for moved in both if moved.shape == tuple(shape)]


def _opened(model: Model, pairs: list[_Pair]) -> Model:
    """Return the file's graph with the quantizers of ``pairs`` cut out: their output is given."""
    opened = deepcopy(model)
    cut = {pair.quantized for pair in pairs}
    for node in [n for n in opened.graph.node if n.output[0] in cut]:
        opened.graph.node.remove(node)
    return opened


def _computed(model: Model, frame: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return what the nodes of a graph put out for one frame, but for single numbers."""
    tensors = _execute(model, {model.graph.input[0].name: frame.astype(np.float32)})
    names = [name for node in model.graph.node for name in node.output]
    return {name: tensors[name] for name in names if np.size(tensors.get(name, ())) > 1}


def _execute(model: Model, feed: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    from qonnx.core.onnx_exec import execute_onnx

    tensors: dict[str, NDArray[Any]] = execute_onnx(model, feed, return_full_exec_context=True)
    return tensors

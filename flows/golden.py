"""Golden frames: what FINN's own integer graph computes, before it becomes hardware."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaqat_hw.schema import GOLDEN_FRAMES, HostInterface, sha256_file, write_atomic
from adaqat_hw.schema.build_files import GOLDEN, GOLDEN_CHECK, REPORTS
from flows import layerwise
from flows.flow_state import FlowError, FlowState, Refused
from flows.graph_types import Model
from flows.host_interface import dtype_range, logits, quantize_inputs, raw_values
from flows.record import save_arrays
from flows.rounding_ties import WAYS, nudged_logits

MAX_REAL = GOLDEN_FRAMES
RANDOM_FRAMES = 16
RANDOM_ALONE = 96  # where there are no golden frames
RELATIVE_TOLERANCE = 1e-3
# Golden logits of a frame whose every layer is proved: PyTorch's own ties may have moved them so
# far, and for so large a part of the frames anywhere. The export has compared them with the file
# and allows as many other decisions; this is to notice golden frames of another network.
GOLDEN_TOLERANCE, GOLDEN_SHARE = 0.05, 0.02
_CHUNK = 16


@dataclass(frozen=True)
class RealFrames:
    """Frames of the export's golden file: float inputs and logits, and labels."""

    inputs: NDArray[np.float32]
    logits: NDArray[np.float32]
    labels: NDArray[np.int64]


def make_golden(state: FlowState) -> None:
    """Execute the integer graph on real, random and extreme frames; write ``golden.npz``.

    Raises:
        FlowError: the scaled outputs do not reproduce the network's own logits.
    """
    host = state.host
    assert host is not None, "golden frames are made after the host interface is cut off"
    real = read_real(state)
    sets: list[tuple[str, NDArray[np.int64], NDArray[np.int64]]] = []
    if real is not None:
        sets.append(("real", quantize_inputs(host, real.inputs), real.labels))
    seed = zlib.crc32(state.request.model_sha256.encode())
    drawn = random_frames(host, seed, RANDOM_ALONE if real is None else RANDOM_FRAMES)
    for kind, frames in (("random", drawn), ("extreme", extreme_frames(host))):
        sets.append((kind, frames, np.full(len(frames), -1, dtype=np.int64)))
    inputs = np.concatenate([frames for _, frames, _ in sets])
    results = execute(state.integer_model, inputs)
    if real is None:
        # Executing the file is slow; the simulation takes all of them.
        chosen = np.r_[0:RANDOM_FRAMES, RANDOM_ALONE : len(inputs)]
        real = _drawn(state, inputs[chosen])
        state.remark(
            f"There are no golden frames: {len(chosen)} random and extreme ones were compared with "
            "the file's own execution."
        )
        compared = results[chosen]
    else:
        compared = results[: len(real.inputs)]
    _check_real(state, logits(host, compared), real)
    save_arrays(
        state.folder / GOLDEN,
        {
            "inputs": inputs,
            "outputs": results,
            "kinds": np.concatenate([np.full(len(f), kind, dtype="U8") for kind, f, _ in sets]),
            "labels": np.concatenate([labels for _, _, labels in sets]),
        },
    )


def read_real(state: FlowState) -> RealFrames | None:
    """Read up to ``MAX_REAL`` frames of ``request.golden``, or None when there is none.

    Raises:
        Refused: the file is missing, changed, or not of this network.
    """
    request = state.request
    if request.golden is None:
        return None
    path = Path(request.golden)
    if not path.is_file():
        raise Refused([f"The golden file {request.golden!r} does not exist; export again."])
    if request.golden_sha256 is not None and sha256_file(path) != request.golden_sha256:
        raise Refused(
            [f"The golden file {request.golden!r} was changed after the export; export again."]
        )
    with np.load(path) as arrays:
        if missing := [k for k in ("inputs", "logits") if k not in arrays]:
            raise Refused([f"The golden file {request.golden!r} lacks {missing!r}."])
        inputs, expected = arrays["inputs"][:MAX_REAL], arrays["logits"][:MAX_REAL]
        labels = arrays["labels"][:MAX_REAL] if "labels" in arrays else np.full(len(inputs), -1)
    if len(inputs) == 0 or inputs.shape[1:] != state.input_shape[1:]:
        raise Refused(
            [
                f"The golden inputs have the shape {inputs.shape!r}; the network takes "
                f"{state.input_shape[1:]!r}."
            ]
        )
    return RealFrames(inputs.astype(np.float32), expected, labels.astype(np.int64))


def _drawn(state: FlowState, integers: NDArray[np.int64]) -> RealFrames:
    """Return the raw inputs that quantize to ``integers``, and what the file makes of them."""
    assert state.host is not None
    if state.host.input_nchw and integers.ndim == 4:
        integers = np.transpose(integers, (0, 3, 1, 2))
    integers = integers.reshape(len(integers), *state.input_shape[1:])
    inputs = raw_values(state.quantizer, state.steps, integers)
    of_file = nudged_logits(state.file_model, inputs, 0)
    labels = np.full(len(inputs), -1, dtype=np.int64)
    return RealFrames(inputs, _as_put_out(state, of_file).astype(np.float32), labels)


def random_frames(host: HostInterface, seed: int, count: int = RANDOM_FRAMES) -> NDArray[np.int64]:
    """Draw frames over the whole input range."""
    low, high = dtype_range(host.input_dtype.bits, host.input_dtype.signed, host.input_narrow)
    shape = (count, *host.input_shape)
    return np.random.default_rng(seed).integers(low, high, size=shape, endpoint=True)


def extreme_frames(host: HostInterface) -> NDArray[np.int64]:
    """Return all-lowest, all-highest, and both checkerboards of the two."""
    low, high = dtype_range(host.input_dtype.bits, host.input_dtype.signed, host.input_narrow)
    parity = np.indices(host.input_shape).sum(axis=0) % 2
    frames = [
        np.full(host.input_shape, low),
        np.full(host.input_shape, high),
        np.where(parity == 0, low, high),
        np.where(parity == 0, high, low),
    ]
    return np.stack(frames).astype(np.int64)


def execute(model: Model, inputs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Execute the integer graph on (n, ...) frames, batched where the graph allows it."""
    batch = min(_CHUNK, len(inputs))
    batched = _batched(model, inputs[:batch]) if batch > 1 else None
    if batched is None:
        return np.concatenate([run(model, inputs[k : k + 1]) for k in range(len(inputs))])
    outputs = []
    for start in range(0, len(inputs), batch):
        chunk = inputs[start : start + batch]
        padded = np.concatenate([chunk, np.repeat(chunk[-1:], batch - len(chunk), axis=0)])
        outputs.append(run(batched, padded)[: len(chunk)])
    return np.concatenate(outputs)


def deviations(computed: NDArray[Any], expected: NDArray[Any], scale: float) -> NDArray[np.float64]:
    """Return the largest deviation of each frame's logits as a fraction of ``scale``."""
    golden = np.asarray(expected, dtype=np.float64).reshape(len(expected), -1)
    if golden.shape != computed.shape:
        raise Refused(
            [
                f"The golden logits have the shape {golden.shape!r}; the accelerator puts out "
                f"{computed.shape!r}."
            ]
        )
    return np.asarray(np.max(np.abs(computed - golden), axis=1) / scale)


def _largest(values: NDArray[Any]) -> float:
    return max(float(np.max(np.abs(values))), 1e-12)


def _check_real(state: FlowState, computed: NDArray[np.float64], real: RealFrames) -> None:
    """Compare with the network's logits; a frame may differ by rounding ties only."""
    computed = _as_put_out(state, computed)
    deviation = deviations(computed, real.logits, _largest(real.logits))
    outside = np.flatnonzero(deviation > RELATIVE_TOLERANCE)
    ties, others, far = _explained_by_ties(state, computed, real, outside)
    if len(far) <= GOLDEN_SHARE * len(computed):
        others = np.sort(np.concatenate([others, far]))
    by_layers = others[_explained_by_layers(state, computed, real, others)]
    expected = real.logits.reshape(len(computed), -1)
    report = {
        "frames": len(computed),
        "tolerance": RELATIVE_TOLERANCE,
        "frames_outside": len(outside),
        "explained_by_rounding_ties": len(ties),
        "explained_layer_by_layer": len(by_layers),
        "golden_logits_far_from_both": len(far),
        "max_relative_deviation": float(np.max(deviation)),
        "argmax_agreement": float(np.mean(computed.argmax(axis=1) == expected.argmax(axis=1))),
    }
    path = state.folder / REPORTS / GOLDEN_CHECK
    write_atomic(path, json.dumps(report, indent=1) + "\n")
    if len(ties) + len(by_layers) < len(outside):
        raise FlowError(
            "the integer graph does not compute the network: "
            f"{len(outside) - len(ties) - len(by_layers)} of "
            f"{len(computed)} golden frames deviate by more than {RELATIVE_TOLERANCE:g} of the "
            f"largest logit (most: {np.max(deviation):.3g})"
        )
    if len(outside):
        state.remark(
            f"{len(outside)} of {len(computed)} golden frames differ from the network's logits: a "
            "value lies so near the middle of two levels that float arithmetic decides."
        )


def _explained_by_ties(
    state: FlowState, computed: NDArray[np.float64], real: RealFrames, frames: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return those of ``frames`` that rounding explains, and those that it may yet explain.

    The last are those whose golden logits are neither the file's nor near the computed ones.

    Both the golden logits and the computed ones must be what the file gives, as it is or with its
    activations nudged: PyTorch adds up in another order than the file's execution, so a value
    next to a tie can be rounded either way in each of the two. Where several values went
    different ways no nudge gives the same, and only a look at every layer can tell.
    """
    scale = _largest(real.logits)
    if len(frames) == 0:
        return frames, frames, frames
    inputs = real.inputs[frames]
    golden = real.logits.reshape(len(real.logits), -1)[frames]
    plain = deviations(golden, computed[frames], scale) <= GOLDEN_TOLERANCE
    rounded = np.zeros(len(frames), dtype=np.bool_)
    golden_rounded = np.zeros(len(frames), dtype=np.bool_)
    for way in ((0, 0), *WAYS):
        of_file = _as_put_out(state, nudged_logits(state.file_model, inputs, *way))
        rounded |= deviations(computed[frames], of_file, scale) <= RELATIVE_TOLERANCE
        golden_rounded |= deviations(golden, of_file, scale) <= RELATIVE_TOLERANCE
    both, near = rounded & golden_rounded, plain | golden_rounded
    return frames[both], frames[~both & near], frames[~both & ~near]


def _explained_by_layers(
    state: FlowState, computed: NDArray[np.float64], real: RealFrames, frames: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Tell for each of ``frames`` whether every single layer agrees with the file's up to ties."""
    if len(frames) == 0 or state.host is None:
        return np.zeros(len(frames), dtype=np.bool_)
    inputs = real.inputs[frames]
    integers = quantize_inputs(state.host, inputs)
    fine, of_file = layerwise.explained(state, inputs, state.integer_model, integers)
    near = deviations(computed[frames], _as_put_out(state, of_file), _largest(real.logits))
    return fine & (near <= RELATIVE_TOLERANCE)


def _as_put_out(state: FlowState, logits_: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take the softmax that the host takes, where the network ends in one."""
    if not state.softmax:
        return logits_
    powers = np.exp(logits_ - logits_.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def run(model: Model, frames: NDArray[Any]) -> NDArray[np.int64]:
    """Execute an integer graph once, on as many frames as it is made for.

    Raises:
        FlowError: it puts out values that are not integers.
    """
    from qonnx.core.onnx_exec import execute_onnx

    source, target = model.graph.input[0].name, model.graph.output[0].name
    values = execute_onnx(model, {source: frames.astype(np.float32)})[target]
    integers: NDArray[np.int64] = np.rint(values).astype(np.int64)
    if not np.array_equal(integers, values):
        raise FlowError("the integer graph put out values that are not integers")
    return integers


def _batched(model: Model, frames: NDArray[np.int64]) -> Model | None:
    """Return the graph for a batch, or None where it does not compute the same frame by frame."""
    from copy import deepcopy

    from qonnx.transformation.change_batchsize import ChangeBatchSize
    from qonnx.transformation.infer_shapes import InferShapes

    try:
        wide = deepcopy(model).transform(ChangeBatchSize(len(frames))).transform(InferShapes())
        batch = run(wide, frames)
    except Exception:  # a graph that cannot be batched is executed frame by frame
        return None
    singles = [run(model, frames[k : k + 1]) for k in (0, len(frames) - 1)]
    same = all(np.array_equal(batch[k], s[0]) for k, s in zip((0, -1), singles, strict=True))
    return wide if same else None

"""Export stage: QONNX file, golden vectors, and a record of what was verified."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adaqat_hw import __version__, data
from adaqat_hw.data import DataSource
from adaqat_hw.errors import ConfigError, ExportMismatch
from adaqat_hw.export.graph import write_qonnx
from adaqat_hw.export.inspect import input_quant_of
from adaqat_hw.export.rounding import rounding_noise
from adaqat_hw.export.source import Trained, load_trained
from adaqat_hw.export.verify import check_bits, compare_logits, require_agreement, run_graph
from adaqat_hw.qonnx_file import load_qonnx
from adaqat_hw.quant import tensor_float32
from adaqat_hw.run import ExportFolder
from adaqat_hw.schema import GOLDEN_FRAMES, InputQuant, QonnxArtifact, RunConfig, sha256_file
from adaqat_hw.tools import package_versions

Progress = Callable[[dict[str, Any]], None]
Array = np.ndarray[Any, Any]
GOLDEN_SAMPLES = 1024
_GOLDEN_BYTES = 64 * 2**20
# Test samples are read and executed in parts of this size, so that any number of them fits.
_CHUNK_BYTES = 256 * 2**20
_TOOLS = ("torch", "brevitas", "qonnx", "onnx", "onnxruntime", "numpy")


@tensor_float32(allowed=False)
def export(
    config: RunConfig,
    train_folder: Path,
    folder: Path,
    *,
    samples: int | None = None,
    progress: Progress | None = None,
) -> QonnxArtifact:
    """Export a finished training; write ``model.onnx``, ``golden.npz`` and ``artifact.json``.

    The bits of every layer are read back from the written file and must equal the plan; the file
    is executed with qonnx and must decide as PyTorch does. ``artifact.json`` is written last and
    only when both hold.

    Args:
        config: the run that the training belongs to.
        train_folder: of the finished training.
        folder: where the files go; made when missing.
        samples: test samples to execute; None takes the whole test set.
        progress: called with ``{"event": "export", "text", ...}`` at each step.

    Raises:
        ConfigError: the training is unfinished, in full precision, damaged or of another network.
        ExportMismatch: bits or decisions differ.
    """
    report = progress or (lambda event: None)
    if samples is not None and samples < 1:
        raise ConfigError(f"samples = {samples!r} must be at least 1; leave it out for all.")
    folder.mkdir(parents=True, exist_ok=True)
    trained = load_trained(config, train_folder)
    source = data.load(config.data, config.seed)
    if not source.test_size:
        raise ConfigError(f"Data set {config.data.name!r} has no test samples to verify on.")
    chunk = max(1, _CHUNK_BYTES // _sample_bytes(source))
    expected, golden = _expected(trained, source, chunk, samples)
    files = ExportFolder(folder)
    model = files.model
    files.artifact.unlink(missing_ok=True)
    report({"event": "export", "text": "export to QONNX"})
    unverified = model.with_name(f".{model.stem}.new{model.suffix}")
    try:
        write_qonnx(trained.net, unverified)
        graph = load_qonnx(unverified)
        if any(t.data_location for t in graph.graph.initializer):
            raise ExportMismatch("The exporter put weights into a second file.")
        bits = check_bits(graph, trained.plan, model.name)

        def tick(done: int) -> None:
            text = f"execute {done}/{len(expected)} samples"
            report({"event": "export", "text": text, "done": done, "samples": len(expected)})

        logits, noise = _executed(trained, unverified, source, expected, chunk, samples, tick)
        agreement = compare_logits(expected, logits, noise)
        require_agreement(agreement)
        unverified.replace(model)
    finally:
        unverified.unlink(missing_ok=True)
    classes = trained.net.spec.num_classes
    assert classes is not None, "registered networks classify"
    golden_file = _write_golden(files.golden, golden)
    artifact = QonnxArtifact(
        file=model.name,
        sha256=sha256_file(model),
        network=trained.net.spec.name,
        plan_digest=trained.plan.digest(),
        input_shape=trained.net.spec.input_shape,
        num_classes=classes,
        input_quant=_input_quant(model),
        bits_in_graph=bits,
        golden=golden_file.name,
        golden_sha256=sha256_file(golden_file),
        samples=agreement.samples,
        max_abs_error=agreement.max_abs_error,
        argmax_agreement=agreement.argmax_agreement,
        tool_versions={**package_versions(*_TOOLS), "adaqat-hw": __version__},
    )
    artifact.write(files.artifact)
    return artifact


def _sample_bytes(source: DataSource) -> int:
    return 4 * math.prod(source.input_shape)


def _expected(
    trained: Trained, source: DataSource, chunk: int, samples: int | None
) -> tuple[Array, dict[str, Array]]:
    """Return PyTorch's logits of all test samples, and the golden arrays of the first ones.

    As many are golden as the flow needs at least, and more where they are small.
    """
    keep = max(GOLDEN_FRAMES, min(GOLDEN_SAMPLES, _GOLDEN_BYTES // _sample_bytes(source)))
    parts: list[Array] = []
    inputs: list[Array] = []
    labels: list[Array] = []
    room = keep
    for x, y in source.test_batches(chunk, samples):
        parts.append(_logits(trained, x))
        if room > 0:
            inputs.append(_input_array(x[:room]))
            labels.append(y[:room].numpy().astype(np.int64))
            room -= len(inputs[-1])
    logits = np.concatenate(parts)
    return logits, {
        "inputs": np.concatenate(inputs),
        "logits": logits[:keep].astype(np.float32),
        "labels": np.concatenate(labels),
    }


def _executed(
    trained: Trained,
    path: Path,
    source: DataSource,
    expected: Array,
    chunk: int,
    samples: int | None,
    tick: Callable[[int], None],
) -> tuple[Array, Array]:
    """Return the graph's logits of all test samples, and float noise where it decides otherwise."""
    parts: list[Array] = []
    noise = np.zeros(len(expected), dtype=np.float32)
    before = 0

    def count(done: int) -> None:
        tick(before + done)

    for x, _ in source.test_batches(chunk, samples):
        parts.append(run_graph(str(path), _input_array(x), tick=count))
        (rows,) = np.nonzero(parts[-1].argmax(1) != expected[before : before + len(x)].argmax(1))
        noise[before + rows] = rounding_noise(trained.net, x[torch.from_numpy(rows)])
        before += len(x)
    return np.concatenate(parts), noise


def _input_array(x: torch.Tensor) -> Array:
    """Return inputs as the graph takes them: float32, or int64 for tokens."""
    return x.numpy().astype(np.float32 if x.is_floating_point() else np.int64, copy=False)


@torch.no_grad()
def _logits(trained: Trained, images: torch.Tensor, batch: int = 256) -> Array:
    parts = [trained.net(images[i : i + batch]) for i in range(0, len(images), batch)]
    return np.asarray(torch.cat(parts).cpu().numpy())


def _input_quant(path: Path) -> InputQuant | None:
    quant = input_quant_of(load_qonnx(path), str(path))
    if quant is None or quant.scale[0] != quant.scale[1]:
        return None
    return InputQuant(bits=quant.bits, signed=quant.signed, scale=quant.scale[0])


def _write_golden(path: Path, arrays: dict[str, Array]) -> Path:
    """Write inputs, PyTorch's logits and labels of the first test samples, atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(buffer.getvalue())
        temporary.replace(path)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise ConfigError(
            f"{str(path)!r} could not be written ({exc.strerror or exc}); free disk space or "
            "choose another folder."
        ) from exc
    return path

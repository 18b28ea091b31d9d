"""Export stage: QONNX file, golden vectors, and a record of what was verified."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adaqat_hw import __version__, data
from adaqat_hw.errors import ConfigError, ExportMismatch
from adaqat_hw.export.graph import write_qonnx
from adaqat_hw.export.inspect import input_quant_of
from adaqat_hw.export.source import Trained, load_trained
from adaqat_hw.export.verify import check_bits, compare_logits, require_agreement, run_graph
from adaqat_hw.qonnx_file import load_qonnx
from adaqat_hw.schema import InputQuant, QonnxArtifact, RunConfig, sha256_file
from adaqat_hw.tools import package_versions

Progress = Callable[[dict[str, Any]], None]
Array = np.ndarray[Any, Any]
GOLDEN_SAMPLES = 1024
_TOOLS = ("torch", "brevitas", "qonnx", "onnx", "onnxruntime", "numpy")


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
    tell = progress or (lambda event: None)
    if samples is not None and samples < 1:
        raise ConfigError(f"samples = {samples!r} must be at least 1; leave it out for all.")
    folder.mkdir(parents=True, exist_ok=True)
    trained = load_trained(config, train_folder)
    test = data.load(config.data, config.seed)
    images, labels = test.test_x[:samples], test.test_y[:samples]
    if not len(images):
        raise ConfigError(f"Data set {config.data.name!r} has no test samples to verify on.")
    expected = _logits(trained, images)
    model = folder / "model.onnx"
    (folder / "artifact.json").unlink(missing_ok=True)
    tell({"event": "export", "text": "export to QONNX"})
    made = folder / ".model.new.onnx"
    try:
        write_qonnx(trained.net, made)
        graph = load_qonnx(made)
        if any(t.data_location for t in graph.graph.initializer):
            raise ExportMismatch("The exporter put weights into a second file.")
        bits = check_bits(graph, trained.plan, model.name)

        def tick(done: int) -> None:
            text = f"execute {done}/{len(images)} samples"
            tell({"event": "export", "text": text, "done": done, "samples": len(images)})

        found = run_graph(str(made), images.numpy(), tick=tick)
        agreement = compare_logits(expected, found)
        require_agreement(agreement)
        made.replace(model)
    finally:
        made.unlink(missing_ok=True)
    golden = _write_golden(folder / "golden.npz", images.numpy(), expected, labels.numpy())
    artifact = QonnxArtifact(
        file=model.name,
        sha256=sha256_file(model),
        network=trained.net.spec.name,
        plan_digest=trained.plan.digest(),
        input_shape=trained.net.spec.input_shape,
        num_classes=trained.net.spec.num_classes,
        input_quant=_input_quant(model),
        bits_in_graph=bits,
        golden=golden.name,
        golden_sha256=sha256_file(golden),
        samples=agreement.samples,
        max_abs_error=agreement.max_abs_error,
        argmax_agreement=agreement.argmax_agreement,
        tool_versions={**package_versions(*_TOOLS), "adaqat-hw": __version__},
    )
    artifact.write(folder / "artifact.json")
    return artifact


@torch.no_grad()
def _logits(trained: Trained, images: torch.Tensor, batch: int = 256) -> Array:
    parts = [trained.net(images[i : i + batch]) for i in range(0, len(images), batch)]
    return np.asarray(torch.cat(parts).cpu().numpy())


def _input_quant(path: Path) -> InputQuant | None:
    quant = input_quant_of(load_qonnx(path), str(path))
    if quant is None or quant.scale[0] != quant.scale[1]:
        return None
    return InputQuant(bits=quant.bits, signed=quant.signed, scale=quant.scale[0])


def _write_golden(path: Path, inputs: Array, logits: Array, labels: Array) -> Path:
    """Write the first test samples with PyTorch's logits, atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        inputs=inputs[:GOLDEN_SAMPLES].astype(np.float32),
        logits=logits[:GOLDEN_SAMPLES].astype(np.float32),
        labels=labels[:GOLDEN_SAMPLES].astype(np.int64),
    )
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

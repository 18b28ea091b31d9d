"""Make a BuildRequest from a verified export, or from a QONNX file of any origin.

A command line's options lie over the run's own ``[build]``: :func:`overlay`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adaqat_hw import families
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import (
    THROUGHPUT_KEYS,
    Board,
    BuildConfig,
    BuildRequest,
    QonnxArtifact,
    first_fault,
    sha256_file,
)

# The variant of a file that this project did not make.
FOREIGN = "qonnx"


def overlay(config: BuildConfig | None, options: Mapping[str, Any]) -> BuildConfig:
    """Return ``config`` with the keys of ``options`` in place of its own.

    ``options`` holds what was given only. A throughput takes the place of the run's, whichever
    it was, and of its ``fill``; ``impl_per_layer`` is added layer by layer.

    Args:
        config: a run's own ``[build]``, None where it has none.
        options: values by key of :class:`BuildConfig`.

    Raises:
        ConfigError: no board, or options that do not go together.
    """
    if config is None and "board" not in options:
        raise ConfigError(
            "Which board? Give --board NAME, or --fit NAME to fill it; a run may name it in its "
            "[build]."
        )
    keys = config.model_dump() if config is not None else {}
    if any(name in options for name in THROUGHPUT_KEYS):
        for name in (*THROUGHPUT_KEYS, "fill"):
            keys.pop(name, None)
    layers = {**keys.get("impl_per_layer", {}), **options.get("impl_per_layer", {})}
    try:
        return BuildConfig.model_validate({**keys, **options, "impl_per_layer": layers})
    except ValidationError as exc:
        raise ConfigError(f"The build's options: {first_fault(exc)}") from exc


def request_from_artifact(
    folder: Path, artifact: QonnxArtifact, variant: str, board: Board, config: BuildConfig
) -> BuildRequest:
    """Return the request for an exported network; ``folder`` holds the artifact's files."""
    golden = folder / artifact.golden if artifact.golden else None
    return BuildRequest(
        model=str((folder / artifact.file).resolve()),
        model_sha256=artifact.sha256,
        network=artifact.network,
        variant=variant,
        layers=tuple(row.layer for row in artifact.bits_in_graph),
        golden=str(golden.resolve()) if golden else None,
        golden_sha256=artifact.golden_sha256,
        **_common(board, config),
    )


def request_from_file(
    model: Path, board: Board, config: BuildConfig, golden: Path | None = None
) -> BuildRequest:
    """Return the request for a QONNX file that this project did not make."""
    return BuildRequest(
        model=str(model.resolve()),
        model_sha256=sha256_file(model),
        network=model.stem,
        variant=FOREIGN,
        golden=str(golden.resolve()) if golden else None,
        golden_sha256=sha256_file(golden) if golden else None,
        **_common(board, config),
    )


def _common(board: Board, config: BuildConfig) -> dict[str, Any]:
    family = families.load(board.family)
    return {
        "board": board.name,
        "part": family.finn_part or board.part,
        "dsp": family.dsp,
        "clock_ns": config.clock_ns or board.default_clock_ns,
        "goal": config.goal,
        "backend": config.backend,
        "throughput": config.throughput,
        "folding": dict(config.folding) or None,
        "impl": config.impl,
        "impl_per_layer": dict(config.impl_per_layer),
        "fifo_depth": config.fifo_depth,
    }

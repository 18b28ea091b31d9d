"""Make a BuildRequest from a verified export, or from a QONNX file of any origin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adaqat_hw import families
from adaqat_hw.schema import Board, BuildConfig, BuildRequest, QonnxArtifact, sha256_file


def request_from_artifact(
    folder: Path, artifact: QonnxArtifact, board: Board, config: BuildConfig
) -> BuildRequest:
    """Return the request for an exported network; ``folder`` holds the artifact's files."""
    golden = folder / artifact.golden if artifact.golden else None
    return BuildRequest(
        model=str((folder / artifact.file).resolve()),
        model_sha256=artifact.sha256,
        network=artifact.network,
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
        "target_fps": config.target_fps,
        "impl": config.impl,
        "impl_per_layer": dict(config.impl_per_layer),
        "fifo_depth": config.fifo_depth,
    }

"""Fold to a target before a build: read the options, make the unfolded estimate, search."""

from __future__ import annotations

from adaqat_hw import families
from adaqat_hw.cli.console import Progress
from adaqat_hw.errors import ConfigError, NotMeasured
from adaqat_hw.run import RunDirectory
from adaqat_hw.schema import Board, BuildConfig, BuildRequest
from adaqat_hw.schema.folding import FoldingRecord, FoldingTarget

DEFAULT_FILL = 0.7


def folding_target(fps: int | None, fit: str | None, fill: float | None) -> FoldingTarget | None:
    """Return the target that the options ask for, None where they ask for none.

    Raises:
        ConfigError: both targets at once, or a fill that is no share of a board.
    """
    if fps is not None and fit is not None:
        raise ConfigError(
            f"--fps {fps!r} and --fit {fit!r} are two targets; give one, --fps with --fill to "
            "leave room on the board."
        )
    if fill is not None and fps is None and fit is None:
        raise ConfigError(f"--fill {fill!r} says how much --fit or --fps may take; give one.")
    if fill is not None and not 0 < fill <= 1:
        raise ConfigError(f"--fill {fill!r} must be a share of the board, above 0 and at most 1.")
    if fit is not None:
        return FoldingTarget(fill=fill or DEFAULT_FILL)
    return FoldingTarget(fps=fps, fill=fill or 1.0) if fps is not None else None


def board_of(board: str | None, fit: str | None) -> str:
    """Return the board that ``--board`` or ``--fit`` names.

    Raises:
        ConfigError: neither names one, or they name two.
    """
    if board is not None and fit is not None and board != fit:
        raise ConfigError(f"--board {board!r} and --fit {fit!r} are two boards; give one.")
    chosen = board or fit
    if chosen is None:
        raise ConfigError("Which board? Give --board NAME, or --fit NAME to fill it.")
    return chosen


def fold_request(
    request: BuildRequest,
    board: Board,
    config: BuildConfig,
    target: FoldingTarget,
    run: RunDirectory,
    variant: str,
    progress: Progress,
) -> BuildRequest:
    """Return ``request`` with the folding for ``target``; its folder gets ``folding.json``.

    The search starts from the estimate of the unfolded network, which is built first unless it
    is up to date. Where the cost model does not know the board's family or a node of the network,
    a frame rate is left to FINN's own folding.

    Raises:
        ConfigError: the target cannot be met.
    """
    from adaqat_hw.cli.stages import run_build
    from adaqat_hw.compile import build_stages
    from adaqat_hw.compile.fold import FOLDING_FILE, fold_build, folded, unfolded
    from adaqat_hw.cost.hardware_cost import load_cost_model

    try:
        load_cost_model(families.load(board.family))  # first: the estimate takes a minute
        start = unfolded(request)
        folder = run.build(variant, start)
        estimate = config.model_copy(update={"goal": "estimate"})
        run_build(folder, variant, build_stages(start, board, estimate, folder, variant), progress)
        progress.start(f"fold {variant}")
        record = fold_build(folder, start, board, target)
    except NotMeasured as exc:
        if target.fps is None:
            raise
        progress.start(f"fold {variant}")
        progress.done(f"left to FINN: {exc}")
        return request.model_copy(update={"target_fps": target.fps})
    made = folded(request, record)
    record.write(run.build(variant, made) / FOLDING_FILE)
    progress.done(summary(record))
    return made


def summary(record: FoldingRecord) -> str:
    """Return a folding in one line."""
    total = record.total
    return (
        f"{record.interval:,} cycles per frame, {record.fps:,.0f} frames/s; predicted "
        f"{total.lut:,} LUT, {total.dsp:,} DSP; bottleneck {record.bottleneck.reason}"
    )

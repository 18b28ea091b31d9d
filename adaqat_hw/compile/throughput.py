"""Fold a request to what was asked of its throughput: by measured costs wherever there are any.

Where the board's family or a node of the network was not measured, FINN's own folding is driven
to a frame rate; the fastest folding of a board is refused there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import adaqat_hw.cost
from adaqat_hw import families
from adaqat_hw.compile.design import Design
from adaqat_hw.compile.fold import fold_build
from adaqat_hw.compile.tasks import BuildTask, build_tasks
from adaqat_hw.cost.hardware_cost import cost_model_path, load_cost_model
from adaqat_hw.errors import NotMeasured
from adaqat_hw.run import BuildFolder, RunDirectory, tree_digest
from adaqat_hw.schema import (
    Board,
    BuildConfig,
    BuildRequest,
    ThroughputRequest,
    sha256_file,
)
from adaqat_hw.schema.folding import FoldingRecord, FoldingTarget

# Runs tasks of a build folder in order, each unless it is up to date.
RunTasks = Callable[[BuildFolder, Iterable[BuildTask]], None]


def fold_request(
    request: BuildRequest,
    board: Board,
    config: BuildConfig,
    run: RunDirectory,
    run_tasks: RunTasks,
    note: Callable[[str], None],
) -> BuildRequest:
    """Return ``request`` folded as it asks; its build folder gets ``folding.json``.

    The search starts from the estimate of the unfolded network, which is built first unless it
    is up to date. ``note`` is called where measured costs cannot decide.

    Raises:
        ConfigError: the target cannot be met.
        NotMeasured: the fastest folding was asked for and costs are not measured.
    """
    target = request.throughput.target
    if target is None:
        return request
    try:
        load_cost_model(families.load(board.family))  # first: the estimate takes a minute
        start = unfolded(request)
        folder = run.build(start)
        estimate = config.model_copy(update={"goal": "estimate"})
        run_tasks(folder, build_tasks(start, board, estimate, folder))
        search = _search(folder, start, board, target)
        run_tasks(folder, [search])
    except NotMeasured as exc:
        if target.fps is None:
            raise
        note(f"left to FINN's own folding: {exc}")
        return request.model_copy(update={"target_fps": target.fps, "folding_note": str(exc)})
    record = FoldingRecord.read(folder.folding_for(target.digest()))
    result = folded(request, record)
    record.write(run.build(result).folding)
    return result


def unfolded(request: BuildRequest) -> BuildRequest:
    """Return the request of the estimate that a folding is searched from: 1 everywhere."""
    return request.model_copy(
        update={
            "goal": "estimate",
            "throughput": ThroughputRequest(kind="unfolded"),
            "target_fps": None,
            "folding": None,
            "folded_impl": {},
        }
    )


def folded(request: BuildRequest, record: FoldingRecord) -> BuildRequest:
    """Return ``request`` with the folding of ``record``."""
    return request.model_copy(
        update={
            "target_fps": None,
            "folding": record.folding,
            "folded_impl": record.impl_per_layer,
        }
    )


def summary(record: FoldingRecord) -> str:
    """Return a folding in one line."""
    total = record.total
    return (
        f"by measured costs: {record.interval:,} cycles per frame, {record.fps:,.0f} frames/s; "
        f"predicted {total.lut:,} LUT, {total.dsp:,} DSP; bottleneck {record.bottleneck.reason}"
    )


def _search(
    folder: BuildFolder, start: BuildRequest, board: Board, target: FoldingTarget
) -> BuildTask:
    """Return the task that searches the folding of a target in the unfolded estimate's folder."""

    def search(note: Callable[[str], None]) -> tuple[str, list[str]]:
        record = fold_build(Design.read(folder), start, board, target)
        written = record.write(folder.folding_for(target.digest()))
        return summary(record), folder.relative(written)

    inputs = {
        "graph": sha256_file(folder.hardware),
        "board": board.digest(),
        "family": families.load(board.family).digest(),
        "target": target.digest(),
        "solver": tree_digest(Path(adaqat_hw.cost.__file__).parent),
        "costs": sha256_file(cost_model_path(families.load(board.family))),
    }
    return BuildTask("fold", folder, inputs, search)

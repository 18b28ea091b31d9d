"""One build, finished or failed, as one JSON object. ``null`` is "not reported"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adaqat_hw.errors import AdaqatHwError, ReportError
from adaqat_hw.report.builds import read_build
from adaqat_hw.report.collect import build_gaps
from adaqat_hw.report.content import fits, over, used
from adaqat_hw.report.folding_table import folding_json
from adaqat_hw.report.json_out import (
    NAMES,
    build_json,
    fifo_json,
    finite,
    resources_json,
    throughput_json,
    verify_json,
    vivado_json,
)
from adaqat_hw.report.model import PlanReport, sources_of
from adaqat_hw.run import BuildFolder


def build_failure(error: AdaqatHwError, folder: Path | None) -> dict[str, Any]:
    """Return a failed build as one JSON object: ``failure``, and what its folder holds.

    Args:
        error: what ended the build.
        folder: the build's folder, None where it did not come that far.
    """
    log = getattr(error, "log", None)
    failure = {
        "kind": type(error).__name__,
        "stage": getattr(error, "stage", None),
        "message": str(error),
        "log": str(log) if log is not None else None,
        "exit_status": error.exit_code,
    }
    if folder is None or not BuildFolder(folder).request.is_file():
        return {"failure": failure}
    try:
        return {**build_summary(folder), "failure": failure}
    except ReportError:  # the records are not whole either: the failure alone is certain
        return {"failure": failure}


def build_summary(folder: Path) -> dict[str, Any]:
    """Return what one build folder holds as one JSON object; ``failure`` is null.

    Raises:
        ReportError: a record in it is damaged.
    """
    build = read_build(folder)
    plan = PlanReport(variant=build.variant, build=build)
    shares = used(plan)
    body = {
        "name": build.variant,
        "build": build_json(build),
        "verify": verify_json(plan),
        "throughput": throughput_json(build),
        "fifo": fifo_json(build),
        "folding": folding_json(folder),
        "resources": [resources_json(plan, source) for source in sources_of(build)],
        "bitstream": build.bitstream.model_dump(mode="json") if build.bitstream else None,
        "vivado": vivado_json(plan),
        "board": build.board.model_dump(mode="json") if build.board else None,
        "utilisation": {name: shares[name] for name in NAMES} if shares else None,
        "over": over(plan) if shares else None,
        "fits_board": fits(plan),
        "missing": build_gaps(build),
        "failure": None,
    }
    summary: dict[str, Any] = finite(body)
    return summary

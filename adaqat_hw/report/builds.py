"""Read a run's build folders and choose the one that speaks for each variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adaqat_hw.errors import ReportError
from adaqat_hw.report.model import LEARNED, BuildReport, SideBuild
from adaqat_hw.report.records import newest, read_if_there
from adaqat_hw.schema import (
    BitstreamResult,
    Board,
    BuildRequest,
    BuildResult,
    FifoSizing,
    HardwareGraph,
    QonnxArtifact,
    ResourceReport,
    SimulationResult,
    Stage,
    VivadoResult,
)


def read_build(folder: Path, variants: Sequence[str] = ()) -> BuildReport:
    """Read one build folder; ``variants`` are the names its variant may have.

    Raises:
        ReportError: a record in it is damaged, or two files claim the same stage.
    """
    request = read_if_there(BuildRequest, folder / "request.json")
    resources: dict[Stage, ResourceReport] = {}
    for path in sorted(folder.glob("resources-*.json")):
        report = read_if_there(ResourceReport, path)
        assert report is not None
        if report.stage in resources or path.stem != f"resources-{report.stage}":
            raise ReportError(
                f"{str(path)!r} says it is of stage {report.stage!r}; that stage's file is "
                f"'resources-{report.stage}.json': delete the one that is wrong."
            )
        resources[report.stage] = report
    names = ("request.json", "result.json", "hardware.json", "simulation.json")
    return BuildReport(
        folder=f"build/{folder.name}",
        variant=_variant(folder.name, request, variants),
        request=request,
        result=read_if_there(BuildResult, folder / "result.json"),
        graph=read_if_there(HardwareGraph, folder / "hardware.json"),
        fifos=read_if_there(FifoSizing, folder / "fifos.json"),
        simulation=read_if_there(SimulationResult, folder / "simulation.json"),
        board=read_if_there(Board, folder / "board.json"),
        resources=resources,
        bitstream=read_if_there(BitstreamResult, folder / "bitstream.json"),
        vivado=read_if_there(VivadoResult, folder / "vivado.json"),
        written=newest([*(folder / n for n in names), *folder.glob("resources-*.json")]),
    )


def _variant(folder: str, request: BuildRequest | None, variants: Sequence[str]) -> str:
    """Take board, clock, goal and digest off a folder's name; variants may hold dashes."""
    if request is not None:
        tail = f"-{request.board}-{request.clock_ns:g}ns-{request.goal}-"
        head, found, _ = folder.rpartition(tail)
        if found and head:
            return head
    known = [name for name in variants if folder.startswith(f"{name}-")]
    return max(known, key=len) if known else folder.split("-")[0]


def choose(
    builds: Sequence[BuildReport], artifacts: Mapping[str, QonnxArtifact]
) -> tuple[dict[str, BuildReport], tuple[SideBuild, ...]]:
    """Choose one build per variant; return them and the others with the reason.

    A build of another export than the present one is never used. The learned plan's newest
    complete build sets board, clock, target and implementation; the other variants prefer a
    build that shares them, then a complete one, then the newest.
    """
    chosen: dict[str, BuildReport] = {}
    side: list[SideBuild] = []
    by_variant: dict[str, list[BuildReport]] = {}
    for build in builds:
        artifact = artifacts.get(build.variant)
        stale = artifact and build.request and build.request.model_sha256 != artifact.sha256
        if stale:
            side.append(SideBuild(build, "made from another export than the present one"))
        else:
            by_variant.setdefault(build.variant, []).append(build)
    reference: Any = None
    for variant in sorted(by_variant, key=lambda name: (name != LEARNED, name)):
        listed = by_variant[variant]
        best = max(
            listed,
            key=lambda b: (setting(b) == reference, b.complete, b.written or "", b.folder),
        )
        reference = reference or setting(best)
        chosen[variant] = best
        for build in listed:
            if build is not best:
                side.append(SideBuild(build, _why_not(build, best, reference)))
    return chosen, tuple(sorted(side, key=lambda s: s.build.folder))


def setting(build: BuildReport) -> tuple[Any, ...] | None:
    """Return what two builds must share for their numbers to be comparable."""
    r = build.request
    if r is None:
        return None
    impls = tuple(sorted(r.impl_per_layer.items()))
    return (r.board, r.clock_ns, r.goal, r.target_fps, r.impl, impls, r.fifo_depth)


def describe(build: BuildReport) -> str:
    """Return a build's setting in words."""
    r = build.request
    if r is None:
        return "setting not recorded"
    fps = f"{r.target_fps:,} frames/s asked" if r.target_fps else "no throughput asked"
    return f"{r.board}, {r.clock_ns:g} ns, {r.goal}, {fps}, MVAU {r.impl}"


def _why_not(build: BuildReport, best: BuildReport, reference: Any) -> str:
    if setting(build) != reference:
        return "another board, clock, throughput or implementation"
    if best.complete and not build.complete:
        return "not complete"
    return "older"

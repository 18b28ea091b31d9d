"""Read a run's build folders and choose one build per variant for the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adaqat_hw.errors import OtherVersion, ReportError
from adaqat_hw.report.model import LEARNED, SYNTH, BuildReport, SideBuild, estimate_of
from adaqat_hw.report.records import newest, read_if_there
from adaqat_hw.run import BuildFolder
from adaqat_hw.schema import (
    ESTIMATES,
    BitstreamResult,
    Board,
    BuildRequest,
    BuildResult,
    FifoSizing,
    FoldedBy,
    HardwareGraph,
    QonnxArtifact,
    ResourceReport,
    SimulationResult,
    Source,
    VivadoResult,
)

_FOLDED_BY: dict[FoldedBy, str] = {
    "cost_model": "folded by measured costs",
    "finn": "folded by FINN",
}
# FIFO sizing accepts frames that take 2 % longer; beyond that plans are of different throughput.
_SAME_PACE = 1.03


def read_build(folder: Path) -> BuildReport:
    """Read one build folder. Its variant is the request's, the folder's name without one.

    Raises:
        ReportError: a record in it is damaged or of another release, or two files claim the same
            source.
    """
    files = BuildFolder(folder)
    request = read_if_there(BuildRequest, files.request)
    resources: dict[Source, ResourceReport] = {}
    for path in files.resource_reports():
        report = read_if_there(ResourceReport, path)
        assert report is not None
        if report.source in resources or path != files.resources(report.source):
            raise ReportError(
                f"{str(path)!r} says its source is {report.source!r}; that source's file is "
                f"{files.resources(report.source).name!r}: delete the one that is wrong."
            )
        resources[report.source] = report
    dated = (files.request, files.result, files.hardware, files.simulation)
    return BuildReport(
        folder=f"build/{folder.name}",
        variant=request.variant if request is not None else folder.name,
        request=request,
        result=read_if_there(BuildResult, files.result),
        graph=read_if_there(HardwareGraph, files.hardware),
        fifos=read_if_there(FifoSizing, files.fifos),
        simulation=read_if_there(SimulationResult, files.simulation),
        board=read_if_there(Board, files.board),
        resources=resources,
        bitstream=read_if_there(BitstreamResult, files.bitstream),
        vivado=read_if_there(VivadoResult, files.vivado),
        written=newest([*dated, *files.resource_reports()]),
    )


def read_builds(folders: Sequence[Path]) -> tuple[list[BuildReport], list[SideBuild]]:
    """Read a run's build folders; return the builds, and those that nothing can be said about.

    The latter were made by another release, or ended before their request was written.

    Raises:
        ReportError: as :func:`read_build`, but for records of another release.
    """
    builds: list[BuildReport] = []
    unknown: list[SideBuild] = []
    for folder in folders:
        bare = BuildReport(folder=f"build/{folder.name}", variant=folder.name)
        try:
            build = read_build(folder)
        except ReportError as exc:
            if not isinstance(exc.__cause__, OtherVersion):
                raise
            unknown.append(SideBuild(bare, f"another release made it: {exc}"))
            continue
        if build.request is None:
            unknown.append(SideBuild(bare, "it has no request.json: build again"))
        else:
            builds.append(build)
    return builds, unknown


def choose(
    builds: Sequence[BuildReport], artifacts: Mapping[str, QonnxArtifact]
) -> tuple[dict[str, BuildReport], tuple[SideBuild, ...]]:
    """Choose one build per variant; return them and the others with the reason.

    A build of another export than the present one is never used. The learned plan's newest
    complete build sets board, clock, throughput and implementation; the other variants prefer a
    build that shares them, then a complete one, then the newest. One for estimates only, from
    which foldings are searched, is chosen for a variant that has no other.
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
            key=lambda b: (
                setting(b) == reference,
                not b.estimate_only,
                b.complete,
                b.written or "",
                b.folder,
            ),
        )
        reference = reference or setting(best)
        chosen[variant] = best
        for build in listed:
            if build is not best:
                side.append(SideBuild(build, _why_not(build, best, reference)))
    return chosen, tuple(sorted(side, key=lambda s: s.build.folder))


def setting(build: BuildReport) -> tuple[Any, ...] | None:
    """Return what two builds must share for their numbers to be comparable.

    The throughput counts as it was asked for and by who folded to it: PE and SIMD of two plans
    differ at one frame rate.
    """
    r = build.request
    if r is None:
        return None
    pace: Any = None  # PE = SIMD = 1, asked for or not
    if r.folded_by == "hand":
        pace = r.folding
    elif r.folded_by != "nobody":
        pace = (r.folded_by, r.throughput)
    impls = tuple(sorted(r.impl_per_layer.items()))
    return (r.board, r.clock_ns, r.goal, pace, r.impl, impls, r.fifo_depth)


def describe(build: BuildReport) -> str:
    """Return a build's setting as text."""
    r = build.request
    if r is None:
        return "setting not recorded"
    parts = [r.board, f"{r.clock_ns:g} ns", r.goal, r.throughput.describe(r.board)]
    parts += [_FOLDED_BY[r.folded_by]] if r.folded_by in _FOLDED_BY else []
    return f"{', '.join(parts)}, MVAU {r.impl}"


def cycles_at(build: BuildReport | None, source: Source) -> float | None:
    """Return the cycles per frame that stand beside a source's resources.

    Estimated ones beside a backend's estimate, simulated ones beside every other.
    """
    if build is None:
        return None
    if source in ESTIMATES:
        return build.graph.cycles_estimated if build.graph is not None else None
    return build.free_pass.cycles_per_frame if build.free_pass is not None else None


def cycles_per_frame(build: BuildReport | None) -> float | None:
    """Return the simulated cycles per frame, the estimate where nothing was simulated."""
    simulated = cycles_at(build, SYNTH)
    return simulated if simulated is not None else cycles_at(build, estimate_of(build))


def folding_note(build: BuildReport) -> str | None:
    """Return what a user may not expect of the build's folding, None where it is as requested."""
    request = build.request
    return request.folding_sentence(cycles_per_frame(build)) if request is not None else None


def same_pace(builds: Iterable[BuildReport | None]) -> bool:
    """Tell whether builds take as many cycles per frame, as far as it is known."""
    known = [cycles for build in builds if (cycles := cycles_per_frame(build)) is not None]
    return len(known) < 2 or max(known) <= _SAME_PACE * min(known)


def pace_warning(plans: Mapping[str, BuildReport | None]) -> str | None:
    """Say that plans run at different throughput, None where they do not.

    Args:
        plans: builds by the name of their plan.
    """
    cycles = {name: cycles_per_frame(build) for name, build in plans.items()}
    known = {name: value for name, value in cycles.items() if value is not None}
    if same_pace(plans.values()):
        return None
    paces = ", ".join(f"{name} {value:,.0f}" for name, value in known.items())
    return (
        f"What is compared runs at different throughput (cycles per frame: {paces}), so its LUTs "
        "are not for equal work; build with one --fps for all."
    )


def _why_not(build: BuildReport, best: BuildReport, reference: Any) -> str:
    if build.estimate_only and not best.estimate_only:
        return "built for estimates only"
    if setting(build) != reference:
        return "another board, clock, throughput or implementation"
    if best.complete and not build.complete:
        return "not complete"
    return "older"

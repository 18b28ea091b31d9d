"""Collect a run directory into a RunReport: what exists, and what is missing by name."""

from __future__ import annotations

from pathlib import Path

from adaqat_hw import families
from adaqat_hw.cost import bitops, weight_compression
from adaqat_hw.errors import ConfigError, ReportError
from adaqat_hw.report.builds import choose, describe, pace_warning, read_builds, setting
from adaqat_hw.report.history import history, width_paths
from adaqat_hw.report.model import (
    FLOAT,
    LEARNED,
    SYNTH,
    BuildReport,
    PlanReport,
    RunReport,
    estimate_of,
)
from adaqat_hw.report.records import newest, read_if_there, read_log
from adaqat_hw.run import RunDirectory
from adaqat_hw.schema import (
    VIVADO_GOALS,
    BitWidthPlan,
    NetworkSpec,
    QonnxArtifact,
    RunConfig,
    TrainResult,
    UniformWidths,
)


def collect(run: Path) -> RunReport:
    """Read everything that a run directory holds; a run may be incomplete.

    Raises:
        ConfigError: ``run`` is no run directory.
        ReportError: a record in it is damaged, or two records contradict each other.
    """
    directory = RunDirectory(run)
    config = read_if_there(RunConfig, directory.config)
    trained, exported, built = directory.trainings(), directory.exports(), directory.builds()
    if not (trained or exported or built):
        raise ConfigError(
            f"{str(run)!r} holds no training, export or build; give a run directory, such as "
            "runs/demo."
        )
    known = {folder.path.name for folder in (*trained, *exported)}
    builds, unknown = read_builds([folder.path for folder in built])
    artifacts = {
        folder.path.name: artifact
        for folder in exported
        if (artifact := read_if_there(QonnxArtifact, folder.artifact)) is not None
    }
    chosen, side = choose(builds, artifacts)
    names = {*known, *(build.variant for build in builds)}
    plans = tuple(
        _plan(directory, name, artifacts.get(name), chosen.get(name))
        for name in sorted(names, key=_order)
    )
    return RunReport(
        name=config.name if config else run.resolve().name,
        path=run,
        config=config,
        plans=plans,
        side_builds=(*side, *unknown),
        missing=(*_missing(plans), *(f"{b.build.folder}: {b.reason}" for b in unknown)),
        warnings=tuple(_warnings(plans)),
    )


def _order(variant: str) -> tuple[int, int, int, str]:
    uniform = UniformWidths.from_name(variant)
    if uniform is not None:
        return (2, -uniform.weights, -uniform.acts, variant)
    return ({FLOAT: 0, LEARNED: 1}.get(variant, 3), 0, 0, variant)


def _plan(
    directory: RunDirectory,
    variant: str,
    artifact: QonnxArtifact | None,
    build: BuildReport | None,
) -> PlanReport:
    folder = directory.train(variant)
    train = read_if_there(TrainResult, folder.result)
    spec = read_if_there(NetworkSpec, folder.spec)
    plan = read_if_there(BitWidthPlan, folder.plan) if variant != FLOAT else None
    rows = read_log(folder.log)
    report = PlanReport(
        variant=variant,
        train=train,
        plan=plan,
        spec=spec,
        artifact=artifact,
        build=build,
        widths=width_paths(rows, train.frozen_at if train else {}),
        history=history(rows),
        written=newest([folder.result]),
    )
    if spec is None or plan is None:
        return report
    try:
        counted, smaller = bitops(spec, plan), weight_compression(spec, plan)
    except ConfigError as exc:
        raise ReportError(
            f"{str(folder.plan)!r} contradicts {folder.spec.name!r} beside it: {exc}"
        ) from exc
    return PlanReport(**{**vars(report), "bitops": counted, "compression": smaller})


def _missing(plans: tuple[PlanReport, ...]) -> list[str]:
    listed = []
    names = {plan.variant for plan in plans}
    if FLOAT not in names:
        listed.append("float: no full-precision baseline was trained")
    if LEARNED not in names:
        listed.append("learned: no plan was learned")
    if not any(UniformWidths.from_name(name) for name in names):
        listed.append("uniform plans: none was trained to compare with")
    for plan in plans:
        listed += [f"{plan.variant}: {gap}" for gap in _gaps(plan)]
    return listed


def _gaps(plan: PlanReport) -> list[str]:
    gaps = []
    if plan.train is None:
        gaps.append("training not finished, so no accuracy")
    if plan.variant == FLOAT:
        return gaps
    if plan.plan is None:
        gaps.append("no bit-width plan")
    elif plan.bitops is None:
        gaps.append("no network shapes (spec.json), so no BitOPs")
    if plan.artifact is None:
        gaps.append("not exported to QONNX")
    if plan.build is None:
        return [*gaps, "not built"]
    return [*gaps, *build_gaps(plan.build)]


def build_gaps(build: BuildReport) -> list[str]:
    """Return what a build lacks, one clause each."""
    if build.result is None:
        return [f"build not finished ({build.folder})"]
    if build.result.status != "ok":
        why = build.result.message or "; ".join(build.result.unsupported) or "no message recorded"
        step = f" at {build.result.failed_step}" if build.result.failed_step else ""
        return [f"build {build.result.status}{step}: {why}"]
    gaps = [] if estimate_of(build) in build.resources else ["no FINN estimate"]
    if build.request is not None and build.request.goal == "estimate":
        return [*gaps, "built for estimates only: not simulated, not synthesized"]
    if build.simulation is None:
        gaps.append("not simulated")
    if SYNTH not in build.resources:
        gaps.append("not synthesized with Yosys")
    elif build.resources[SYNTH].total_is_sum:
        gaps.append("not synthesized as a whole: the total is the sum of the layers")
    if (
        build.board is not None
        and families.load(build.board.family).nextpnr
        and build.bitstream is None
    ):
        gaps.append("no bitstream")
    if build.request is not None and build.request.goal in VIVADO_GOALS:
        if build.vivado is None:
            gaps.append(f"not through Vivado (goal {build.request.goal})")
        elif build.vivado.timing is not None and build.vivado.timing.met is False:
            gaps.append(f"timing is not met, so goal {build.request.goal} is not reached")
    return gaps


def _warnings(plans: tuple[PlanReport, ...]) -> list[str]:
    pace = pace_warning({plan.variant: plan.build for plan in plans})
    listed = [pace] if pace is not None else []
    built = [plan for plan in plans if plan.build is not None]
    reference = next((p.build for p in built if p.variant == LEARNED), None)
    for plan in plans:
        digest = plan.plan.digest() if plan.plan else None
        if plan.artifact and digest and plan.artifact.plan_digest != digest:
            listed.append(
                f"{plan.variant}: the export was made from another plan "
                f"({plan.artifact.plan_digest}, now {digest}); export and build again."
            )
        build = plan.build
        if build and reference and setting(build) != setting(reference):
            listed.append(
                f"{plan.variant}: built for {describe(build)}; the learned plan for "
                f"{describe(reference)}, so their resources do not compare."
            )
        if build and build.simulation and build.simulation.mismatches:
            listed.append(
                f"{plan.variant}: {build.simulation.mismatches} simulated frames DIFFER from the "
                "integer model; do not use this hardware."
            )
        timing = build.vivado.timing if build and build.vivado else None
        if build and build.vivado and timing and timing.met is False:
            slack = "unknown" if timing.wns_ns is None else f"{timing.wns_ns:+.3f} ns"
            listed.append(
                f"{plan.variant}: Vivado's timing is NOT MET at {build.vivado.clock_ns:g} ns "
                f"(worst slack {slack}); build again with a longer --clock-ns."
            )
    return listed

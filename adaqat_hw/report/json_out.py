"""A report as one JSON object. ``null`` is "not reported"."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from adaqat_hw.report.builds import cycles_at, describe, folding_note
from adaqat_hw.report.content import SHOWN, fits, over, used
from adaqat_hw.report.fits import FitReport, fit_runs, verdict
from adaqat_hw.report.model import FLOAT, SYNTH, BuildReport, PlanReport, RunReport, sources_of
from adaqat_hw.report.overview import runs_pace_warning
from adaqat_hw.schema import Source

NAMES = (*SHOWN, "uram")


def to_json(reports: Sequence[RunReport]) -> dict[str, Any]:
    """Return one run's report as an object, or ``{"runs": [...]}`` for several.

    Fits go over all runs together. Nothing in it is NaN or infinite.
    """
    fitted = fit_json(reports)
    if len(reports) == 1:
        return {**run_json(reports[0]), "fits": fitted}
    pace = runs_pace_warning(reports)
    return {
        "runs": [run_json(report) for report in reports],
        "fits": fitted,
        "warnings": [pace] if pace is not None else [],
    }


def run_json(run: RunReport) -> dict[str, Any]:
    """Return one run's report without the fits."""
    full, main = run.plan(FLOAT), run.main
    choice = main.train.freeze_choice if main and main.train else None
    board = run.board
    body = {
        "name": run.name,
        "main_plan": main.variant if main else None,
        "accuracy": {
            "float": full.accuracy if full else None,
            "quantized": main.accuracy if main else None,
        },
        "bitops": main.bitops.total if main and main.bitops else None,
        **_compression(main),
        "budget": main.budget.model_dump(mode="json") if main and main.budget else None,
        "freeze_choice": choice.model_dump(mode="json") if choice else None,
        "learned_widths": _learned(main),
        "plan": _plan_rows(main),
        "verify": verify_json(main),
        "throughput": throughput_json(main.build if main else None),
        "fifo": fifo_json(main.build if main else None),
        "plans": [_plan_json(plan) for plan in run.plans],
        "resources": [
            resources_json(plan, source)
            for plan in run.quantized
            for source in sources_of(plan.build)
        ],
        "board": board.model_dump(mode="json") if board else None,
        "fits_board": fits(main) if main else None,
        "tool_versions": tool_versions(run),
        "builds_not_used": [
            {"build": side.build.folder, "reason": side.reason} for side in run.side_builds
        ],
        "missing": list(run.missing),
        "warnings": list(run.warnings),
    }
    json_body: dict[str, Any] = finite(body)
    return json_body


def _compression(plan: PlanReport | None) -> dict[str, Any]:
    compression = plan.compression if plan else None
    return {
        "weight_compression": compression.inner if compression else None,
        "weight_compression_total": compression.total if compression else None,
    }


def _learned(plan: PlanReport | None) -> list[dict[str, Any]]:
    return [
        {
            "name": path.name,
            "initial": path.real[0],
            "bits": path.bits[-1],
            "flips": None if path.flips is None else len(path.flips),
            "frozen_at": path.frozen_at,
            "frozen_by": path.frozen_by,
        }
        for path in (plan.widths if plan else ())
    ]


def _plan_rows(plan: PlanReport | None) -> list[dict[str, Any]] | None:
    if plan is None or plan.plan is None:
        return None
    return [
        {
            "layer": row.layer,
            "weight_bits": row.weight_bits,
            "act_bits": row.act_bits,
            "act_signed": row.act_signed,
            "second_act_bits": row.second_act_bits,
            "second_act_signed": row.second_act_signed,
            "bitops": plan.bitops.per_layer.get(row.layer) if plan.bitops else None,
        }
        for row in plan.plan.layers
    ]


def verify_json(plan: PlanReport | None) -> dict[str, Any]:
    """Return the evidence that software and hardware compute the same."""
    artifact = plan.artifact if plan else None
    result = plan.build.simulation if plan and plan.build else None
    return {
        "torch_qonnx_max_abs_error": artifact.max_abs_error if artifact else None,
        "torch_qonnx_argmax_agreement": artifact.argmax_agreement if artifact else None,
        "torch_qonnx_samples": artifact.samples if artifact else None,
        "rtl_frames": sum(p.frames for p in result.passes) if result else None,
        "rtl_frames_real": result.frames_real if result else None,
        "rtl_mismatches": result.mismatches if result else None,
        "rtl_accuracy": result.accuracy if result else None,
        "rtl_reference": result.reference if result else None,
        "rtl_passes": [p.model_dump(mode="json") for p in result.passes] if result else None,
    }


def throughput_json(build: BuildReport | None) -> dict[str, Any]:
    """Return what was asked for, cycles, and frames per second at the clock asked for."""
    graph = build.graph if build else None
    free = build.free_pass if build else None
    clock = build.request.clock_ns if build and build.request else None
    measured = free.cycles_per_frame if free else None
    request = build.request if build else None
    return {
        "asked": request.throughput.model_dump(mode="json") if request else None,
        "folded_by": request.folded_by if request else None,
        "note": folding_note(build) if build else None,
        "cycles_per_frame_estimated": graph.cycles_estimated if graph else None,
        "cycles_per_frame_measured": measured,
        "latency_cycles": free.latency_cycles if free else None,
        "clock_ns_requested": clock,
        "fps_at_requested_clock": frames_per_second(measured, clock),
        **_achieved(build, measured),
    }


def fifo_json(build: BuildReport | None) -> dict[str, Any] | None:
    """Return what the FIFOs hold, and how near the whole comes to its slowest layer."""
    sizing = build.fifos if build else None
    if sizing is None:
        return None
    return {
        "depth_total": sizing.depth_total,
        "memory_bits": sizing.memory_bits,
        "initiation_interval_over_slowest_layer": sizing.initiation_interval_over_slowest_layer,
        "initiation_interval": sizing.initiation_interval,
        "slowest_layer": {"node": sizing.slowest_node, "cycles": sizing.slowest_cycles},
        "frames": sizing.frames,
        "method": sizing.method,
    }


def _achieved(build: BuildReport | None, cycles: float | None) -> dict[str, Any]:
    """Return the routed design's clock and what it is worth, whether asked for or not."""
    routed = build.routed if build else None
    fmax = routed.fmax_mhz if routed else None
    return {
        "fmax_mhz": fmax,
        "slack_ns": routed.slack_ns if routed else None,
        "fps_at_fmax": frames_per_second(cycles, 1000 / fmax if fmax else None),
    }


def frames_per_second(cycles: float | None, clock_ns: float | None) -> float | None:
    """Return frames per second; the clock is asked for, not met by place and route."""
    return None if not cycles or clock_ns is None else 1e9 / (cycles * clock_ns)


def vivado_json(plan: PlanReport) -> dict[str, Any] | None:
    """Return what Vivado made of the plan: timing, power, files, and its use of the board."""
    vivado = plan.build.vivado if plan.build else None
    if vivado is None:
        return None
    shares = used(plan, "vivado_impl")
    return {
        **vivado.model_dump(mode="json", exclude={"record", "schema_version"}),
        "utilisation": {name: shares[name] for name in NAMES} if shares else None,
        "over": over(plan, "vivado_impl") if shares else None,
        "fits_board": fits(plan, "vivado_impl"),
    }


def _plan_json(plan: PlanReport) -> dict[str, Any]:
    shares = used(plan)
    return {
        "plan": plan.variant,
        "accuracy": plan.accuracy,
        "accuracy_top5": plan.train.accuracy_top5 if plan.train else None,
        "test_samples": plan.train.test_samples if plan.train else None,
        "bitops": plan.bitops.total if plan.bitops else None,
        **_compression(plan),
        "widths": _plan_rows(plan),
        "verify": verify_json(plan),
        "throughput": throughput_json(plan.build),
        "fifo": fifo_json(plan.build),
        "build": build_json(plan.build),
        "utilisation": {name: shares[name] for name in NAMES} if shares else None,
        "over": over(plan) if shares else None,
        "fits_board": fits(plan),
        "vivado": vivado_json(plan),
    }


def build_json(build: BuildReport | None) -> dict[str, Any] | None:
    """Return how a build was asked for and how it ended."""
    if build is None:
        return None
    result = build.result
    return {
        "folder": build.folder,
        "complete": build.complete,
        "status": result.status if result else None,
        "message": result.message if result else None,
        "unsupported": list(result.unsupported) if result else None,
        "request": build.request.model_dump(mode="json") if build.request else None,
        "written": build.written,
        "setting": describe(build),
    }


def resources_json(plan: PlanReport, source: Source) -> dict[str, Any]:
    """Return a plan's resources at one source; nulls where there is no report."""
    report = plan.build.resources.get(source) if plan.build else None
    request = plan.build.request if plan.build else None
    cycles = cycles_at(plan.build, source) if report is not None else None
    head = {"plan": plan.variant, "source": source, "cycles_per_frame": cycles}
    if report is None:
        facts = ("layers", "layer_sum", "total_is_sum", "slack_ns", "fmax_mhz", "unmatched")
        empty = dict.fromkeys((*NAMES, *facts, "tool", "report"))
        return {**head, "part": request.part if request else None, **empty}
    return {
        **head,
        "part": report.part,
        **{name: getattr(report.total, name) for name in NAMES},
        "layers": [
            {
                "layer": row.layer,
                **{name: getattr(row.resources, name) for name in NAMES},
                "nodes": list(row.nodes),
            }
            for row in report.layers
        ],
        "layer_sum": report.layer_sum.model_dump(mode="json"),
        "total_is_sum": report.total_is_sum,
        "slack_ns": report.slack_ns,
        "fmax_mhz": report.fmax_mhz,
        "unmatched": list(report.unmatched),
        "tool": f"{report.tool} {report.tool_version}",
        "report": {"file": report.source_file, "sha256": report.source_sha256},
    }


def tool_versions(run: RunReport) -> dict[str, list[str]]:
    """Return every tool and the versions of it that made this run's records."""
    versions: dict[str, set[str]] = {}
    for plan in run.plans:
        build = plan.build
        records = (
            plan.train,
            plan.artifact,
            build.result if build else None,
            build.simulation if build else None,
        )
        for record in records:
            for tool, version in (record.tool_versions if record else {}).items():
                versions.setdefault(tool, set()).add(version)
        for report in build.resources.values() if build else ():
            versions.setdefault(report.tool, set()).add(report.tool_version)
    return {tool: sorted(versions[tool]) for tool in sorted(versions)}


def fit_json(reports: Sequence[RunReport], fitted: FitReport | None = None) -> dict[str, Any]:
    """Return points, fits with their quality, and what they are worth in words."""
    fits = fitted or fit_runs(reports)
    body: dict[str, Any] = finite(
        {
            "source": SYNTH,
            "points": [
                {
                    "run": p.run,
                    "network": p.network,
                    "plan": p.plan,
                    **vars(p.features),
                    "lut": p.lut,
                    "dsp": p.dsp,
                }
                for p in fits.points
            ],
            "fits": [
                {
                    "target": f.target,
                    "impl": f.impl,
                    "features": list(f.features),
                    "fit": f.outcome.fit.model_dump(mode="json") if f.outcome.fit else None,
                    "reason": f.outcome.reason,
                    "largest_layer": f.largest.name if f.largest else None,
                    "r2_without_largest": f.r2_without_largest,
                }
                for f in fits.fits
            ],
            "left_out": list(fits.left_out),
            "verdict": verdict(fits),
        }
    )
    return body


def finite(value: Any) -> Any:
    """Replace what JSON cannot say (NaN, infinity) by null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(element) for key, element in value.items()}
    if isinstance(value, list | tuple):
        return [finite(element) for element in value]
    return value

"""Report stage: read what the other stages left on disk, and show it. Runs nothing, no torch."""

from adaqat_hw.report.build_json import build_failure, build_summary
from adaqat_hw.report.collect import collect
from adaqat_hw.report.fits import fit_runs, verdict
from adaqat_hw.report.json_out import fit_json, to_json
from adaqat_hw.report.markdown import to_markdown
from adaqat_hw.report.model import BuildReport, PlanReport, RunReport
from adaqat_hw.report.terminal import render, render_build, render_fit
from adaqat_hw.report.write import write_report

__all__ = [
    "BuildReport",
    "PlanReport",
    "RunReport",
    "build_failure",
    "build_summary",
    "collect",
    "fit_json",
    "fit_runs",
    "render",
    "render_build",
    "render_fit",
    "to_json",
    "to_markdown",
    "verdict",
    "write_report",
]

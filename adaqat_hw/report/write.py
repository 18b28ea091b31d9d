"""Write a report: JSON, Markdown, one page, and the figures as files of their own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from adaqat_hw.errors import ConfigError
from adaqat_hw.report.collect import collect
from adaqat_hw.report.course_figures import learning, steering
from adaqat_hw.report.figure_canvas import Figure
from adaqat_hw.report.figures import accuracy_cost, estimate_synthesis, fit_figure, widths
from adaqat_hw.report.fits import FitReport, fit_runs
from adaqat_hw.report.html import Figures, page
from adaqat_hw.report.json_out import to_json
from adaqat_hw.report.markdown import to_markdown
from adaqat_hw.report.model import RunReport
from adaqat_hw.report.width_figures import gradients, integers, trajectories
from adaqat_hw.run import ReportFolder
from adaqat_hw.schema import write_atomic

_KEYS = (
    "accuracy-cost",
    "learning",
    "widths",
    "trajectories",
    "integers",
    "gradients",
    "steering",
    "estimate",
    "fit",
)


def write_report(runs: Sequence[Path], out_dir: Path) -> list[Path]:
    """Write report.html, report.json, report.md and figures/*.svg into ``out_dir``.

    Equal records give equal bytes. Figures of an earlier report that this one lacks are
    removed.

    Returns:
        The paths written, the page first.

    Raises:
        ConfigError: no run, no run directory, or ``out_dir`` cannot be written.
        ReportError: a damaged record.
    """
    if not runs:
        raise ConfigError("A report needs at least one run directory; none was given.")
    reports = [collect(run) for run in runs]
    fitted = fit_runs(reports)
    figures = [_draw(run) for run in reports]
    shared = _shared(reports, fitted)
    folder = ReportFolder(out_dir)
    files = {
        folder.page: page(reports, fitted, figures, shared),
        folder.json: json.dumps(to_json(reports), indent=1, allow_nan=False) + "\n",
        folder.markdown: to_markdown(reports, fitted),
    }
    for i, drawn in enumerate(figures):
        prefix = f"{i + 1}-" if len(reports) > 1 else ""
        files |= {
            folder.figures / f"{prefix}{key}.svg": figure.svg for key, figure in drawn.items()
        }
    files |= {folder.figures / f"{key}.svg": figure.svg for key, figure in shared.items()}
    for path, text in files.items():
        write_atomic(path, text)
    for key in _KEYS:
        for old in folder.figures.glob(f"*{key}.svg"):
            if old not in files and old.stem.lstrip("0123456789-") == key:
                old.unlink()
    return list(files)


def _draw(run: RunReport) -> Figures:
    main = run.main
    drawn: list[Figure | None] = [accuracy_cost([run]), learning(run)]
    if main is not None:
        drawn += [widths(main), trajectories(main), integers(main), gradients(main)]
        drawn += [steering(main), estimate_synthesis(main)]
    return {figure.key: figure for figure in drawn if figure is not None}


def _shared(reports: Sequence[RunReport], fitted: FitReport) -> Figures:
    drawn = [fit_figure(fitted)]
    if len(reports) > 1:
        drawn.append(accuracy_cost(reports))
    return {figure.key: figure for figure in drawn if figure is not None}

"""Commands that do work: run, train, export, build, report, fit, sweep."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from adaqat_hw import boards
from adaqat_hw.cli.arguments import (
    Ends,
    InputBits,
    Quiet,
    RunPath,
    existing_run,
    trained_variant,
    variant_name,
)
from adaqat_hw.cli.command_build import build
from adaqat_hw.cli.console import Progress, out, print_json
from adaqat_hw.cli.stages import (
    ensure_build,
    ensure_export,
    ensure_train,
    leads,
    processes,
    variants,
)
from adaqat_hw.errors import ConfigError
from adaqat_hw.resources import configs_dir
from adaqat_hw.run import RunDirectory
from adaqat_hw.schema import BitWidthPlan, RunConfig, load_config

ConfigPath = Annotated[
    Path, typer.Argument(help="Run configuration: a TOML file, or the name of a shipped one.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a key: train.epochs=30.")
]
RunsDir = Annotated[Path, typer.Option("--runs", help="Folder that holds the runs.")]


def _open(config_path: Path, overrides: list[str] | None, runs: Path) -> tuple[Any, RunDirectory]:
    config = load_config(shipped(config_path), tuple(overrides or ()))
    run = RunDirectory(runs / config.name)
    return config, run


def shipped(path: Path) -> Path:
    """Return ``path``, or the shipped configuration of that name where there is no such file."""
    if path.is_file():
        return path
    name = path.name if path.suffix == ".toml" else f"{path.name}.toml"
    bundled = configs_dir() / name
    plain = path.parent in (Path(), Path("configs"))
    return bundled if plain and bundled.is_file() else path


def run_(
    config: ConfigPath,
    overrides: SetOption = None,
    runs: RunsDir = Path("runs"),
    quiet: Quiet = False,
) -> None:
    """Run every stage: train every variant, export, build, simulate, synthesize, report."""
    settings, run = _open(config, overrides, runs)
    report = run_all(settings, run, Progress(quiet=quiet))
    out.print(f"\nReport page: [bold]{report}[/]")


def _keep_config(config: RunConfig, run: RunDirectory) -> None:
    """Write the configuration of a new run; one that stands is kept until a training has ended."""
    if leads() and not run.config.is_file():
        config.write(run.config)


def run_all(config: RunConfig, run: RunDirectory, progress: Progress) -> Path:
    """Run all stages of ``config`` in ``run`` and return the path of the report page."""
    if processes() > 1:
        raise ConfigError(
            f"torchrun started {processes()} processes, which only 'train' can share; run "
            "'train' under it for each variant, then this command without it."
        )
    board = boards.load(config.build.board) if config.build else None
    if config.build:
        from adaqat_hw.compile.backend import backend_named

        backend_named(config.build.backend)  # before hours of training
    _keep_config(config, run)
    try:
        for variant in variants(config):
            ensure_train(config, run, variant, progress)
        config.write(run.config)
        for variant in variants(config)[1:]:
            ensure_export(config, run, variant, progress)
        if config.build is not None and board is not None:
            for variant in variants(config)[1:]:
                ensure_build(run, variant, board, config.build, progress)
        return _report([run.root], run.report.path, progress)
    finally:
        progress.stop()


def _report(runs: list[Path], folder: Path, progress: Progress) -> Path:
    from adaqat_hw.report import write_report

    progress.start("report")
    paths = write_report(runs, folder)
    page = next(path for path in paths if path.suffix == ".html")
    progress.done(str(page))
    return page


def train(
    config: ConfigPath,
    variant: Annotated[
        str, typer.Option(help="float, learned, or uniform widths such as 4/4.")
    ] = "learned",
    ends: Ends = None,
    input_bits: InputBits = None,
    plan: Annotated[
        Path | None, typer.Option(help="Train at the widths of this (edited) plan.")
    ] = None,
    overrides: SetOption = None,
    runs: RunsDir = Path("runs"),
    quiet: Quiet = False,
) -> None:
    """Train one variant, or at a plan of one's own; resumes where it was stopped.

    Several processes share a training: torchrun --nproc-per-node=2 -m adaqat_hw train CONFIG.
    """
    settings, run = _open(config, overrides, runs)
    progress = Progress(quiet=quiet or not leads())
    manual = BitWidthPlan.read(plan) if plan else None
    name = variant_name(variant, ends, input_bits)
    if manual is not None:
        name = f"plan-{manual.digest()}"
    _keep_config(settings, run)
    try:
        if "float" in (settings.train.init, settings.train.teacher) and name != "float":
            ensure_train(settings, run, "float", progress)
        result = ensure_train(settings, run, name, progress, manual)
        if processes() > 1:
            _leave_others()
        if not leads():
            return
        settings.write(run.config)
    finally:
        progress.stop()
    out.print(f"{result.reached}  in {run.train(name).path}")
    if result.plan:
        from adaqat_hw.quant import format_plan

        widths = BitWidthPlan.read(run.train(name).path / result.plan)
        out.print(format_plan(widths), highlight=False)
    if result.freeze_choice is not None:
        out.print(result.freeze_choice.sentence, highlight=False)


def _leave_others() -> None:
    from adaqat_hw.train import leave_world

    leave_world()


def export(
    run: RunPath,
    variant: Annotated[str, typer.Option(help="float is not exportable.")] = "learned",
    ends: Ends = None,
    input_bits: InputBits = None,
    quiet: Quiet = False,
) -> None:
    """Export a trained variant to verified QONNX."""
    config, directory = existing_run(run)
    progress = Progress(quiet=quiet)
    name = trained_variant(directory, variant, ends, input_bits)
    try:
        artifact = ensure_export(config, directory, name, progress)
    finally:
        progress.stop()
    out.print(str(directory.export(name).path / artifact.file))


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run directories.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for report.html and figures.")
    ] = None,
) -> None:
    """Show what runs achieved and cost: a table, JSON, Markdown, and one HTML page."""
    from adaqat_hw import report as reporting

    for run in runs:
        existing_run(run)
    reports = [reporting.collect(run) for run in runs]
    if as_json:
        print_json(reporting.to_json(reports))
        return
    if as_markdown:
        out.print(reporting.to_markdown(reports), markup=False, highlight=False)
        return
    out.print(reporting.render(reports))
    folder = output or RunDirectory(runs[0]).report.path
    paths = reporting.write_report(runs, folder)
    out.print(f"Report page: {next(p for p in paths if p.suffix == '.html')}")


def fit(
    runs: Annotated[list[Path], typer.Argument(help="Run directories with finished builds.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fit LUT and DSP against bit-operations per cycle over all MVAUs of the runs."""
    from adaqat_hw import report as reporting

    for run in runs:
        existing_run(run)
    reports = [reporting.collect(run) for run in runs]
    if as_json:
        print_json(reporting.fit_json(reports))
    else:
        out.print(reporting.render_fit(reports))


def sweep(
    config: ConfigPath,
    over: Annotated[
        list[str], typer.Option("--over", help="KEY=V1,V2,...: one run per combination.")
    ],
    overrides: SetOption = None,
    runs: RunsDir = Path("runs"),
    quiet: Quiet = False,
) -> None:
    """Run a configuration over a grid of values; one report page compares all runs."""
    axes = [_axis(text) for text in over]
    progress = Progress(quiet=quiet)
    base = load_config(shipped(config), tuple(overrides or ()))
    folders: list[Path] = []
    for combination in itertools.product(*axes):
        suffix = "-".join(
            text.split("=")[0].split(".")[-1] + text.split("=")[1] for text in combination
        )
        safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in suffix)
        items = (*(overrides or ()), *combination, f'name="{base.name}-{safe}"')
        settings = load_config(shipped(config), items)
        run = RunDirectory(runs / settings.name)
        run_all(settings, run, progress)
        folders.append(run.root)
    page = _report(folders, runs / f"{base.name}-sweep", progress)
    out.print(f"Report page: [bold]{page}[/]")


def _axis(text: str) -> list[str]:
    key, sep, values = text.partition("=")
    listed = [value.strip() for value in values.split(",") if value.strip()]
    if not sep or not key or not listed:
        raise ConfigError(
            f"--over {text!r} must read KEY=V1,V2, such as adaqat.hardware_lambda=0.1,0.2."
        )
    return [f"{key}={value}" for value in listed]


COMMANDS: tuple[Callable[..., None], ...] = (run_, train, export, build, report, fit, sweep)

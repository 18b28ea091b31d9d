"""Commands that do work: run, train, export, build, report, fit, sweep."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from adaqat_hw import boards
from adaqat_hw.cli.console import Progress, out, print_json
from adaqat_hw.cli.folding import board_of, fold_request, folding_target
from adaqat_hw.cli.stages import (
    ensure_build,
    ensure_export,
    ensure_train,
    leads,
    processes,
    run_build,
    uniform_name,
    variants,
)
from adaqat_hw.errors import ConfigError
from adaqat_hw.resources import configs_dir
from adaqat_hw.run import RunDirectory, done_for
from adaqat_hw.schema import (
    GOLDEN_FRAMES,
    VIVADO_GOALS,
    BitWidthPlan,
    BuildConfig,
    Env,
    Goal,
    ImplChoice,
    RunConfig,
    load_config,
)

ConfigPath = Annotated[
    Path, typer.Argument(help="Run configuration: a TOML file, or the name of a shipped one.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a key: train.epochs=30.")
]
RunsDir = Annotated[Path, typer.Option("--runs", help="Folder that holds the runs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


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
    """Do the whole road: train every variant, export, build, simulate, synthesize, report."""
    made, run = _open(config, overrides, runs)
    report = whole_road(made, run, Progress(quiet=quiet))
    out.print(f"\nReport page: [bold]{report}[/]")


def _keep_config(config: RunConfig, run: RunDirectory) -> None:
    """Write the configuration of a new run; one that stands is kept until a training has ended."""
    if leads() and not run.config.is_file():
        config.write(run.config)


def whole_road(config: RunConfig, run: RunDirectory, progress: Progress) -> Path:
    """Run all stages of ``config`` in ``run`` and return the path of the report page."""
    if processes() > 1:
        raise ConfigError(
            f"torchrun started {processes()} processes, which only 'train' can share; run "
            "'train' under it for each variant, then this command without it."
        )
    board = boards.load(config.build.board) if config.build else None
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
        return _report([run.root], run.report, progress)
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
    made, run = _open(config, overrides, runs)
    progress = Progress(quiet=quiet or not leads())
    given = BitWidthPlan.read(plan) if plan else None
    name = _variant_name(variant)
    if given is not None:
        name = f"plan-{given.digest()}"
    _keep_config(made, run)
    try:
        if "float" in (made.train.init, made.train.teacher) and name != "float":
            ensure_train(made, run, "float", progress)
        result = ensure_train(made, run, name, progress, given)
        if processes() > 1:
            _leave_others()
        if not leads():
            return
        made.write(run.config)
    finally:
        progress.stop()
    out.print(f"top-1 {100 * result.accuracy:.2f} %  in {run.train(name)}")
    if result.plan:
        from adaqat_hw.quant import format_plan

        out.print(format_plan(BitWidthPlan.read(run.train(name) / result.plan)), highlight=False)


def _leave_others() -> None:
    from adaqat_hw.train import leave_world

    leave_world()


def _variant_name(text: str) -> str:
    if text in ("float", "learned") or text.startswith("plan-"):
        return text
    try:
        return uniform_name(text)
    except ValueError as exc:
        raise ConfigError(f"Variant {text!r} must be float, learned, or W/A such as 4/4.") from exc


def _trained(run: RunDirectory, variant: str) -> str:
    """Return the name of a variant that is given by its folder's name or as widths."""
    plain = re.fullmatch(r"[\w.-]+", variant) is not None
    return variant if plain and run.train(variant).is_dir() else _variant_name(variant)


def _existing(run: Path) -> tuple[RunConfig, RunDirectory]:
    directory = RunDirectory(run)
    if not directory.config.is_file():
        raise ConfigError(
            f"{str(run)!r} is no run directory (it has no config.json); make one with "
            "'adaqat-hw run CONFIG'."
        )
    return RunConfig.read(directory.config), directory


RunPath = Annotated[Path, typer.Argument(help="Run directory, such as runs/demo.")]


def export(
    run: RunPath,
    variant: Annotated[str, typer.Option(help="float is not exportable.")] = "learned",
    quiet: Quiet = False,
) -> None:
    """Export a trained variant to verified QONNX."""
    config, directory = _existing(run)
    progress = Progress(quiet=quiet)
    name = _trained(directory, variant)
    try:
        artifact = ensure_export(config, directory, name, progress)
    finally:
        progress.stop()
    out.print(str(directory.export(name) / artifact.file))


def build(
    source: Annotated[Path, typer.Argument(help="Run directory, or a QONNX file.")],
    board: Annotated[str | None, typer.Option(help="Board name or TOML file.")] = None,
    goal: Annotated[
        str, typer.Option(help="estimate, rtl, or with Vivado: ip, ooc_synth, bitfile.")
    ] = "rtl",
    env: Annotated[str, typer.Option(help="Where FINN and Vivado run: local, docker.")] = "local",
    fps: Annotated[int | None, typer.Option(help="Cheapest folding of N frames/s.")] = None,
    fit: Annotated[str | None, typer.Option(help="Board to fill: fastest folding.")] = None,
    fill: Annotated[float | None, typer.Option(help="Share of the board to use.")] = None,
    clock_ns: Annotated[float | None, typer.Option(help="Clock period.")] = None,
    impl: Annotated[str, typer.Option(help="MVAUs in: auto, lut or dsp.")] = "auto",
    layer_impl: Annotated[
        list[str] | None, typer.Option(help="LAYER=lut or LAYER=dsp; repeatable.")
    ] = None,
    variant: Annotated[str, typer.Option(help="Which variant of the run.")] = "learned",
    frames: Annotated[int, typer.Option(help="Frames simulated without stalls.")] = 100,
    synthesize: Annotated[bool, typer.Option(help="Synthesize with Yosys.")] = True,
    output: Annotated[Path, typer.Option("--runs", help="Where builds of QONNX files go.")] = Path(
        "runs"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Quiet = False,
) -> None:
    """Build a run's network, or any QONNX file, for a board: RTL, simulated, synthesized."""
    goals: tuple[Goal, ...] = ("estimate", "rtl", *VIVADO_GOALS)
    envs: tuple[Env, ...] = ("local", "docker")
    impls: tuple[ImplChoice, ...] = ("auto", "lut", "dsp")
    if goal not in goals:
        raise ConfigError(f"--goal {goal!r} must be one of {', '.join(goals)}.")
    if env not in envs:
        raise ConfigError(f"--env {env!r} must be one of {', '.join(envs)}.")
    pairs = dict(_layer_impl(item, impls) for item in layer_impl or ())
    if impl not in impls:
        raise ConfigError(f"--impl {impl!r} must be one of {', '.join(impls)}.")
    for name, value in (("--fps", fps), ("--frames", frames), ("--clock-ns", clock_ns)):
        if value is not None and value <= 0:
            raise ConfigError(f"{name} {value!r} must be greater than 0.")
    if frames > GOLDEN_FRAMES:
        raise ConfigError(f"--frames {frames!r} must be at most {GOLDEN_FRAMES}.")
    target, board = folding_target(fps, fit, fill), board_of(board, fit)
    config = BuildConfig(
        board=board,
        goal=goal,
        env=env,
        clock_ns=clock_ns,
        impl=impl,
        impl_per_layer=pairs,
        frames=frames,
        synthesize=synthesize,
    )
    chosen = boards.load(board)
    progress = Progress(quiet=quiet)
    try:
        if source.is_dir():
            made, directory = _existing(source)
            name = _trained(directory, variant)
            if done_for(directory.train(name)) is None:
                ensure_train(made, directory, name, progress)
            ensure_export(made, directory, name, progress)
            folder = ensure_build(directory, name, chosen, config, progress, target)
        else:
            folder = _build_file(source, chosen, config, output, progress, target)
    finally:
        progress.stop()
    from adaqat_hw.report import build_summary, render_build

    if as_json:
        print_json(build_summary(folder))
    else:
        out.print(render_build(folder))
        out.print(f"Build folder: {folder}")


def _layer_impl(item: str, impls: tuple[ImplChoice, ...]) -> tuple[str, ImplChoice]:
    layer, _, impl = item.rpartition("=")
    for allowed in impls:
        if impl == allowed and layer:
            return layer, allowed
    raise ConfigError(f"--layer-impl {item!r} must read LAYER=lut, LAYER=dsp or LAYER=auto.")


def _build_file(
    model: Path, board: Any, config: BuildConfig, runs: Path, progress: Progress, target: Any
) -> Path:
    from adaqat_hw.compile import build_stages, request_from_file
    from adaqat_hw.qonnx_file import load_qonnx

    load_qonnx(model)
    request = request_from_file(model, board, config)
    name = "".join(c if c.isalnum() or c in "._-" else "_" for c in model.stem).lstrip("._-")
    run = RunDirectory(runs / (name or "model"))
    if target is not None:
        request = fold_request(request, board, config, target, run, "qonnx", progress)
    folder = run.build("qonnx", request)
    run_build(folder, name, build_stages(request, board, config, folder, "qonnx"), progress)
    return folder


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run directories.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for report.html and figures.")
    ] = None,
) -> None:
    """Show what runs achieved and cost: a table, JSON, Markdown, and one HTML page."""
    from adaqat_hw import report as made

    for run in runs:
        _existing(run)
    reports = [made.collect(run) for run in runs]
    if as_json:
        print_json(made.to_json(reports))
        return
    if as_markdown:
        out.print(made.to_markdown(reports), markup=False, highlight=False)
        return
    out.print(made.render(reports))
    folder = output or RunDirectory(runs[0]).report
    paths = made.write_report(runs, folder)
    out.print(f"Report page: {next(p for p in paths if p.suffix == '.html')}")


def fit(
    runs: Annotated[list[Path], typer.Argument(help="Run directories with finished builds.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fit LUT and DSP against bit-operations per cycle over all MVAUs of the runs."""
    from adaqat_hw import report as made

    for run in runs:
        _existing(run)
    reports = [made.collect(run) for run in runs]
    if as_json:
        print_json(made.fit_json(reports))
    else:
        out.print(made.render_fit(reports))


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
    axes = [_axis(item) for item in over]
    progress = Progress(quiet=quiet)
    base = load_config(shipped(config), tuple(overrides or ()))
    folders: list[Path] = []
    for combination in itertools.product(*axes):
        suffix = "-".join(
            text.split("=")[0].split(".")[-1] + text.split("=")[1] for text in combination
        )
        safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in suffix)
        items = (*(overrides or ()), *combination, f'name="{base.name}-{safe}"')
        made = load_config(shipped(config), items)
        run = RunDirectory(runs / made.name)
        whole_road(made, run, progress)
        folders.append(run.root)
    page = _report(folders, runs / f"{base.name}-sweep", progress)
    out.print(f"Report page: [bold]{page}[/]")


def _axis(item: str) -> list[str]:
    key, sep, values = item.partition("=")
    listed = [value.strip() for value in values.split(",") if value.strip()]
    if not sep or not key or not listed:
        raise ConfigError(
            f"--over {item!r} must read KEY=V1,V2, such as adaqat.hardware_lambda=0.1,0.2."
        )
    return [f"{key}={value}" for value in listed]


COMMANDS: tuple[Callable[..., None], ...] = (run_, train, export, build, report, fit, sweep)

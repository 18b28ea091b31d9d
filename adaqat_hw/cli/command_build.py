"""The command build: a run's network, or any QONNX file, for a board."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from adaqat_hw import boards
from adaqat_hw.cli.arguments import Ends, InputBits, Quiet, existing_run, trained_variant
from adaqat_hw.cli.build_options import build_options
from adaqat_hw.cli.console import Progress, out, print_json
from adaqat_hw.cli.stages import (
    BuildJob,
    ensure_export,
    ensure_train,
    fold,
    fold_export,
    run_build,
)
from adaqat_hw.errors import AdaqatHwError
from adaqat_hw.run import RunDirectory, done_for


def build(
    source: Annotated[Path, typer.Argument(help="Run directory, or a QONNX file.")],
    board: Annotated[str | None, typer.Option(help="Board name or TOML file.")] = None,
    goal: Annotated[
        str | None,
        typer.Option(help="estimate, rtl (default), or with Vivado: ip, ooc_synth, bitfile."),
    ] = None,
    env: Annotated[
        str | None, typer.Option(help="Where FINN and Vivado run: local (default), docker.")
    ] = None,
    fps: Annotated[int | None, typer.Option(help="Cheapest folding of N frames/s.")] = None,
    fit: Annotated[str | None, typer.Option(help="Board to fill: fastest folding.")] = None,
    fill: Annotated[float | None, typer.Option(help="Share of the board to use.")] = None,
    unfolded: Annotated[
        bool, typer.Option("--unfolded", help="PE = SIMD = 1: smallest, slowest.")
    ] = False,
    folding: Annotated[
        Path | None, typer.Option(help="JSON file: PE and SIMD by hardware node name.")
    ] = None,
    clock_ns: Annotated[float | None, typer.Option(help="Clock period.")] = None,
    impl: Annotated[str | None, typer.Option(help="MVAUs in: auto (default), lut, dsp.")] = None,
    layer_impl: Annotated[
        list[str] | None, typer.Option(help="LAYER=lut or LAYER=dsp; repeatable.")
    ] = None,
    variant: Annotated[str, typer.Option(help="Which variant of the run.")] = "learned",
    ends: Ends = None,
    input_bits: InputBits = None,
    frames: Annotated[
        int | None, typer.Option(help="Frames simulated without stalls (default 100).")
    ] = None,
    synthesize: Annotated[
        bool | None, typer.Option("--synthesize/--no-synthesize", help="Synthesize with Yosys.")
    ] = None,
    output: Annotated[Path, typer.Option("--runs", help="Where builds of QONNX files go.")] = Path(
        "runs"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Quiet = False,
) -> None:
    """Build a run's network, or any QONNX file, for a board: RTL, simulated, synthesized.

    Options take the place of the run's own build settings.
    """
    from adaqat_hw.report import build_failure, build_summary, render_build

    progress = Progress(quiet=quiet)
    folder: Path | None = None
    try:
        options = build_options(
            board=board, fps=fps, fit=fit, fill=fill, unfolded=unfolded, folding=folding,
            layer_impl=layer_impl or (), goal=goal, env=env, clock_ns=clock_ns, impl=impl,
            frames=frames, synthesize=synthesize,
        )  # fmt: skip
        if source.is_dir():
            job = _of_run(source, (variant, ends, input_bits), options, progress)
        else:
            job = _of_file(source, options, output, progress)
        folder = job.folder.path
        run_build(job, progress)
    except AdaqatHwError as exc:
        if as_json:
            print_json(build_failure(exc, folder))
        raise
    finally:
        progress.stop()
    if as_json:
        print_json(build_summary(folder))
    else:
        out.print(render_build(folder))
        out.print(f"Build folder: {folder}")


def _of_run(
    source: Path,
    variant: tuple[str, str | None, int | None],
    options: dict[str, Any],
    progress: Progress,
) -> BuildJob:
    """Train and export the variant unless that is done, and fold it."""
    from adaqat_hw.compile import overlay

    config, run = existing_run(source)
    chosen = overlay(config.build, options)
    board = boards.load(chosen.board)
    name = trained_variant(run, *variant)
    if done_for(run.train(name).path) is None:
        ensure_train(config, run, name, progress)
    ensure_export(config, run, name, progress)
    return fold_export(run, name, board, chosen, progress)


def _of_file(model: Path, options: dict[str, Any], runs: Path, progress: Progress) -> BuildJob:
    """Check and fold a QONNX file; its builds go to a run of its own below ``runs``."""
    from adaqat_hw.compile import overlay, request_from_file
    from adaqat_hw.qonnx_file import load_qonnx

    chosen = overlay(None, options)
    board = boards.load(chosen.board)
    load_qonnx(model)
    name = "".join(c if c.isalnum() or c in "._-" else "_" for c in model.stem).lstrip("._-")
    request = request_from_file(model, board, chosen)
    return fold(request, board, chosen, RunDirectory(runs / (name or "model")), progress)

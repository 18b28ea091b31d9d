"""Commands that inform: cost, plan, boards, doctor, env."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from adaqat_hw import boards as board_files
from adaqat_hw import tools
from adaqat_hw.cli.arguments import Ends, InputBits, trained_variant
from adaqat_hw.cli.console import Progress, out, print_json, table
from adaqat_hw.cli.doctor import checks
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import (
    BitWidthPlan,
    LayerBits,
    NetworkConfig,
    NetworkSpec,
    TrainResult,
    parse_bits,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def cost(
    network: Annotated[str, typer.Argument(help="Network name, such as resnet20.")],
    bits: Annotated[str, typer.Option(help="Inner layers, WEIGHTS/ACTIVATIONS.")] = "8/8",
    ends: Annotated[str, typer.Option(help="First and last layer, the same way.")] = "8/8",
    input_bits: Annotated[
        int | None, typer.Option(help="Width of the input; by default that of the ends.")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(help="Count this plan instead of uniform widths.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count MACs, BitOPs and weight compression of a network as the AdaQAT paper does."""
    from adaqat_hw.cost import bitops, uniform_plan_for, weight_compression

    spec = _spec(network)
    try:
        inner, outer = parse_bits(bits), parse_bits(ends)
    except ValueError as exc:
        raise ConfigError(f"{exc}.") from exc
    widths = (
        BitWidthPlan.read(plan)
        if plan
        else uniform_plan_for(
            spec,
            inner[0],
            inner[1],
            end_weight_bits=outer[0],
            end_act_bits=outer[1],
            input_bits=input_bits,
        )
    )
    counted, compression = bitops(spec, widths), weight_compression(spec, widths)
    if as_json:
        rows = [
            {
                "layer": layer.name,
                "macs": layer.macs,
                "weights": layer.weights,
                "weight_bits": widths.layer(layer.name).weight_bits,
                "act_bits": widths.layer(layer.name).act_bits,
                "second_act_bits": widths.layer(layer.name).second_act_bits,
                "bitops": counted.per_layer[layer.name],
            }
            for layer in spec.layers
        ]
        print_json(
            {
                "network": spec.name,
                "bits": bits,
                "ends": ends,
                "input_bits": input_bits,
                "macs": sum(layer.macs for layer in spec.layers),
                "weights": sum(layer.weights for layer in spec.layers),
                "bitops": counted.total,
                "weight_compression": compression.inner,
                "weight_compression_total": compression.total,
                "layers": rows,
            }
        )
        return
    cells = [
        [
            layer.name,
            f"{layer.macs:,}",
            f"{layer.weights:,}",
            _bits(widths.layer(layer.name)),
            f"{counted.per_layer[layer.name]:,}",
        ]
        for layer in spec.layers
    ]
    columns = ["layer", "MACs", "weights", "W/A bits", "BitOPs"]
    out.print(table(f"{spec.name}, one input of {spec.input_shape}", columns, cells))
    out.print(f"BitOPs {counted.total:,} ({counted.total / 1e9:.3g} Gb)")
    ratio = "no inner layer" if compression.inner is None else f"{compression.inner:.2f}x"
    out.print(
        f"Weight compression {ratio} (inner layers, as the paper counts), "
        f"{compression.total:.2f}x (all layers), against 32-bit weights"
    )


def _bits(row: LayerBits) -> str:
    """Return ``3/4``, and ``-/4x4`` for a product of two activations."""
    if row.weight_bits is None:
        return f"-/{row.act_bits}x{row.second_act_bits}"
    return f"{row.weight_bits}/{row.act_bits}"


def _spec(network: str) -> NetworkSpec:
    from adaqat_hw import nets
    from adaqat_hw.quant import network_spec

    info = nets.info(network)
    net = nets.build(NetworkConfig(name=network))
    return network_spec(net, info.input_shape, info.name, info.num_classes)


def plan(
    source: Annotated[Path, typer.Argument(help="Run directory or plan.json.")],
    variant: Annotated[str, typer.Option(help="Which variant of the run.")] = "learned",
    ends: Ends = None,
    input_bits: InputBits = None,
    as_json: AsJson = False,
) -> None:
    """Print a bit-width plan. Edit the JSON and train at it with 'train --plan FILE'.

    Of a run that learned it to a budget, also say how it was chosen.
    """
    from adaqat_hw.quant import format_plan
    from adaqat_hw.run import RunDirectory

    folder = None
    if source.is_dir():
        run = RunDirectory(source)
        folder = run.train(trained_variant(run, variant, ends, input_bits))
    widths = BitWidthPlan.read(source if folder is None else folder.plan)
    if as_json:
        print_json(widths.model_dump(mode="json"))
        return
    out.print(format_plan(widths), highlight=False)
    if folder is not None and folder.result.is_file():
        choice = TrainResult.read(folder.result).freeze_choice
        if choice is not None:
            out.print(choice.sentence, highlight=False)


def boards(as_json: AsJson = False) -> None:
    """List the boards, their parts and totals."""
    rows = [board_files.load(name) for name in board_files.names()]
    if as_json:
        print_json({"boards": [board.model_dump(mode="json") for board in rows]})
        return
    columns = ["board", "part", "LUT", "FF", "DSP", "BRAM 18k", "URAM", "clock"]
    cells = [
        [
            *(b.name, b.part),
            *(f"{n:,}" for n in (b.lut, b.ff, b.dsp, b.bram_18k, b.uram)),
            f"{b.default_clock_ns:g} ns",
        ]
        for b in rows
    ]
    out.print(table("Boards", columns, cells))
    for board in rows:
        out.print(f"{board.name}: {board.source}", markup=False, highlight=False)


def doctor(as_json: AsJson = False) -> None:
    """Say what is installed, which version, what is missing and what to do about it."""
    rows = checks()
    if as_json:
        print_json({"ok": all(c.ok for c in rows if c.required), "checks": [vars(c) for c in rows]})
    else:
        marks = {True: "[green]ok[/]", False: "[red]missing[/]"}
        cells = [
            [
                marks[c.ok] if c.ok or c.required else "[yellow]absent[/]",
                *(c.name, c.version or "-", c.needed_for),
            ]
            for c in rows
        ]
        out.print(table("", ["", "what", "version", "needed for"], cells))
        for c in rows:
            if not c.ok:
                out.print(f"{c.name}: {c.remedy}", markup=False, highlight=False)
    if not all(c.ok for c in rows if c.required):
        raise typer.Exit(3)


env_app = typer.Typer(help="The FINN environment: its own virtual environment.")


@env_app.command("create")
def env_create(
    folder: Annotated[
        Path | None, typer.Option(help="Where; by default .venv-finn or the user's cache.")
    ] = None,
) -> None:
    """Make the FINN environment (finn-plus and what it needs), or finish a broken one."""
    from adaqat_hw.compile.finn_env import create, status

    target = folder or tools.finn_environment()
    progress = Progress()
    if status(target).ok:
        progress.skip(f"FINN environment {target}")
        return
    progress.start(f"FINN environment {target}")
    try:
        environment = create(target, lambda text: progress.note(str(text)))
        progress.done(", ".join(f"{k} {v}" for k, v in sorted(_main(environment.versions).items())))
    finally:
        progress.stop()


@env_app.command("status")
def env_status(as_json: AsJson = False) -> None:
    """Check whether the FINN environment exists and is complete."""
    from adaqat_hw.compile.finn_env import status

    environment = status(tools.finn_environment())
    if as_json:
        print_json(
            {"path": str(tools.finn_environment()), "ok": environment.ok, **vars(environment)}
        )
    else:
        out.print(f"{tools.finn_environment()}: {'ok' if environment.ok else environment.remedy}")
    if not environment.ok:
        raise typer.Exit(3)


def _main(versions: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in versions.items() if k in ("finn-plus", "qonnx", "onnx")}


COMMANDS: tuple[Callable[..., None], ...] = (cost, plan, boards, doctor)

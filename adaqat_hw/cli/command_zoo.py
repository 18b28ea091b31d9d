"""The command zoo: list the trained networks, lay one out as a run, add one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from adaqat_hw.cli.arguments import RunPath, trained_variant
from adaqat_hw.cli.console import error, out, print_json, table
from adaqat_hw.run import RunDirectory
from adaqat_hw.schema import ResourceReport


class _Names(TyperGroup):
    """``zoo NAME`` is ``zoo get NAME``."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        if args and args[0] not in self.commands:
            args = ["get", *args]
        return super().resolve_command(ctx, args)


zoo_app = typer.Typer(
    cls=_Names,
    invoke_without_command=True,
    no_args_is_help=False,
    help="Trained networks: list them; NAME lays one out as a run that later stages go on from.",
)
Root = Annotated[
    Path | None, typer.Option("--zoo", help="Folder of the zoo; by default the shipped one.")
]


@dataclass(frozen=True)
class _Asked:
    """What stands before the name or the subcommand: which zoo, and whether to print JSON."""

    root: Path | None
    as_json: bool


@zoo_app.callback()
def zoo_list(
    context: typer.Context,
    root: Root = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the trained networks."""
    context.obj = _Asked(root, as_json)
    if context.invoked_subcommand is not None:
        return
    from adaqat_hw import zoo

    listed, faults = zoo.survey(root)
    if as_json:
        print_json({"networks": [_json(entry) for entry in listed]})
    else:
        out.print(table("Zoo", list(zoo.COLUMNS), [zoo.row(entry) for entry in listed]))
    for fault in faults:
        error(str(fault))
    if faults:
        raise typer.Exit(faults[0].exit_code)


@zoo_app.command("get")
def zoo_get(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Which network; 'adaqat-hw zoo' lists them.")],
    to: Annotated[Path, typer.Option("--to", help="Folder that holds the runs.")] = Path("runs"),
) -> None:
    """Lay a network out as a run: trained, exported, ready to build; "get" may be left out."""
    from adaqat_hw import zoo

    asked: _Asked = context.obj
    entry = zoo.open_entry(name, asked.root)
    run = zoo.lay_out(entry, to)
    if asked.as_json:
        print_json({**_json(entry), "run": str(run.root)})
    else:
        out.print(str(run.root))


@zoo_app.command("add")
def zoo_add(
    context: typer.Context,
    run: RunPath,
    variant: Annotated[str, typer.Argument(help="learned, float, or uniform widths.")],
    name: Annotated[str, typer.Option("--name", help="What the zoo calls it.")],
) -> None:
    """Put a finished, exported variant of a run into the zoo, with its records."""
    from adaqat_hw import zoo

    asked: _Asked = context.obj
    entry = zoo.add(run, trained_variant(RunDirectory(run), variant), name, asked.root)
    if asked.as_json:
        print_json(_json(entry))
    else:
        out.print(table("", list(zoo.COLUMNS), [zoo.row(entry)]))


def _json(entry: Any) -> dict[str, Any]:
    surest: ResourceReport | None = entry.surest
    return {
        **entry.record.model_dump(mode="json"),
        "data": entry.result.dataset,
        "network": entry.result.network,
        "accuracy": entry.result.accuracy,
        "test_samples": entry.result.test_samples,
        "seed": entry.result.seed,
        "lut": surest.total.lut if surest is not None else None,
        "lut_source": surest.source if surest is not None else None,
        "bytes": entry.size,
    }

"""The typer application: all commands, the version option and the help text."""

from __future__ import annotations

from typing import Annotated

import typer

from adaqat_hw import __version__
from adaqat_hw.cli import command_zoo, commands_info, commands_run

app = typer.Typer(
    name="adaqat-hw",
    help="Train with AdaQAT, export to QONNX, build with FINN, compare the resource counts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"adaqat-hw {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Hold the options that stand before the command."""


for _command in (*commands_run.COMMANDS, *commands_info.COMMANDS):
    app.command(name=_command.__name__.removesuffix("_").replace("_", "-"))(_command)
app.add_typer(commands_info.env_app, name="env")
app.add_typer(command_zoo.zoo_app, name="zoo")

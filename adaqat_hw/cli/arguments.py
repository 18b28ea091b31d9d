"""Arguments that several commands share: run directories and the names of their variants."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from adaqat_hw.cli.stages import uniform_name
from adaqat_hw.errors import ConfigError
from adaqat_hw.run import RunDirectory
from adaqat_hw.schema import RunConfig

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
RunPath = Annotated[Path, typer.Argument(help="Run directory, such as runs/demo.")]


def existing_run(path: Path) -> tuple[RunConfig, RunDirectory]:
    """Return the configuration and the directory of a run.

    Raises:
        ConfigError: there is no run in ``path``.
    """
    directory = RunDirectory(path)
    if not directory.config.is_file():
        raise ConfigError(
            f"{str(path)!r} is no run directory (it has no config.json); make one with "
            "'adaqat-hw run CONFIG'."
        )
    return RunConfig.read(directory.config), directory


def variant_name(text: str) -> str:
    """Return the folder's name of a variant given by name or by its widths: ``w4a4`` for 4/4."""
    if text in ("float", "learned") or text.startswith("plan-"):
        return text
    try:
        return uniform_name(text)
    except ValueError as exc:
        raise ConfigError(f"Variant {text!r} must be float, learned, or W/A such as 4/4.") from exc


def trained_variant(run: RunDirectory, variant: str) -> str:
    """Return the name of a variant that is given by its folder's name or as widths."""
    plain = re.fullmatch(r"[\w.-]+", variant) is not None
    return variant if plain and run.train(variant).path.is_dir() else variant_name(variant)

"""Arguments that several commands share: run directories and the names of their variants."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from adaqat_hw.errors import ConfigError
from adaqat_hw.run import RunDirectory
from adaqat_hw.schema import RunConfig, UniformWidths

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
RunPath = Annotated[Path, typer.Argument(help="Run directory, such as runs/demo.")]
Ends = Annotated[
    str | None, typer.Option("--ends", help="First and last layer of a uniform variant, as W/A.")
]
InputBits = Annotated[
    int | None, typer.Option("--input-bits", help="Width of a uniform variant's input.")
]


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


def variant_name(text: str, ends: str | None = None, input_bits: int | None = None) -> str:
    """Return the folder's name of a variant given by name or by its widths: ``w4a4`` for 4/4.

    Args:
        text: ``float``, ``learned``, a plan's or a uniform variant's name, or uniform widths.
        ends: of a uniform variant, weights/activations of its ends.
        input_bits: of a uniform variant, the width of its input.

    Raises:
        ConfigError: none of these, or ends and input of something else.
    """
    options = [f"--ends {ends!r}"] if ends is not None else []
    options += [f"--input-bits {input_bits!r}"] if input_bits is not None else []
    if text in ("float", "learned") or text.startswith("plan-"):
        if options:
            raise ConfigError(
                f"{' and '.join(options)} with variant {text!r}: only uniform variants such as "
                "2/2 take them; [quant] sets ends and input of the others."
            )
        return text
    added = (f" ends {ends}" if ends is not None else "") + (
        f" input {input_bits}" if input_bits is not None else ""
    )
    named = UniformWidths.from_name(text)
    try:
        return UniformWidths.parse(f"{text if named is None else named}{added}").name
    except ValueError as exc:
        raise ConfigError(
            f"Variant {text + added!r} must be float, learned, or W/A such as 4/4, with ends and "
            "input such as 2/2 ends 2/3 input 3, all from 1 to 32 bits and given once."
        ) from exc


def trained_variant(
    run: RunDirectory, variant: str, ends: str | None = None, input_bits: int | None = None
) -> str:
    """Return the name of a variant that is given by its folder's name or as widths."""
    plain = re.fullmatch(r"[\w.-]+", variant) is not None
    if plain and ends is None and input_bits is None and run.train(variant).path.is_dir():
        return variant
    return variant_name(variant, ends, input_bits)

"""Read FPGA families from ``hw/families/<name>.toml``; no other module knows one by name."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adaqat_hw.errors import ConfigError
from adaqat_hw.resources import hw_dir
from adaqat_hw.schema import Family, first_fault


def names() -> tuple[str, ...]:
    """Return the names of the families, sorted."""
    return tuple(sorted(path.stem for path in _folder().glob("*.toml")))


@cache
def load(name: str) -> Family:
    """Return a family by name.

    Raises:
        ConfigError: an unknown name, or a file that is no family.
    """
    if name not in names():
        raise ConfigError(
            f"Unknown FPGA family {name!r}; choose one of {', '.join(names())}, or add its file "
            "to hw/families."
        )
    return read(_folder() / f"{name}.toml")


def every() -> tuple[Family, ...]:
    """Return all families, sorted by name."""
    return tuple(load(name) for name in names())


def read(path: Path) -> Family:
    """Read a family's file; the file's name without ``.toml`` is the family's.

    Raises:
        ConfigError: the file is missing, or is no family.
    """
    try:
        body: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"Family file {str(path)!r} cannot be read: {exc}.") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"Family file {str(path)!r} is not valid TOML: {exc}.") from exc
    known = [key for key in Family.model_fields if key != "name"]
    unknown = sorted(set(body) - set(known))
    if unknown:
        raise ConfigError(
            f"Family file {str(path)!r} has the unknown key {unknown[0]!r}; a family has "
            f"{', '.join(known)}."
        )
    try:
        return Family.model_validate({"name": path.stem, **body})
    except ValidationError as exc:
        raise ConfigError(f"Family file {str(path)!r}{_fault(exc)}") from exc


def _fault(exc: ValidationError) -> str:
    first = exc.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f" lacks the key {key!r}."
    if first["type"] == "extra_forbidden":
        return f" has the unknown key {key!r}."
    return f": {first_fault(exc)}"


def _folder() -> Path:
    return hw_dir() / "families"

"""Read boards from ``hw/boards/<name>.toml`` or from a user's own file of the same form."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adaqat_hw import families
from adaqat_hw.errors import ConfigError
from adaqat_hw.resources import hw_dir
from adaqat_hw.schema import RESOURCE_NAMES, Board, Resources, first_fault

# Keys of earlier releases: facts of the family, which its one name now stands for.
_OLD_KEYS = ("vendor", "yosys_family", "dsp_block", "finn_part")


def names() -> tuple[str, ...]:
    """Return the names of the shipped boards, sorted."""
    return tuple(sorted(path.stem for path in _folder().glob("*.toml")))


def load(name_or_path: str | Path) -> Board:
    """Return a shipped board by name, or the board in a TOML file.

    What ends in ``.toml`` or names a folder is taken for a path. In a user's file ``name`` may
    be left out; the file's name without ``.toml`` stands in.

    Raises:
        ConfigError: unknown name, or a file that is missing or is no board.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text:
        return _read(Path(name_or_path))
    if text not in names():
        raise ConfigError(
            f"Unknown board {text!r}; choose one of {', '.join(names())}, or give the path of "
            "your own .toml file."
        )
    return _read(_folder() / f"{text}.toml")


def utilisation(resources: Resources, board: Board) -> dict[str, float | None]:
    """Return the fraction of the board's total that each resource takes.

    None where ``resources`` does not report it; infinity where the design uses what the board
    does not have at all.
    """
    return {
        name: _fraction(getattr(resources, name), getattr(board, name)) for name in RESOURCE_NAMES
    }


def _fraction(used: int | None, total: int) -> float | None:
    if used is None:
        return None
    if total == 0:
        return 0.0 if used == 0 else math.inf
    return used / total


def _folder() -> Path:
    return hw_dir() / "boards"


def _read(path: Path) -> Board:
    try:
        body: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"Board file {str(path)!r} does not exist; the shipped boards are {', '.join(names())}."
        ) from None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"Board file {str(path)!r} cannot be read: {exc}.") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"Board file {str(path)!r} is not valid TOML: {exc}.") from exc
    _require_family(path, body)
    unknown = sorted(set(body) - set(Board.model_fields))
    if unknown:
        raise ConfigError(
            f"Board file {str(path)!r} has the unknown key {unknown[0]!r}; a board has "
            f"{', '.join(Board.model_fields)}."
        )
    body.setdefault("name", path.stem)
    try:
        return Board.model_validate(body)
    except ValidationError as exc:
        raise ConfigError(f"Board file {str(path)!r}: {first_fault(exc)}") from exc


def _require_family(path: Path, body: dict[str, Any]) -> None:
    """Refuse the keys of earlier releases, and a family that there is none of."""
    names = families.names()
    obsolete = [key for key in _OLD_KEYS if key in body]
    if obsolete:
        same = body.get("yosys_family")
        family = repr(same) if same in names else f"one of {', '.join(map(repr, names))}"
        raise ConfigError(
            f"Board file {str(path)!r} has the key {obsolete[0]!r} of an earlier release; remove "
            f"{', '.join(obsolete)} and set family = {family}, which stands for all of that."
        )
    if body.get("family") not in names:
        raise ConfigError(
            f"Board file {str(path)!r} has family = {body.get('family')!r}; choose one of "
            f"{', '.join(map(repr, names))}, or add its file to hw/families."
        )

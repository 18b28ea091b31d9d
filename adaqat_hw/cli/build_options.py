"""Options of ``build`` as keys of ``[build]``: only those that were given."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import GOLDEN_FRAMES, VIVADO_GOALS, Env, Goal, ImplChoice

_GOALS: tuple[Goal, ...] = ("estimate", "rtl", *VIVADO_GOALS)
_ENVS: tuple[Env, ...] = ("local", "docker")
_IMPLS: tuple[ImplChoice, ...] = ("auto", "lut", "dsp")
_CHOICES: dict[str, tuple[str, ...]] = {"goal": _GOALS, "env": _ENVS, "impl": _IMPLS}


def build_options(
    *,
    board: str | None,
    fps: int | None,
    fit: str | None,
    fill: float | None,
    unfolded: bool,
    folding: Path | None,
    layer_impl: Sequence[str],
    **plain: Any,
) -> dict[str, Any]:
    """Return the keys of ``[build]`` that the options set.

    Args:
        board: board to build for.
        fps: frames per second to fold to.
        fit: board to fold for, as fast as fits.
        fill: share of the board.
        unfolded: PE = SIMD = 1.
        folding: JSON file of PE and SIMD by hardware node name.
        layer_impl: texts ``LAYER=lut``.
        plain: options that are keys by themselves; None where not given.

    Raises:
        ConfigError: a value that is not allowed, or two options that exclude each other.
    """
    keys = {key: value for key, value in plain.items() if value is not None}
    for key, allowed in _CHOICES.items():
        if key in keys and keys[key] not in allowed:
            raise ConfigError(f"--{key} {keys[key]!r} must be one of {', '.join(allowed)}.")
    for option, value in (
        ("--fps", fps),
        ("--frames", keys.get("frames")),
        ("--clock-ns", keys.get("clock_ns")),
    ):
        if value is not None and value <= 0:
            raise ConfigError(f"{option} {value!r} must be greater than 0.")
    if keys.get("frames", 0) > GOLDEN_FRAMES:
        raise ConfigError(f"--frames {keys['frames']!r} must be at most {GOLDEN_FRAMES}.")
    if layer_impl:
        keys["impl_per_layer"] = dict(_layer_impl(text) for text in layer_impl)
    keys |= _throughput(fps, fit, fill, unfolded, folding)
    if (chosen := _board(board, fit)) is not None:
        keys["board"] = chosen
    return keys


def _throughput(
    fps: int | None,
    fit: str | None,
    fill: float | None,
    unfolded: bool,
    folding: Path | None,
) -> dict[str, Any]:
    throughputs = {
        f"--fps {fps!r}": fps is not None,
        f"--fit {fit!r}": fit is not None,
        "--unfolded": unfolded,
        f"--folding {str(folding)!r}": folding is not None,
    }
    if sum(throughputs.values()) > 1:
        both = " and ".join(text for text, chosen in throughputs.items() if chosen)
        raise ConfigError(f"{both} each ask for a throughput; give one of them.")
    if fill is not None and not 0 < fill <= 1:
        raise ConfigError(f"--fill {fill!r} must be a share of the board, above 0 and at most 1.")
    keys: dict[str, Any] = {} if fill is None else {"fill": fill}
    if fps is not None:
        keys["fps"] = fps
    if fit is not None:
        keys["fit"] = True
    if unfolded:
        keys["unfolded"] = True
    if folding is not None:
        keys["folding"] = _read_folding(folding)
    return keys


def _board(board: str | None, fit: str | None) -> str | None:
    if board is not None and fit is not None and board != fit:
        raise ConfigError(f"--board {board!r} and --fit {fit!r} are two boards; give one.")
    return board or fit


def _layer_impl(text: str) -> tuple[str, ImplChoice]:
    layer, _, impl = text.rpartition("=")
    for allowed in _IMPLS:
        if impl == allowed and layer:
            return layer, allowed
    raise ConfigError(f"--layer-impl {text!r} must read LAYER=lut, LAYER=dsp or LAYER=auto.")


def _read_folding(path: Path) -> Mapping[str, Mapping[str, int]]:
    form = '{"MVAU_hls_0": {"PE": 2, "SIMD": 4}}'
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ConfigError(
            f"--folding {str(path)!r} cannot be read as JSON ({exc}); it must read {form}."
        ) from exc
    rows = body.values() if isinstance(body, dict) else [None]
    if not body or not all(
        isinstance(row, dict) and all(type(value) is int for value in row.values()) for row in rows
    ):
        raise ConfigError(f"--folding {str(path)!r} must read {form}, by hardware node name.")
    folding: dict[str, dict[str, int]] = body
    return folding

"""Checkpoints: written atomically, read without running code, refused in one sentence."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant import state_difference

FORMAT = 3


def save(path: Path, value: Any) -> None:
    """Write tensors and plain values to ``path``: temporary name, flush to disk, rename.

    Raises:
        ConfigError: the folder is full or not writable; the old file is untouched.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise _unwritable(path, exc) from exc
    try:
        with temporary.open("wb") as handle:
            torch.save(value, handle)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as exc:
        # torch's zip writer turns a full disk into a RuntimeError.
        temporary.unlink(missing_ok=True)
        raise _unwritable(path, exc) from exc
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load(path: Path) -> Any:
    """Read a checkpoint of tensors and plain values (``weights_only=True``).

    Raises:
        ConfigError: the file is missing, truncated or no checkpoint.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ConfigError(f"Checkpoint {str(path)!r} does not exist; train it first.") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as exc:
        raise ConfigError(
            f"Checkpoint {str(path)!r} is damaged or no checkpoint of this program; delete it and "
            "train again."
        ) from exc


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a ``checkpoint.pt``: a network's state_dict and nothing else.

    Raises:
        ConfigError: as :func:`load`, or the file holds something else.
    """
    state = load(path)
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ConfigError(
            f"Checkpoint {str(path)!r} holds no plain state_dict of a network; give a "
            "'checkpoint.pt' written by training, or delete it and train again."
        )
    return dict(state)


def load_resume(path: Path, digest: str) -> dict[str, Any]:
    """Read a ``last.pt``; ``digest`` is the one of the training that wants to resume.

    Raises:
        ConfigError: damaged, or of another training.
    """
    state = load(path)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ConfigError(
            f"{str(path)!r} is no resume checkpoint of this release; delete it and train again."
        )
    if state.get("digest") != digest:
        raise ConfigError(
            f"{str(path)!r} belongs to a training with another network, configuration, init or "
            f"teacher checkpoint (digest {state.get('digest')!r}, now {digest!r}); delete it to "
            "train from the start, or restore what that training began with."
        )
    return state


def load_into(net: nn.Module, state: Mapping[str, Any], path: Path) -> None:
    """Load a state_dict into ``net`` strictly.

    Raises:
        ConfigError: names or shapes differ; names the first difference.
    """
    try:
        net.load_state_dict(dict(state), strict=True)
    except (RuntimeError, KeyError, ValueError) as exc:
        raise ConfigError(
            f"Checkpoint {str(path)!r} does not fit this network: {state_difference(net, state)}; "
            "give the checkpoint of the same network and variant, or restore the configuration "
            "that it was made with."
        ) from exc


def _unwritable(path: Path, exc: BaseException) -> ConfigError:
    cause = (str(exc).splitlines() or [type(exc).__name__])[0].rstrip(".")
    return ConfigError(
        f"Checkpoint {str(path)!r} could not be written ({cause}); free disk space or choose "
        "another folder."
    )

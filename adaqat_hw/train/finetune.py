"""Fine-tuning: trained weights and batch norm into the quantized twin."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from adaqat_hw.errors import ConfigError
from adaqat_hw.train.checkpoint import load_weights


def load_float_weights(net: nn.Module, reference: nn.Module, path: Path) -> None:
    """Copy the weights of checkpoint ``path`` into ``net``, matching tensors by name.

    Only what the float network ``reference`` has is copied (weights, biases and batch-norm
    state); the quantizers of ``net`` keep their own state, and those of a checkpoint of the
    quantized network are left out. Names may differ by a prefix that all of them share, as when
    the twin holds the network in a submodule.

    Raises:
        ConfigError: the file is damaged, of another network, or ``net`` lacks one of its
            tensors; nothing is copied then.
    """
    state = _float_part(load_weights(path), list(reference.state_dict()))
    _check_names(set(state), set(reference.state_dict()), path)
    own = net.state_dict()
    prefix = _common_prefix(list(own), list(state), path)
    for name, tensor in state.items():
        target = own[prefix + name]
        if target.shape != tensor.shape:
            raise ConfigError(
                f"Checkpoint {str(path)!r} has {name!r} of shape {tuple(tensor.shape)!r} where "
                f"this network has {tuple(target.shape)!r}; give the checkpoint of the same "
                "network with the same options."
            )
    with torch.no_grad():
        for name, tensor in state.items():
            _assign(own[prefix + name], tensor)


def _float_part(state: dict[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    """Return the tensors of the float network in a quantized one's state; else the state itself."""
    if not names or names[0] in state:
        return state
    for candidate in state:
        prefix = candidate.removesuffix(names[0])
        if prefix.endswith(".") and all(prefix + name in state for name in names):
            return {name: state[prefix + name] for name in names}
    return state


def _assign(target: Tensor, value: Tensor) -> None:
    # state_dict() hands out tensors that share storage with the module's own.
    target.copy_(value)


def _check_names(names: set[str], expected: set[str], path: Path) -> None:
    missing, extra = sorted(expected - names), sorted(names - expected)
    if missing or extra:
        fault = f"it lacks {missing[0]!r}" if missing else f"it has {extra[0]!r} besides"
        raise ConfigError(
            f"Checkpoint {str(path)!r} is no checkpoint of this network ({fault}); give the "
            "checkpoint.pt of a training of the same network."
        )


def _common_prefix(own: list[str], names: list[str], path: Path) -> str:
    have = set(own)
    for candidate in own:
        if candidate.endswith(names[0]):
            prefix = candidate[: len(candidate) - len(names[0])]
            whole = prefix == "" or prefix.endswith(".")
            if whole and all(prefix + name in have for name in names):
                return prefix
    missing = next((n for n in names if n not in have), names[0])
    raise ConfigError(
        f"Checkpoint {str(path)!r} does not fit the quantized network: it has no tensor "
        f"{missing!r}; give the checkpoint.pt of the float training of the same network."
    )

"""Where a saved state and a network differ, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn


def state_difference(net: nn.Module, state: Mapping[str, Any]) -> str:
    """Name the first tensor in which a state_dict and a network differ.

    To be asked where loading the state was refused.
    """
    own = net.state_dict()
    for name in own:
        if name not in state:
            return f"it lacks {name!r}"
    for name, value in state.items():
        if name not in own:
            return f"it has {name!r} besides"
        shape, wanted = tuple(getattr(value, "shape", ())), tuple(own[name].shape)
        if shape != wanted:
            return f"its {name!r} has shape {shape!r}, the network's {wanted!r}"
    return "its tensors cannot be read into it"

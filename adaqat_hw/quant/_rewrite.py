"""What is changed in a copy of a user's network before it is traced: forms, not functions."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant._attention import Encoder, EncoderLayer, MultiheadAttention

# Each replaces torch's module of its kind; one that somebody changed keeps its own forward.
_REPLACED: tuple[tuple[type[nn.Module], Callable[[Any, str], nn.Module]], ...] = (
    (nn.TransformerEncoder, Encoder),
    (nn.TransformerEncoderLayer, EncoderLayer),
    (nn.MultiheadAttention, MultiheadAttention),
)


def copy_network(net: nn.Module) -> nn.Module:
    """Return a deep copy of a network.

    A weight that a hook computes (torch's older ``weight_norm``) is a tensor with a history,
    which Python's own deep copy refuses.
    """
    computed = (
        value
        for module in net.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    )
    memo = {id(value): value.detach().clone() for value in computed}
    duplicate: nn.Module = copy.deepcopy(net, memo)
    return duplicate


def rewrite(root: nn.Module) -> tuple[nn.Module, list[str]]:
    """Give a network the forms that can be traced, in place; return it and what was done.

    Weight normalization becomes the plain weight that it computes, torch's attention its
    projections and products. In floating point the network computes what it did.

    Raises:
        ConfigError: another reparametrization, or attention with rows added to its keys.
    """
    notes = [note for path, module in root.named_modules() for note in _plain_weights(path, module)]
    paths = [path for path, module in root.named_modules(remove_duplicate=False)]
    twins: dict[nn.Module, nn.Module] = {}
    for path in paths:  # the outer modules come first and hand over the inner ones
        try:
            module = root.get_submodule(path)
        except AttributeError:
            continue  # the module around it has been replaced and has no such part
        kind = _twin_of(module)
        if kind is None:
            continue
        twin = twins.get(module) or kind(module, path).train(module.training)
        twins[module] = twin
        if path:
            root.set_submodule(path, twin)
        else:
            root = twin
    return root, notes


def _twin_of(module: nn.Module) -> Callable[[Any, str], nn.Module] | None:
    for kind, twin in _REPLACED:
        if isinstance(module, kind):
            own = any(getattr(type(module), x) is not getattr(kind, x) for x in _methods(kind))
            return None if own else twin
    return None


def _methods(kind: type[nn.Module]) -> tuple[str, ...]:
    blocks = ("_sa_block", "_ff_block") if kind is nn.TransformerEncoderLayer else ()
    return ("forward", *blocks)


def _plain_weights(path: str, module: nn.Module) -> list[str]:
    """Replace weight normalization of a module; refuse other reparametrizations."""
    normalized = []
    if parametrize.is_parametrized(module):
        # A copy shares the class that torch made for the original, and removing changes the class.
        kind = type(module)
        module.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))
        for name, parts in list(module.parametrizations.items()):  # type: ignore[operator,union-attr]
            for part in parts:
                if not isinstance(part, parametrizations._WeightNorm):
                    _refuse(path, module, name, type(part).__name__.lstrip("_"))
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)
            normalized.append(name)
    for hook in list(module._forward_pre_hooks.values()):
        name = getattr(hook, "name", getattr(hook, "_tensor_name", "weight"))
        if isinstance(hook, WeightNorm):
            remove_weight_norm(module, name)
            normalized.append(name)
        elif type(hook).__module__.startswith("torch.nn.utils"):
            _refuse(path, module, name, type(hook).__name__)
    return [
        f"{type(module).__name__} {path!r} had weight normalization of its {name}; it was removed, "
        f"and the {name} that it computed is trained as a plain one."
        for name in normalized
    ]


def _refuse(path: str, module: nn.Module, name: str, kind: str) -> None:
    raise ConfigError(
        f"Module {path!r} ({type(module).__name__}) computes its {name} by {kind}, which a "
        f"quantizer of the plain {name} would not keep; remove it from the network first "
        "(torch.nn.utils), or use weight_norm, which is removed by itself."
    )

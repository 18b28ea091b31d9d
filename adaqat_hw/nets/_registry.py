"""Register networks by name and build them from a configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ConfigDict, Field, ValidationError
from torch import nn

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import NetworkConfig, Record, first_fault


class Options(Record):
    """Options that every network takes; subclass it to add a network's own.

    ``input_shape`` is (channels, height, width) without the batch dimension, or (features,).
    ``head_bias`` gives the last linear layer a bias. Values are not converted: an option that
    takes an integer refuses ``"3"`` and ``true``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    input_shape: tuple[int, ...] = Field(min_length=1)
    num_classes: int = Field(default=10, ge=2)
    head_bias: bool = True


@dataclass(frozen=True)
class NetworkInfo:
    """What a network takes and gives; ``options`` maps each option to its value."""

    name: str
    input_shape: tuple[int, ...]
    num_classes: int
    description: str
    options: dict[str, Any]


_AnyOptions = TypeVar("_AnyOptions", bound=Options)


@dataclass(frozen=True)
class _Entry:
    options: type[Options]
    builder: Callable[[Any], nn.Module]
    description: str


_REGISTRY: dict[str, _Entry] = {}


def register(
    name: str, *, options: type[_AnyOptions], description: str
) -> Callable[[Callable[[_AnyOptions], nn.Module]], Callable[[_AnyOptions], nn.Module]]:
    """Register the decorated builder, which takes an instance of ``options``, as ``name``.

    Raises:
        ConfigError: the name is taken.
    """

    def decorate(builder: Callable[[_AnyOptions], nn.Module]) -> Callable[..., nn.Module]:
        if name in _REGISTRY:
            raise ConfigError(
                f"A network named {name!r} is registered already; choose another name."
            )
        _REGISTRY[name] = _Entry(options, builder, description)
        return builder

    return decorate


def names() -> tuple[str, ...]:
    """Return the names of all registered networks, sorted."""
    return tuple(sorted(_REGISTRY))


def build(config: NetworkConfig) -> nn.Module:
    """Build a float network with freshly drawn (Kaiming) weights, in training mode.

    Draws from torch's global generator: seed it first for a reproducible network.

    Raises:
        ConfigError: unknown network, unknown option or a value that does not fit.
    """
    options = _options(config)
    try:
        return _entry(config.name).builder(options)
    except ValueError as exc:
        raise ConfigError(f"Network {config.name!r}: {exc}.") from exc


def info(network: str | NetworkConfig) -> NetworkInfo:
    """Describe a network: by name with its default options, or as configured.

    Raises:
        ConfigError: unknown network, unknown option or a value that does not fit.
    """
    config = NetworkConfig(name=network) if isinstance(network, str) else network
    options = _options(config)
    return NetworkInfo(
        name=config.name,
        input_shape=options.input_shape,
        num_classes=options.num_classes,
        description=_entry(config.name).description,
        options=options.model_dump(),
    )


def _entry(name: str) -> _Entry:
    try:
        return _REGISTRY[name]
    except KeyError:
        raise ConfigError(
            f"Unknown network {name!r}; choose one of {', '.join(names())}."
        ) from None


def _options(config: NetworkConfig) -> Options:
    kind = _entry(config.name).options
    unknown = sorted(set(config.options) - set(kind.model_fields))
    if unknown:
        raise ConfigError(
            f"Network {config.name!r} has no option {unknown[0]!r}; "
            f"it takes {', '.join(sorted(kind.model_fields))}."
        )
    try:
        return kind.model_validate(config.options)
    except ValidationError as exc:
        raise ConfigError(f"Network {config.name!r}: option {first_fault(exc)}") from exc

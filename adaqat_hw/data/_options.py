"""The options of a data set, checked against what it takes."""

from __future__ import annotations

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import DataConfig

Option = int | str | bool | tuple[str, ...]


def refuse_options(config: DataConfig, allowed: tuple[str, ...] = ()) -> None:
    """Refuse options that the data set does not have.

    Raises:
        ConfigError: an option is none of ``allowed``.
    """
    for key in config.options:
        if key not in allowed:
            takes = f"takes {', '.join(allowed)}" if allowed else "takes no options"
            raise ConfigError(
                f"data.options.{key} is unknown: the data set {config.name!r} {takes}."
            )


def refuse_augment(config: DataConfig) -> None:
    """Refuse ``augment`` for samples that crops and flips do not keep.

    Raises:
        ConfigError: augment is True.
    """
    if config.augment:
        raise ConfigError(
            f"The data set {config.name!r} cannot be augmented by crops and flips, but "
            "data.augment is True; remove it."
        )


def integer(config: DataConfig, key: str, default: int, least: int, most: int) -> int:
    """Return the integer option ``key``.

    Raises:
        ConfigError: another type, or not from ``least`` to ``most``.
    """
    value = config.options.get(key, default)
    if type(value) is not int or not least <= value <= most:
        raise ConfigError(
            f"data.options.{key} = {value!r} of the data set {config.name!r} must be an integer "
            f"from {least} to {most}."
        )
    return value


def texts(config: DataConfig, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
    """Return the option ``key``, a list of at least two different texts.

    Raises:
        ConfigError: another type, fewer than two, or one given twice.
    """
    value = config.options.get(key, default)
    if not isinstance(value, tuple) or len(value) < 2 or len(set(value)) != len(value):
        raise ConfigError(
            f"data.options.{key} = {value!r} of the data set {config.name!r} must be a list of at "
            "least two different names."
        )
    return value

"""Rebuild the quantized network of a finished training from its folder."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adaqat_hw import nets
from adaqat_hw.errors import ConfigError
from adaqat_hw.quant import QuantizedNetwork, quantize, state_difference
from adaqat_hw.run import TrainFolder
from adaqat_hw.schema import BitWidthPlan, RunConfig, TrainResult


@dataclass(frozen=True)
class Trained:
    """A trained, quantized network in evaluation mode with its plan."""

    net: QuantizedNetwork
    plan: BitWidthPlan
    result: TrainResult


def load_trained(config: RunConfig, folder: Path) -> Trained:
    """Rebuild the network of a finished training from its records and weights.

    Raises:
        ConfigError: the training is not finished, was in full precision, or its files are
            damaged or of another network.
    """
    result = TrainResult.read(TrainFolder(folder).result)
    if result.plan is None:
        raise ConfigError(
            f"The training in {str(folder)!r} is in full precision ({result.mode!r}) and has no "
            "integers to export; export a variant with bit-widths."
        )
    if result.network != config.network.name:
        raise ConfigError(
            f"The training in {str(folder)!r} is of network {result.network!r}, the configuration "
            f"names {config.network.name!r}; give the configuration it was trained with."
        )
    plan = BitWidthPlan.read(folder / result.plan)
    if plan.digest() != result.plan_digest:
        raise ConfigError(
            f"{str(folder / result.plan)!r} was changed after training (digest {plan.digest()}, "
            f"trained with {result.plan_digest}); train at the edited plan instead of exporting "
            "it: 'adaqat-hw train CONFIG --plan FILE'."
        )
    info = nets.info(config.network)
    with torch.random.fork_rng(devices=[]):
        net = quantize(
            nets.build(config.network),
            config.quant,
            input_shape=info.input_shape,
            name=info.name,
            num_classes=info.num_classes,
        )
    _load_weights(net, folder / result.checkpoint)
    net.apply_plan(plan)
    return Trained(net.eval(), plan, result)


def _load_weights(net: QuantizedNetwork, path: Path) -> None:
    state = _read_state(path)
    try:
        net.load_state_dict(state, strict=True)
    except (RuntimeError, KeyError, ValueError) as exc:
        raise ConfigError(
            f"Checkpoint {str(path)!r} does not fit this network: {state_difference(net, state)}; "
            "train again, or give the configuration it was trained with."
        ) from exc


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ConfigError(f"Checkpoint {str(path)!r} does not exist; train it first.") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as exc:
        raise ConfigError(
            f"Checkpoint {str(path)!r} is damaged or no checkpoint; delete it and train again."
        ) from exc
    if not isinstance(state, Mapping):
        raise ConfigError(
            f"Checkpoint {str(path)!r} holds no state_dict; delete it and train again."
        )
    return dict(state)

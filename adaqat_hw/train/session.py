"""State of one training: network, optimizer, controller, random state; saved together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adaqat_hw import nets
from adaqat_hw.data import DataSource
from adaqat_hw.errors import ConfigError
from adaqat_hw.quant import Binding, QuantizedNetwork, bind, copy_network, network_spec, quantize
from adaqat_hw.schema import NetworkSpec, RunConfig, TrainConfig
from adaqat_hw.train.average import WeightAverage
from adaqat_hw.train.checkpoint import FORMAT, load_into, load_resume
from adaqat_hw.train.finetune import load_float_weights
from adaqat_hw.train.schedule import Schedule, make_schedule
from adaqat_hw.train.variant import Variant
from adaqat_hw.train.world import World

_SEED_STRIDE = 1_000_003


@dataclass
class Session:
    """Network, optimizer, controller, random state and position of one training.

    ``epoch`` counts finished epochs, ``step`` finished optimizer updates, ``seconds`` the time
    spent before this process.
    """

    net: nn.Module
    spec: NetworkSpec
    schedule: Schedule
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    binding: Binding | None
    world: World
    average: WeightAverage | None = None
    epoch: int = 0
    step: int = 0
    log_lines: int = 0
    seconds: float = 0.0

    @property
    def quantized(self) -> QuantizedNetwork | None:
        """The network when it is quantized, else None."""
        return self.net if isinstance(self.net, QuantizedNetwork) else None

    def state(self, digest: str) -> dict[str, Any]:
        """Return all that a resumed training needs, as tensors and plain values. Collective."""
        return {
            "format": FORMAT,
            "digest": digest,
            "epoch": self.epoch,
            "step": self.step,
            "log_lines": self.log_lines,
            "seconds": self.seconds,
            "net": dict(self.net.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "controller": self.binding.state_dict() if self.binding else None,
            "random": self.world.gather(_random_state(self.world.device)),
            "generator": self.generator.get_state(),
        }


def open_session(
    config: RunConfig,
    variant: Variant,
    dataset: DataSource,
    init_checkpoint: Path | None,
    world: World,
    own: nn.Module | None = None,
) -> Session:
    """Make a session at step 0 on the world's device. Seeds torch's global generator.

    ``own`` is a network with weights to train in place of a registered one.

    Raises:
        ConfigError: network and data do not fit, or the configuration is impossible.
    """
    if own is None:
        _check_fit(config, nets.info(config.network), dataset)
    torch.manual_seed(config.seed)
    reference = nets.build(config.network) if own is None else copy_network(own)
    shape = dataset.input_shape
    names: dict[str, Any] = {"name": config.network.name, "num_classes": dataset.num_classes}
    spec = network_spec(reference, shape, **names)
    learned = config.adaqat if variant.mode == "adaqat" else None
    schedule = make_schedule(config.train, dataset.train_size, learned)
    net, binding = reference, None
    if variant.mode != "float":
        net = quantize(reference, config.quant, input_shape=shape, **names)
        spec = net.spec
    if init_checkpoint is not None:
        load_float_weights(net, reference, init_checkpoint)
    if isinstance(net, QuantizedNetwork):
        binding = _set_widths(net, config, variant)
    if world.rank:
        # Each process draws its own dropout; the initial weights are everywhere the same.
        torch.manual_seed(config.seed + _SEED_STRIDE * world.rank)
    net = net.to(world.device).train()
    decay = config.train.ema_decay
    return Session(
        net=net,
        spec=spec,
        schedule=schedule,
        optimizer=_optimizer(net, config.train),
        generator=torch.Generator().manual_seed(config.seed),
        binding=binding,
        world=world,
        average=None if decay is None else WeightAverage(net, decay),
    )


def restore(session: Session, config: RunConfig, path: Path, digest: str) -> None:
    """Bring a fresh session to the state of ``path``, bit for bit on the same kind of device.

    With another number of processes than before, dropout alone draws other numbers.

    Raises:
        ConfigError: the file is damaged or of another training.
    """
    state = load_resume(path, digest)
    try:
        load_into(session.net, state["net"], path)
        # Brevitas rebuilds quantizers while it loads, on the CPU; the optimizer must hold the
        # new tensors.
        session.net.to(session.world.device)
        session.optimizer = _optimizer(session.net, config.train)
        session.optimizer.load_state_dict(state["optimizer"])
        if session.average is not None:
            session.average.load_state_dict(state["average"])
        if session.binding is not None:
            session.binding.load_state_dict(state["controller"])
            session.binding.apply()
        if session.world.rank < len(state["random"]):
            _set_random_state(state["random"][session.world.rank], session.world.device)
        session.generator.set_state(state["generator"])
        session.epoch, session.step = int(state["epoch"]), int(state["step"])
        session.log_lines, session.seconds = int(state["log_lines"]), float(state["seconds"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as exc:
        raise ConfigError(
            f"{str(path)!r} lacks a part of the resume state or holds a wrong one ({exc}); delete "
            "it and train again."
        ) from exc


def _random_state(device: torch.device) -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def _check_fit(config: RunConfig, info: nets.NetworkInfo, dataset: DataSource) -> None:
    if tuple(dataset.input_shape) != tuple(info.input_shape):
        raise ConfigError(
            f"Network {config.network.name!r} takes inputs of shape {tuple(info.input_shape)!r}, "
            f"data set {config.data.name!r} gives {tuple(dataset.input_shape)!r}; set "
            "network.options.input_shape or choose another network."
        )
    if dataset.num_classes != info.num_classes:
        raise ConfigError(
            f"Network {config.network.name!r} has {info.num_classes!r} outputs, data set "
            f"{config.data.name!r} has {dataset.num_classes!r} classes; set "
            "network.options.num_classes."
        )
    letters = info.options.get("vocabulary")
    if dataset.vocabulary is not None and letters is not None and letters < dataset.vocabulary:
        raise ConfigError(
            f"Network {config.network.name!r} has a vocabulary of {letters!r}, data set "
            f"{config.data.name!r} one of {dataset.vocabulary!r}; set network.options.vocabulary "
            "to at least that."
        )


def _set_widths(net: QuantizedNetwork, config: RunConfig, variant: Variant) -> Binding | None:
    if variant.mode == "adaqat":
        return bind(net, config.adaqat)
    if variant.plan is not None:
        net.apply_plan(variant.plan)
    elif variant.bits is not None:
        bits = variant.bits
        plan = net.uniform_plan(bits.weights, bits.acts, ends=bits.ends, input_bits=bits.input)
        net.apply_plan(plan)
    return None


def _optimizer(net: nn.Module, train: TrainConfig) -> torch.optim.Optimizer:
    # foreach: one call for all parameters, in the same arithmetic as one by one.
    groups = _parameter_groups(net, train)
    if train.optimizer in ("adam", "adamw"):
        kind = torch.optim.AdamW if train.optimizer == "adamw" else torch.optim.Adam
        return kind(groups, lr=train.lr, weight_decay=train.weight_decay, foreach=True)
    return torch.optim.SGD(
        groups,
        lr=train.lr,
        momentum=train.momentum,
        weight_decay=train.weight_decay,
        nesterov=train.nesterov,
        foreach=True,
    )


def _parameter_groups(net: nn.Module, train: TrainConfig) -> list[dict[str, Any]]:
    """Return what decays and what does not.

    Only weights of layers and embeddings decay where ``decay`` is ``"weights"``: decay would pull
    a clip below the range of its data, and a bias, or what normalizes, to where nothing is learned.
    """
    if train.decay == "all":
        return [{"params": list(net.parameters())}]
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)
    decaying = {id(module.weight) for module in net.modules() if isinstance(module, kinds)}
    groups = [
        [p for p in net.parameters() if id(p) in decaying],
        [p for p in net.parameters() if id(p) not in decaying],
    ]
    kept = {"weight_decay": 0.0}
    return [{"params": groups[0]}, {"params": groups[1], **kept}]

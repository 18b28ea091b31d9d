"""Configuration of a run, read from TOML. Every key has a documented default or is required."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema._base import Record, first_fault
from adaqat_hw.schema.build import Env, Goal
from adaqat_hw.schema.hardware import ImplChoice
from adaqat_hw.schema.throughput import DEFAULT_FILL, ThroughputRequest

EndMode = Literal["fixed", "learned"]
# Real frames that the flow keeps with their golden outputs (flows/golden.py).
GOLDEN_FRAMES = 128
# Keys of [build] that each ask for a throughput; at most one of them is given.
THROUGHPUT_KEYS = ("fps", "fit", "folding", "unfolded")
# Keys that were renamed: where they were, and what they are now.
_RENAMED = {("build", "target_fps"): ("fps", "the cheapest folding of so many frames per second")}


class NetworkConfig(Record):
    """Which network, and what its builder takes."""

    name: str
    options: dict[str, int | float | str | bool | tuple[int, ...]] = {}


class DataConfig(Record):
    """Which data set; ``path`` is where its files lie (bundled sets need none).

    ``options`` are the data set's own. ``workers`` processes read images that do not lie in
    memory (image folders).
    """

    name: str
    path: str | None = None
    options: dict[str, int | str | bool | tuple[str, ...]] = {}
    augment: bool = False
    limit_train: int | None = Field(default=None, gt=0)
    limit_test: int | None = Field(default=None, gt=0)
    workers: int = Field(default=0, ge=0)


class TrainConfig(Record):
    """Schedule of the weights: a cosine learning rate after ``lr_warmup_epochs`` of linear rise.

    ``init`` is a full-precision checkpoint to fine-tune from, or the word ``"float"`` for the
    run's own full-precision baseline; None trains from scratch. ``teacher`` names a
    full-precision checkpoint in the same way, to distil from: ``distill_weight`` of the loss is
    then the divergence from its outputs at ``distill_temperature``. ``device`` is ``auto`` (a
    GPU where there is one), ``cpu``, ``cuda`` or ``cuda:1``. ``precision`` ``bfloat16`` runs
    forward and backward passes of training in mixed precision; accuracies are always measured in
    float32. ``compile`` hands the network to torch.compile. ``batch_size`` is the sum over all
    processes that torchrun started.
    """

    epochs: int = Field(default=20, gt=0)
    batch_size: int = Field(default=128, gt=0)
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = Field(default=0.1, gt=0)
    lr_warmup_epochs: float = Field(default=0.0, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=1e-4, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    init: str | None = None
    teacher: str | None = None
    distill_weight: float = Field(default=0.5, gt=0, le=1)
    distill_temperature: float = Field(default=4.0, gt=0)
    checkpoint_every: int = Field(default=1, gt=0)
    recalibrate_batches: int = Field(default=20, ge=0)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    tensorboard: bool = False
    threads: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise ValueError(
                f"nesterov = true with optimizer {self.optimizer!r} and momentum "
                f"{self.momentum!r}: it belongs to optimizer 'sgd' with a momentum above 0; "
                "change one of them"
            )
        return self


class QuantConfig(Record):
    """Quantizers and the widths of the network's ends.

    ``ends`` is how the first and the last layer get their widths: ``fixed`` at
    ``end_weight_bits`` / ``end_act_bits`` (the paper: 8/8) or ``learned`` with the others.
    ``input_bits`` is the width of the network's input quantizer (the first layer's
    activations), ``input_range`` its clip in input units.
    """

    ends: EndMode = "fixed"
    end_weight_bits: int = Field(default=8, ge=2, le=8)
    end_act_bits: int = Field(default=8, ge=1, le=8)
    input_bits: int = Field(default=8, ge=1, le=8)
    input_signed: bool = True
    input_range: float = Field(default=1.0, gt=0)
    weight_scaling: Literal["per_channel", "per_tensor"] = "per_channel"
    act_clip: float = Field(default=6.0, gt=0)


class AdaqatConfig(Record):
    """The AdaQAT controller (arXiv 2404.16876; defaults as documented in docs/adaqat.md).

    ``granularity``: one pair of widths for the network (the paper), one per layer, or one per
    entry of ``groups``, which maps a group's name to patterns of layer names (this project's
    extensions). Layers that match none of ``learn`` keep ``other_bits``. Probes run every
    ``probe_every`` steps with learning rates scaled by it, ``probes_per_step`` widths in turn
    (all of them by default), on the first ``probe_samples`` samples of the batch (all by default).
    A width moves to another integer only ``hysteresis`` beyond the boundary. One that flipped
    ``oscillations`` times between the same two integers, over at least ``dwell`` steps, freezes:
    with ``freeze`` ``larger`` to the larger one (the paper), with ``marginal`` to the one that
    the averaged gradient wants. Widths do not move during ``warmup_epochs``; ``freeze_at`` is the
    fraction of the schedule after which every width is frozen whatever it does.

    ``budget_bitops`` (of the whole network, per sample) or ``budget_compression`` (32-bit weights
    over the plan's, all layers) replaces a fixed ``hardware_lambda``: it is then only the start of
    a lambda that is driven until the frozen plan meets the budget.
    """

    granularity: Literal["network", "layer", "group"] = "network"
    groups: dict[str, tuple[str, ...]] = {}
    learn: tuple[str, ...] = ("*",)
    other_bits: str = "8/8"
    initial_bits: float = Field(default=8.0, ge=1, le=8)
    min_weight_bits: int = Field(default=2, ge=2, le=8)
    min_act_bits: int = Field(default=2, ge=1, le=8)
    max_bits: int = Field(default=8, ge=2, le=8)
    lr_weights: float = Field(default=1e-3, gt=0)
    lr_acts: float = Field(default=5e-4, gt=0)
    hardware_lambda: float = Field(default=0.15, ge=0)
    budget_bitops: float | None = Field(default=None, gt=0)
    budget_compression: float | None = Field(default=None, gt=1)
    oscillations: int = Field(default=10, gt=0)
    dwell: int = Field(default=20, ge=0)
    hysteresis: float = Field(default=0.0, ge=0, lt=0.5)
    freeze: Literal["larger", "marginal"] = "larger"
    probe_every: int = Field(default=1, gt=0)
    probes_per_step: int | None = Field(default=None, gt=0)
    probe_samples: int | None = Field(default=None, gt=1)
    gradient_ema: float = Field(default=0.0, ge=0, lt=1)
    warmup_epochs: int = Field(default=0, ge=0)
    freeze_at: float = Field(default=0.7, gt=0, le=1)

    @field_validator("other_bits")
    @classmethod
    def _pair(cls, value: str) -> str:
        parse_bits(value)
        return value

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if self.budget_bitops is not None and self.budget_compression is not None:
            raise ValueError(
                "budget_bitops and budget_compression exclude each other; give one of them"
            )
        if (self.granularity == "group") != bool(self.groups):
            raise ValueError(
                f"granularity {self.granularity!r} with groups {sorted(self.groups)!r}: groups "
                "belong to granularity 'group', and it needs at least one"
            )
        return self

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if max(self.min_weight_bits, self.min_act_bits) > self.max_bits:
            raise ValueError(
                f"min_weight_bits {self.min_weight_bits} and min_act_bits {self.min_act_bits} "
                f"must not exceed max_bits {self.max_bits}"
            )
        if self.initial_bits > self.max_bits:
            raise ValueError(
                f"initial_bits {self.initial_bits} must not exceed max_bits {self.max_bits}"
            )
        return self


class CompareConfig(Record):
    """Uniform plans to set beside the learned one, as ``weights/activations``."""

    uniform: tuple[str, ...] = ("8/8", "4/4")

    @field_validator("uniform")
    @classmethod
    def _pairs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pair in value:
            parse_bits(pair)
        return value


class BuildConfig(Record):
    """The accelerator: board, clock, throughput and how each MVAU is built.

    At most one of the four throughputs: ``fps``, the cheapest folding of at least so many frames
    per second at ``clock_ns``; ``fit``, the fastest folding; ``folding``, PE and SIMD by hardware
    node name; ``unfolded``, PE = SIMD = 1. None of them is PE = SIMD = 1 as well, and the build
    says so. ``fill`` is the share of the board that ``fps`` (1 by default) or ``fit`` (0.7) may
    take.

    ``frames`` real test frames are simulated without stalls, ``stall_frames`` of each
    kind with each stall pattern. ``size_fifos`` finds FIFO depths by simulation; without it
    all are ``fifo_depth`` deep. ``synthesize_whole`` synthesizes the whole design as one beside
    its layers; None does where that is a matter of minutes.
    """

    board: str
    clock_ns: float | None = Field(default=None, gt=0)
    goal: Goal = "rtl"
    env: Env = "local"
    fps: int | None = Field(default=None, gt=0)
    fit: bool = False
    fill: float | None = Field(default=None, gt=0, le=1)
    folding: dict[str, dict[str, int]] = {}
    unfolded: bool = False
    impl: ImplChoice = "auto"
    impl_per_layer: dict[str, ImplChoice] = {}
    fifo_depth: int = Field(default=2, ge=2)
    size_fifos: bool = True
    frames: int = Field(default=100, gt=0, le=GOLDEN_FRAMES)
    stall_frames: int = Field(default=20, ge=0, le=GOLDEN_FRAMES)
    synthesize: bool = True
    synthesize_whole: bool | None = None

    @model_validator(mode="after")
    def _one_throughput(self) -> Self:
        asked = [name for name in THROUGHPUT_KEYS if getattr(self, name)]
        if len(asked) > 1:
            raise ValueError(
                f"{' and '.join(asked)} are {len(asked)} throughputs; give one of them"
            )
        if self.fill is not None and asked not in (["fps"], ["fit"]):
            raise ValueError(
                f"fill {self.fill!r} says how much of the board fps or fit may take; give one"
            )
        return self

    @property
    def throughput(self) -> ThroughputRequest:
        """What is asked of the throughput."""
        if self.fps is not None:
            return ThroughputRequest(kind="fps", fps=self.fps, fill=self.fill or 1.0)
        if self.fit:
            return ThroughputRequest(kind="fit", fill=self.fill or DEFAULT_FILL)
        if self.folding:
            return ThroughputRequest(kind="folding")
        return ThroughputRequest(kind="unfolded" if self.unfolded else "default")


class RunConfig(Record):
    """A whole run: one network learned, exported, built and compared."""

    name: str
    seed: int = Field(default=0, ge=0)
    network: NetworkConfig
    data: DataConfig
    train: TrainConfig = TrainConfig()
    quant: QuantConfig = QuantConfig()
    adaqat: AdaqatConfig = AdaqatConfig()
    compare: CompareConfig = CompareConfig()
    build: BuildConfig | None = None

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
            raise ValueError(
                "a run's name is 1 to 64 letters, digits, '.', '_' or '-', and starts with a "
                "letter or digit"
            )
        return value


def parse_bits(text: str) -> tuple[int, int]:
    """Return (weight bits, activation bits) of text such as ``"3/4"``.

    Raises:
        ValueError: not two integers from 1 to 32 with a slash between them.
    """
    match = re.fullmatch(r"(\d{1,2})/(\d{1,2})", text.strip())
    if match is None:
        raise ValueError(f"bit-widths {text!r} must read WEIGHTS/ACTIVATIONS, such as 3/4")
    weights, acts = int(match[1]), int(match[2])
    for bits in (weights, acts):
        if not 1 <= bits <= 32:
            raise ValueError(f"bit-width {bits} in {text!r} must lie between 1 and 32")
    return weights, acts


def load_config(path: Path, overrides: tuple[str, ...] = ()) -> RunConfig:
    """Read a run configuration; ``overrides`` are ``key.sub=value`` with TOML values.

    Raises:
        ConfigError: the file is missing, is no TOML, or a key or value is wrong.
    """
    try:
        body: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"Configuration {str(path)!r} does not exist; the shipped ones lie in configs/."
        ) from None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"Configuration {str(path)!r} cannot be read: {exc}.") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"Configuration {str(path)!r} is not valid TOML: {exc}.") from exc
    for item in overrides:
        _override(body, item)
    return parse_config(body, str(path))


def parse_config(body: dict[str, Any], source: str) -> RunConfig:
    """Validate a configuration given as a dictionary; ``source`` names it in errors."""
    try:
        return RunConfig.model_validate(body)
    except ValidationError as exc:
        for err in exc.errors():
            if err["type"] == "extra_forbidden":
                where = ".".join(str(x) for x in err["loc"])
                if err["loc"] in _RENAMED:
                    name, meaning = _RENAMED[err["loc"]]
                    raise ConfigError(
                        f"{source}: {where!r} = {err['input']!r} is named {name!r} now: {meaning}, "
                        "by measured costs."
                    ) from exc
                allowed = _allowed_keys(tuple(err["loc"][:-1]))
                raise ConfigError(
                    f"{source}: unknown key {where!r}; allowed here: {', '.join(allowed)}."
                ) from exc
        raise ConfigError(f"{source}: {first_fault(exc)}") from exc


def _allowed_keys(location: tuple[int | str, ...]) -> list[str]:
    model: Any = RunConfig
    for part in location:
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        if field is None:
            return ["(see docs/configuration.md)"]
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((k for k in kinds if hasattr(k, "model_fields")), None)
    return sorted(model.model_fields) if model is not None else []


def _override(body: dict[str, Any], item: str) -> None:
    key, sep, text = item.partition("=")
    if not sep or not re.fullmatch(r"[A-Za-z_][\w.]*", key.strip()):
        raise ConfigError(f"--set {item!r} must read key=value, such as train.epochs=30.")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = key.strip().split(".")
    node = body
    for part in parents:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {item!r}: {part!r} is not a table of the configuration.")
    node[last] = value

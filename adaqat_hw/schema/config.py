"""Configuration of a run, read from TOML. Every key has a documented default or is required."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PlainValidator, ValidationError, field_validator, model_validator

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema._base import Record, first_fault
from adaqat_hw.schema.adaqat import AdaqatConfig, refuse_moved_keys
from adaqat_hw.schema.build import DEFAULT_BACKEND, Env, Goal
from adaqat_hw.schema.hardware import ImplChoice
from adaqat_hw.schema.throughput import DEFAULT_FILL, ThroughputRequest
from adaqat_hw.schema.uniform import UniformWidths

EndMode = Literal["fixed", "learned"]
CompileMode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
# Real frames that the flow keeps with their golden outputs (flows/golden.py).
GOLDEN_FRAMES = 128
# Keys of [build] that each ask for a throughput; at most one of them is given.
THROUGHPUT_KEYS = ("fps", "fit", "folding", "unfolded")
# Keys that were renamed: where they were, and what they are now.
_RENAMED = {("build", "target_fps"): ("fps", "the cheapest folding of so many frames per second")}


def _join_bits(value: Any) -> Any:
    if value == "acts" or (type(value) is int and 2 <= value <= 8):
        return value
    raise ValueError("must be an integer from 2 to 8, or 'acts' for the width of the activations")


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

    With ``restart_at``, a fraction of the schedule, the cosine ends there and starts again from
    ``restart_lr``. In the last ``frozen_norm_epochs`` epochs batch norm uses its running
    statistics, as it does afterwards.

    ``weight_decay`` applies to the ``weights`` of layers, or to ``all`` parameters: clips, batch
    norm and biases too.

    ``init`` is a full-precision checkpoint to fine-tune from, or the word ``"float"`` for the
    run's own full-precision baseline; None trains from scratch. ``teacher`` names a
    full-precision checkpoint in the same way, to distil from: ``distill_weight`` of the loss is
    then the divergence from its outputs at ``distill_temperature``. ``device`` is ``auto`` (a
    GPU where there is one), ``cpu``, ``cuda`` or ``cuda:1``. ``precision`` ``bfloat16`` runs
    forward and backward passes of training in mixed precision, ``tf32`` lets a GPU round the
    inputs of convolutions and matrix products to TensorFloat-32; accuracies are always measured
    in float32, without either. ``ema_decay`` averages the weights: a moving average with this
    decay per step is measured and kept as the final network, and starts anew where a width
    changes; None keeps the weights themselves. ``compile`` hands the network to torch.compile, in
    the mode ``compile_mode`` where one is given. ``batch_size`` is the sum over all processes
    that torchrun started.

    The test split is evaluated every ``eval_every`` epochs and after the last one. A training can
    resume from every ``checkpoint_every``-th epoch; where that is None, from an epoch that ended
    at least a minute after the last one kept, and from the one in which the widths froze.
    """

    epochs: int = Field(default=20, gt=0)
    batch_size: int = Field(default=128, gt=0)
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    lr_warmup_epochs: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    restart_at: float | None = Field(default=None, gt=0, lt=1)
    restart_lr: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    frozen_norm_epochs: int = Field(default=0, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=1e-4, ge=0, allow_inf_nan=False)
    decay: Literal["weights", "all"] = "weights"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    init: str | None = None
    teacher: str | None = None
    distill_weight: float = Field(default=0.5, gt=0, le=1)
    distill_temperature: float = Field(default=4.0, gt=0, allow_inf_nan=False)
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    eval_every: int = Field(default=1, gt=0)
    checkpoint_every: int | None = Field(default=None, gt=0)
    recalibrate_batches: int = Field(default=20, ge=0)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    compile: bool = False
    compile_mode: CompileMode | None = None
    tensorboard: bool = False
    threads: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _restart_is_whole(self) -> Self:
        if (self.restart_at is None) != (self.restart_lr is None):
            raise ValueError(
                f"restart_at = {self.restart_at!r} with restart_lr = {self.restart_lr!r}: a "
                "restart needs both; give the other one or leave this one out"
            )
        if self.frozen_norm_epochs >= self.epochs:
            raise ValueError(
                f"frozen_norm_epochs = {self.frozen_norm_epochs!r} takes all of {self.epochs} "
                "epochs, so batch norm would never see its statistics; lower it or raise epochs"
            )
        return self

    @model_validator(mode="after")
    def _mode_needs_compile(self) -> Self:
        if self.compile_mode is not None and not self.compile:
            raise ValueError(
                f"compile_mode = {self.compile_mode!r} with compile = false: it says how "
                "torch.compile works; set compile = true or leave compile_mode out"
            )
        return self

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
    ``input`` is how the network's input quantizer (the first layer's activations) gets its width:
    ``fixed`` at ``input_bits``, or ``learned``, then at most ``input_bits``; None does as
    ``ends``. ``input_range`` is its clip in input units, which is never learned.

    ``weight_range`` is what the largest integer of a weight stands for, per output channel or per
    tensor (``weight_scaling``): ``sigma``, as many root mean squares as lose least at the present
    width, but at most the largest magnitude; ``learned``, a parameter that starts there;
    ``absmax``, the largest magnitude. ``calibrate`` fits the activations' clips to data, at the
    start and when their width changes; without it they start at ``act_clip``. ``clip_gradient``
    says whether their gradients are ``scaled`` as those of learned steps or ``plain``.
    ``join_bits`` is the width of residual sums; ``"acts"`` gives them that of the activations.
    """

    ends: EndMode = "fixed"
    input: EndMode | None = None
    end_weight_bits: int = Field(default=8, ge=2, le=8)
    end_act_bits: int = Field(default=8, ge=1, le=8)
    input_bits: int = Field(default=8, ge=1, le=8)
    input_signed: bool = True
    input_range: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    weight_scaling: Literal["per_channel", "per_tensor"] = "per_channel"
    weight_range: Literal["sigma", "learned", "absmax"] = "sigma"
    act_clip: float = Field(default=6.0, gt=0, allow_inf_nan=False)
    calibrate: bool = True
    clip_gradient: Literal["scaled", "plain"] = "plain"
    join_bits: Annotated[int | Literal["acts"], PlainValidator(_join_bits)] = 6

    @property
    def learns_input(self) -> bool:
        """Whether the width of the network's input is learned."""
        return (self.input or self.ends) == "learned"


class CompareConfig(Record):
    """Uniform plans to set beside the learned one, as ``weights/activations``.

    ``ends W/A`` and ``input BITS`` may follow, in this order, in place of what ``[quant]`` says
    of the ends and the input: ``2/2 ends 2/3 input 3``.
    """

    uniform: tuple[str, ...] = ("8/8", "4/4")

    @field_validator("uniform")
    @classmethod
    def _widths(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            UniformWidths.parse(text)
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
    its layers; None does where that is a matter of minutes. ``backend`` compiles the network.
    """

    board: str
    clock_ns: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    goal: Goal = "rtl"
    env: Env = "local"
    backend: str = DEFAULT_BACKEND
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
    """A whole run: one network learned, exported, built and compared.

    ``[float_train]`` is the schedule of the full-precision variant, in place of ``[train]`` as a
    whole: keys that it leaves out have their defaults. Version 2: ``[adaqat]`` holds ``probing``,
    ``freeze`` and ``budget``.
    """

    schema_version: ClassVar[int] = 2
    remedy: ClassVar[str] = (
        "another release made the run; start it again with 'adaqat-hw run CONFIG' under another "
        "name, or delete its folder first"
    )

    name: str
    seed: int = Field(default=0, ge=0)
    network: NetworkConfig
    data: DataConfig
    train: TrainConfig = TrainConfig()
    float_train: TrainConfig | None = None
    quant: QuantConfig = QuantConfig()
    adaqat: AdaqatConfig = AdaqatConfig()
    compare: CompareConfig = CompareConfig()
    build: BuildConfig | None = None

    def in_full_precision(self) -> Self:
        """Return the run as its full-precision variant trains."""
        if self.float_train is None:
            return self
        return self.model_copy(update={"train": self.float_train, "float_train": None})

    @model_validator(mode="after")
    def _full_precision_starts_from_nothing(self) -> Self:
        for key in ("init", "teacher"):
            value = getattr(self.float_train, key, None)
            if value is not None:
                raise ValueError(
                    f"float_train.{key} = {value!r}: full precision is trained from scratch and "
                    "without a teacher; leave the key out"
                )
        return self

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
            raise ValueError(
                "a run's name is 1 to 64 letters, digits, '.', '_' or '-', and starts with a "
                "letter or digit"
            )
        return value


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
    try:
        refuse_moved_keys(body.get("adaqat"))
    except ConfigError as exc:
        raise ConfigError(f"{path}: {exc}") from exc
    for override in overrides:
        _override(body, override)
    return parse_config(body, str(path))


def parse_config(body: dict[str, Any], source: str) -> RunConfig:
    """Validate a configuration given as a dictionary; ``source`` names it in errors."""
    try:
        return RunConfig.model_validate(body)
    except ConfigError as exc:
        raise ConfigError(f"{source}: {exc}") from exc
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


def _override(body: dict[str, Any], override: str) -> None:
    key, sep, text = override.partition("=")
    if not sep or not re.fullmatch(r"[A-Za-z_][\w.]*", key.strip()):
        raise ConfigError(f"--set {override!r} must read key=value, such as train.epochs=30.")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = key.strip().split(".")
    node = body
    for part in parents:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {override!r}: {part!r} is not a table of the configuration.")
    node[last] = value

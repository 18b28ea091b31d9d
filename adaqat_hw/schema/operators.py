"""One record per hardware operator: what every part of the project needs to know about it.

Readable inside FINN's environment too. What an operator computes, its Verilog and its cost are in
:mod:`adaqat_hw.rtl.ops`, one module per operator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from adaqat_hw.errors import ConfigError

Generator = Literal["finn", "adaqat"]


@dataclass(frozen=True)
class Fold:
    """A folding attribute, ``PE`` or ``SIMD``.

    It must divide the value of the attribute ``divides`` (the product where that has several
    values; None: the channels of the stream). The folding search sets it where ``searched``.
    """

    name: str
    divides: str | None
    searched: bool = True


@dataclass(frozen=True)
class Parameters:
    """The integer array of an operator, FINN's second input.

    ``shape`` are the attributes that give its dimensions (an attribute of several values its
    product), ``outputs_axis`` the dimension that counts output channels.
    """

    name: Literal["weights", "thresholds"]
    shape: tuple[str, ...]
    outputs_axis: int = 0


@dataclass(frozen=True)
class Implementation:
    """One way to build an operator; ``backend`` is that of FINN's node which stands for it.

    Where it is not ``measured``, no cost model has it and the folding search does not choose it.
    """

    name: Literal["lut", "dsp"]
    generator: Generator
    backend: Literal["rtl", "hls"]
    measured: bool = True


@dataclass(frozen=True)
class Requirement:
    """Values of an attribute that there is RTL for; ``reason`` is said of another ``value``."""

    attribute: str
    allowed: tuple[int | str, ...]
    reason: str


@dataclass(frozen=True)
class Operator:
    """A hardware operator.

    Attributes:
        name: FINN's op type without its backend suffix.
        module: its module in :mod:`adaqat_hw.rtl.ops`.
        generators: who can write its RTL, FINN or a module of ``hw/rtl``; the first does in
            FINN's flow where no implementation says otherwise.
        layer: the layer a node is counted into: the one whose ``weights`` it has, a row of its
            ``own``, or that of its ``consumer`` or its ``producer``.
        aliases: other op types of FINN with the same meaning.
        inputs: input streams.
        outputs: output streams, or the attribute that counts them.
        folds: its folding attributes.
        lanes_in: the folds whose product is the values per beat of an input stream.
        lanes_out: the same of an output stream; () for one value.
        parameters: its array, None where it has none.
        implementations: the ways to build it, where there is a choice.
        row: the name of its own row, counted from 0.
        row_of: another name where an attribute has a value: (attribute, value, name).
        passed: a node behind it is counted into the layer before it.
        window: what it does to the depthwise order of a sliding window's values: it ``makes``
            that order where its node says so, ``takes`` it, or ``keeps`` the order it gets.
        mover: stands between two layers and computes nothing.
        channels: the attribute that holds the channels (None: the stream's).
        kernel: the attribute that holds the sizes of the window.
        requires: what else there must be for RTL.
        measured: the attributes that its cost depends on, beside the streams.
    """

    name: str
    module: str
    generators: tuple[Generator, ...]
    layer: Literal["weights", "own", "consumer", "producer"]
    aliases: tuple[str, ...] = ()
    inputs: int = 1
    outputs: int | str = 1
    folds: tuple[Fold, ...] = ()
    lanes_in: tuple[str, ...] = ()
    lanes_out: tuple[str, ...] = ()
    parameters: Parameters | None = None
    implementations: tuple[Implementation, ...] = ()
    row: str = ""
    row_of: tuple[str, str, str] | None = None
    passed: bool = False
    window: Literal["makes", "takes", "keeps"] | None = None
    mover: bool = False
    channels: str | None = None
    kernel: str | None = None
    requires: tuple[Requirement, ...] = ()
    measured: tuple[str, ...] = ()

    @property
    def weighted(self) -> bool:
        """Tell whether it multiplies with weights, which makes it the core of a layer."""
        return self.parameters is not None and self.parameters.name == "weights"

    def implementation(self, name: str | None) -> Implementation | None:
        """Return the implementation of that name, None where there is none."""
        return next((each for each in self.implementations if each.name == name), None)

    def kinds(self) -> tuple[str, ...]:
        """Return the names of its measured cost models: ``<name>`` or ``<name>/<impl>``."""
        if not self.implementations:
            return (self.name,)
        return tuple(f"{self.name}/{each.name}" for each in self.implementations if each.measured)


MVAU = Operator(
    name="MVAU",
    module="mvau",
    generators=("adaqat", "finn"),
    layer="weights",
    folds=(Fold("PE", "MH"), Fold("SIMD", "MW")),
    lanes_in=("SIMD",),
    lanes_out=("PE",),
    parameters=Parameters("weights", ("MW", "MH"), outputs_axis=1),
    implementations=(
        Implementation("lut", "adaqat", "hls"),
        Implementation("dsp", "finn", "rtl"),
    ),
    channels="MH",
    measured=("PE", "SIMD", "MW", "MH", "weight_bits"),
)
VVAU = Operator(
    name="VVAU",
    module="vvau",
    generators=("adaqat",),
    layer="weights",
    # SIMD over the window needs the parallel window generator, which no searched build uses.
    folds=(Fold("PE", "Channels"), Fold("SIMD", "Kernel", searched=False)),
    lanes_in=("PE", "SIMD"),
    lanes_out=("PE",),
    parameters=Parameters("weights", ("Channels", "Kernel")),
    # FINN's own RTL is for Versal only.
    implementations=(
        Implementation("lut", "adaqat", "hls"),
        Implementation("dsp", "adaqat", "hls", measured=False),
    ),
    window="takes",
    channels="Channels",
    kernel="Kernel",
    measured=("PE", "SIMD", "Channels", "Kernel", "weight_bits"),
)
THRESHOLDING = Operator(
    name="Thresholding",
    module="thresholding",
    generators=("finn",),
    layer="producer",
    folds=(Fold("PE", "NumChannels"),),
    lanes_in=("PE",),
    lanes_out=("PE",),
    parameters=Parameters("thresholds", ("NumChannels", "numSteps")),
    passed=True,
    window="keeps",
    channels="NumChannels",
    measured=("PE", "NumChannels"),
)
PADDING = Operator(
    name="FMPadding",
    module="padding",
    generators=("finn",),
    layer="consumer",
    folds=(Fold("SIMD", "NumChannels"),),
    lanes_in=("SIMD",),
    lanes_out=("SIMD",),
    passed=True,
    channels="NumChannels",
    measured=("SIMD", "NumChannels"),
)
SLIDING_WINDOW = Operator(
    name="ConvolutionInputGenerator",
    module="sliding_window",
    generators=("finn",),
    layer="consumer",
    folds=(Fold("SIMD", "IFMChannels"),),
    lanes_in=("SIMD",),
    lanes_out=("SIMD",),
    passed=True,
    window="makes",
    channels="IFMChannels",
    kernel="ConvKernelDim",
    measured=(*("SIMD", "IFMChannels", "ConvKernelDim", "IFMDim", "depthwise", "parallel_window"),),
)
POOL = Operator(
    name="Pool",
    module="pool",
    generators=("adaqat",),
    layer="own",
    folds=(Fold("PE", "Channels"),),
    lanes_in=("PE",),
    lanes_out=("PE",),
    row="maxpool",
    row_of=("Function", "QuantAvgPool", "avgpool"),
    passed=True,
    window="takes",
    channels="Channels",
    kernel="KernelSize",
    requires=(
        Requirement(
            "Function",
            ("MaxPool", "QuantAvgPool"),
            "pooling with {value!r} has no RTL; use one of {allowed}",
        ),
    ),
    measured=("PE", "Channels", "KernelSize", "Function"),
)
DUPLICATE = Operator(
    name="DuplicateStreams",
    module="duplicate",
    generators=("adaqat",),
    layer="producer",
    outputs="NumOutputStreams",
    folds=(Fold("PE", "NumChannels"),),
    lanes_in=("PE",),
    lanes_out=("PE",),
    passed=True,
    window="keeps",
    channels="NumChannels",
    measured=("PE", "NumChannels"),
)
ADD = Operator(
    name="ElementwiseAdd",
    module="add",
    generators=("adaqat",),
    layer="own",
    aliases=("AddStreams",),
    inputs=2,
    folds=(Fold("PE", None),),
    lanes_in=("PE",),
    lanes_out=("PE",),
    row="add",
    window="keeps",
    measured=("PE",),
)
GLOBAL_POOL = Operator(
    name="GlobalAccPool",
    module="global_pool",
    generators=("adaqat",),
    layer="own",
    folds=(Fold("PE", "NumChannels"),),
    lanes_in=("PE",),
    lanes_out=("PE",),
    row="globalpool",
    channels="NumChannels",
    measured=("PE", "NumChannels"),
)
LABEL_SELECT = Operator(
    name="LabelSelect",
    module="label_select",
    generators=("adaqat",),
    layer="own",
    folds=(Fold("PE", "Labels"),),
    lanes_in=("PE",),
    row="labelselect",
    channels="Labels",
    requires=(Requirement("K", (1,), "the largest {value!r} labels have no RTL; one is possible"),),
    measured=("PE", "Labels"),
)
FIFO = Operator(
    name="StreamingFIFO",
    module="fifo",
    generators=("finn", "adaqat"),
    layer="consumer",
    passed=True,
    window="keeps",
    mover=True,
    measured=("depth",),
)
WIDTH_CONVERTER = Operator(
    name="StreamingDataWidthConverter",
    module="width_converter",
    generators=("finn",),
    layer="consumer",
    passed=True,
    window="keeps",
    mover=True,
)

OPERATORS: tuple[Operator, ...] = (
    *(MVAU, VVAU, THRESHOLDING, PADDING, SLIDING_WINDOW, POOL, DUPLICATE, ADD, GLOBAL_POOL),
    *(LABEL_SELECT, FIFO, WIDTH_CONVERTER),
)
_BY_NAME = {name: each for each in OPERATORS for name in (each.name, *each.aliases)}


def base_op(op_type: str) -> str:
    """Return FINN's op type without its backend suffix.

    >>> base_op("MVAU_hls"), base_op("FMPadding_rtl"), base_op("Pool")
    ('MVAU', 'FMPadding', 'Pool')
    """
    return op_type.removesuffix("_rtl").removesuffix("_hls")


def find_operator(op_type: str) -> Operator | None:
    """Return the operator of one of FINN's op types, with or without backend, or None."""
    return _BY_NAME.get(base_op(op_type))


def operator(op_type: str) -> Operator:
    """Return the operator of one of FINN's op types, with or without backend.

    Raises:
        ConfigError: this project knows no such operator.
    """
    found = find_operator(op_type)
    if found is None:
        raise ConfigError(f"{op_type!r} is no hardware operator; there are {operator_names()}.")
    return found


def operator_names() -> str:
    """Return the names of all operators, for messages."""
    return ", ".join(sorted(_BY_NAME))

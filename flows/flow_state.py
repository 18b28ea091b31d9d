"""FlowState: what the steps of the flow hand to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaqat_hw.errors import AdaqatHwError
from adaqat_hw.schema import BuildRequest, HostInterface, InputStep, MvauImpl
from adaqat_hw.schema.build_files import SCRATCH
from flows.graph_types import Model


class Refused(AdaqatHwError):
    """The network or the request cannot be built; ``problems`` has one sentence per fault."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(" ".join(problems))


class FlowError(AdaqatHwError):
    """A step noticed by itself that its result is wrong."""


@dataclass(frozen=True)
class MacLayer:
    """One Conv, MatMul or Gemm of the QONNX file.

    ``signature`` is (output channels, weights per channel) of sorted absolute integer weights,
    what streamlining and lowering leave alone; None where the weights are not Quant nodes of
    constants.
    """

    name: str
    op: str
    signature: NDArray[np.int64] | None


@dataclass(frozen=True)
class InputQuantizer:
    """The Quant node at the network's input; ``bipolar`` where it is a BipolarQuant."""

    scale: float
    bits: int
    signed: bool
    narrow: bool
    bipolar: bool = False


@dataclass(frozen=True)
class MvauChoice:
    """How an MVAU is built, and why; ``dsp_refusal`` is why it cannot be built in DSPs."""

    impl: MvauImpl
    reason: str
    dsp_refusal: str | None = None


@dataclass
class Probe:
    """Frames that every graph is executed on, and what it must put out.

    ``inputs`` are (n, ...) float frames, ``logits`` (n, classes) what the QONNX file computes
    for them, ``integers`` what the last integer graph put out.
    """

    inputs: NDArray[np.float32]
    logits: NDArray[np.float64]
    integers: NDArray[np.int64] | None = None


@dataclass
class FlowState:
    """Everything one run of the flow knows.

    Attributes without a default are set by the first steps: ``model``, the current graph,
    ``config``, FINN's DataflowBuildConfig, ``input_name`` and ``input_shape`` by "load";
    ``file_model``, the graph as it was read but for a ``softmax`` at its end, and the input
    ``quantizer`` by "adopt"; ``integer_model`` by "cut_host_interface": the integer graph before
    conversion to hardware layers, the reference of the golden frames.

    ``steps`` are what was cut off before the input quantizer, ``inclusive`` how many thresholds
    were bipolar quantizers, ``probe`` the frames that verify every step. ``host`` is known from
    "cut_host_interface" on; until then the graph takes and gives floats.
    """

    request: BuildRequest
    folder: Path
    note: Callable[[str], None]
    model: Model = field(init=False)
    file_model: Model = field(init=False)
    integer_model: Model = field(init=False)
    quantizer: InputQuantizer = field(init=False)
    input_name: str = field(init=False)
    input_shape: tuple[int, ...] = field(init=False)
    config: Any = field(init=False)
    steps: tuple[InputStep, ...] = ()
    softmax: bool = False
    inclusive: int = 0
    layers: list[MacLayer] = field(default_factory=list)
    host: HostInterface | None = None
    probe: Probe | None = None
    layer_of: dict[str, str | None] = field(default_factory=dict)
    choices: dict[str, MvauChoice] = field(default_factory=dict)
    files_of: dict[str, tuple[str, ...]] = field(default_factory=dict)
    top_of: dict[str, str] = field(default_factory=dict)
    rtllib_files: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    @property
    def scratch(self) -> Path:
        """FINN's own files; removed after a success."""
        return self.folder / SCRATCH

    def remark(self, text: str) -> None:
        """Tell the user something that is no failure."""
        self.notes.append(text)
        self.note(text)

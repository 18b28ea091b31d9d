"""FlowState: what the steps of the flow hand to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaqat_hw.errors import AdaqatHwError
from adaqat_hw.schema import BuildRequest, InputStep, MvauImpl, SoftwareEnds


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
class FlowState:
    """Everything one run of the flow knows.

    ``model`` is the current graph (qonnx ModelWrapper), ``file_model`` the graph as it was read
    but for a ``softmax`` at its end, ``steps`` what was cut off before the input quantizer,
    ``inclusive`` how many thresholds were bipolar quantizers, ``integer_model`` the integer graph
    before conversion to hardware layers, the reference of the golden frames. ``probe`` are the
    frames that verify every step (verify.Probe).
    """

    request: BuildRequest
    folder: Path
    note: Callable[[str], None]
    model: Any = None
    file_model: Any = None
    config: Any = None
    input_name: str = ""
    input_shape: tuple[int, ...] = ()
    steps: tuple[InputStep, ...] = ()
    softmax: bool = False
    inclusive: int = 0
    quantizer: InputQuantizer | None = None
    layers: list[MacLayer] = field(default_factory=list)
    ends: SoftwareEnds | None = None
    integer_model: Any = None
    probe: Any = None
    layer_of: dict[str, str | None] = field(default_factory=dict)
    choices: dict[str, MvauChoice] = field(default_factory=dict)
    files_of: dict[str, tuple[str, ...]] = field(default_factory=dict)
    top_of: dict[str, str] = field(default_factory=dict)
    rtllib_files: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    @property
    def scratch(self) -> Path:
        """FINN's own files; removed after a success."""
        return self.folder / "finn"

    def remark(self, text: str) -> None:
        """Tell the user something that is no failure."""
        self.notes.append(text)
        self.note(text)

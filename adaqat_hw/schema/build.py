"""BuildRequest and BuildResult: what goes into the FINN flow and what comes out."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from adaqat_hw.schema._base import Record, digest_of
from adaqat_hw.schema.family import DspBlock
from adaqat_hw.schema.hardware import ImplChoice
from adaqat_hw.schema.throughput import FoldedBy, ThroughputRequest

Goal = Literal["estimate", "rtl", "ip", "ooc_synth", "bitfile"]
# Goals that Vivado has a part in.
VIVADO_GOALS: tuple[Goal, ...] = ("ip", "ooc_synth", "bitfile")
Env = Literal["local", "docker"]
DEFAULT_BACKEND = "finn-streams"


class BuildRequest(Record):
    """One build. Its digest names the build directory; nothing comes from the environment.

    ``model`` is the absolute path of the QONNX file and is left out of the digest
    (``model_sha256`` is in). ``variant`` names the bit-width plan, ``qonnx`` for a file of other
    origin. ``layers`` are the names of the multiply-accumulate layers in graph order, where they
    are known. ``backend`` names what compiles the network.

    What was asked: ``throughput``; ``impl`` for every MVAU, and ``impl_per_layer``, which
    overrides it by layer name. What was made of it: ``folding`` (PE and SIMD by hardware node
    name) with ``folded_impl`` (implementations that the folding chose, by layer name), or
    ``target_fps``, which FINN's own folding is driven to; without either every PE and SIMD
    is 1. ``folding_note`` says why not the measured costs decided, where they did not.
    """

    schema_version: ClassVar[int] = 2

    model: str
    model_sha256: str
    network: str
    variant: str
    layers: tuple[str, ...] = ()
    board: str
    part: str
    dsp: DspBlock
    clock_ns: float = Field(gt=0)
    goal: Goal
    throughput: ThroughputRequest = ThroughputRequest()
    target_fps: int | None = Field(default=None, gt=0)
    folding: dict[str, dict[str, int]] | None = None
    folded_impl: dict[str, ImplChoice] = {}
    folding_note: str | None = None
    impl: ImplChoice = "auto"
    impl_per_layer: dict[str, ImplChoice] = {}
    fifo_depth: int = Field(default=2, ge=2)
    golden: str | None = None
    golden_sha256: str | None = None
    flow_version: int = 1
    backend: str = DEFAULT_BACKEND

    def digest(self) -> str:
        """Return the digest over everything but the paths and the note."""
        return digest_of(self.model_dump(mode="json", exclude={"model", "golden", "folding_note"}))

    @property
    def folded_by(self) -> FoldedBy:
        """Who set PE and SIMD."""
        if self.target_fps is not None:
            return "finn"
        if not self.folding:
            return "nobody"
        return "hand" if self.throughput.kind == "folding" else "cost_model"

    def folding_sentence(self, cycles: float | None) -> str | None:
        """Say what a user may not expect of the folding, None where it is what was asked.

        Args:
            cycles: cycles per frame that resulted, None where they are not known.
        """
        if self.folded_by == "finn":
            return (
                f"FINN's own folding was driven to {self.target_fps:,} frames/s, for measured "
                f"costs cannot decide: {self.folding_note or 'the reason was not recorded.'}"
            )
        if self.throughput.kind != "default":
            return None
        pace = ""
        if cycles:
            fps = 1e9 / (cycles * self.clock_ns)
            pace = f": {cycles:,.0f} cycles per frame, {fps:,.0f} frames/s at {self.clock_ns:g} ns"
        return (
            f"No throughput was asked for, so every PE and SIMD is 1, the slowest there is{pace}; "
            f"--fps N folds to a frame rate, --fit {self.board} to the fastest that fits, "
            "--unfolded asks for this one."
        )

    def implementation(self, layer: str) -> ImplChoice:
        """Return what a layer's MVAU is to be built in: as asked, else as the folding chose."""
        asked = self.impl_per_layer.get(layer, self.impl)
        return self.folded_impl.get(layer, asked) if asked == "auto" else asked


class StepRecord(Record):
    """One step of the flow."""

    name: str
    seconds: float
    nodes: int | None = None


class BuildOutput(Record):
    """A file that the flow made, relative to the build directory."""

    path: str
    sha256: str


class BuildResult(Record):
    """What the FINN flow did; written on failure too.

    ``message`` is the true cause of a failure in one sentence, ``unsupported`` the list of
    layers that cannot be built and why.
    """

    request_digest: str
    status: Literal["ok", "failed", "refused"]
    failed_step: str | None = None
    message: str | None = None
    unsupported: tuple[str, ...] = ()
    log: str
    steps: tuple[StepRecord, ...] = ()
    tool_versions: dict[str, str] = {}
    outputs: tuple[BuildOutput, ...] = ()
    graph: str | None = None


class BuildEnvironment(Record):
    """Where the outside tools of a build ran: what the requests and results do not depend on.

    ``image`` and ``image_id`` name the container image, None for the local environment.
    """

    env: Env
    image: str | None = None
    image_id: str | None = None
    vivado: str | None = None


class Timing(Record):
    """Worst slacks of a timing summary; None where Vivado says NA. ``met`` is its own verdict.

    ``met`` is None where the design has no timing constraints.
    """

    wns_ns: float | None
    tns_ns: float | None
    whs_ns: float | None
    ths_ns: float | None
    failing_endpoints: int | None
    met: bool | None


class Power(Record):
    """Vivado's power estimate in watts, with the confidence that it states itself."""

    total_w: float
    dynamic_w: float
    static_w: float
    confidence: str | None = None


class VivadoResult(Record):
    """What Vivado made of a design; written next to its reports, also when timing is missed.

    Files are relative to the build directory.
    """

    goal: Goal
    part: str
    clock_ns: float
    vivado: str
    timing: Timing | None = None
    power: Power | None = None
    reports: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

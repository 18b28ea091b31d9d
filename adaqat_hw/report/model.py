"""Records that a report is made from. Every field that may be absent is None, never 0."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from adaqat_hw.cost import BitOps, WeightCompression
from adaqat_hw.report.history import History, WidthPath
from adaqat_hw.schema import (
    ESTIMATES,
    BitstreamResult,
    BitWidthPlan,
    Board,
    BudgetResult,
    BuildRequest,
    BuildResult,
    FifoSizing,
    HardwareGraph,
    NetworkSpec,
    QonnxArtifact,
    ResourceReport,
    RunConfig,
    SimulationPass,
    SimulationResult,
    Source,
    TrainResult,
    VivadoResult,
)

SYNTH: Source = "yosys_synth"
FLOAT, LEARNED = "float", "learned"


@dataclass(frozen=True)
class BuildReport:
    """One build folder; ``written`` is the newest record's file time, UTC, ISO 8601."""

    folder: str
    variant: str
    request: BuildRequest | None = None
    result: BuildResult | None = None
    graph: HardwareGraph | None = None
    fifos: FifoSizing | None = None
    simulation: SimulationResult | None = None
    board: Board | None = None
    resources: dict[Source, ResourceReport] = field(default_factory=dict)
    bitstream: BitstreamResult | None = None
    vivado: VivadoResult | None = None
    written: str | None = None

    @property
    def complete(self) -> bool:
        """Whether it was compiled and, for goal ``rtl``, RTL was simulated and synthesized."""
        if self.result is None or self.result.status != "ok" or self.request is None:
            return False
        if self.request.goal == "estimate":
            return estimate_of(self) in self.resources
        return self.simulation is not None and SYNTH in self.resources

    @property
    def estimate_only(self) -> bool:
        """Whether no RTL was asked for."""
        return self.request is not None and self.request.goal == "estimate"

    def total(self, source: Source, name: str) -> int | None:
        """Return the whole design's count of resource ``name`` by ``source``."""
        report = self.resources.get(source)
        return None if report is None else getattr(report.total, name)

    def layer(self, source: Source, layer: str, name: str) -> int | None:
        """Return one layer's count of resource ``name`` by ``source``."""
        report = self.resources.get(source)
        rows = () if report is None else report.layers
        return next((getattr(r.resources, name) for r in rows if r.layer == layer), None)

    @property
    def routed(self) -> ResourceReport | None:
        """What place and route made of the design, whichever tool did it."""
        return self.resources.get("nextpnr_pnr") or self.resources.get("vivado_impl")

    @property
    def free_pass(self) -> SimulationPass | None:
        """The pass that timing is read from: without stalls, on real frames if there is one."""
        passes = self.simulation.passes if self.simulation else ()
        free = [p for p in passes if not p.stalls]
        return next((p for p in free if p.kind == "real"), free[0] if free else None)


def estimate_of(build: BuildReport | None) -> Source:
    """Return the source of the estimate that the build's backend made."""
    known = build.resources if build else {}
    return next((source for source in ESTIMATES if source in known), ESTIMATES[0])


def sources_of(build: BuildReport | None) -> tuple[Source, ...]:
    """Return the sources that a report has a row for: estimate and Yosys always, then others."""
    return tuple(dict.fromkeys((estimate_of(build), SYNTH, *(build.resources if build else ()))))


@dataclass(frozen=True)
class SideBuild:
    """A build that the report lists and does not use, and why not."""

    build: BuildReport
    reason: str


@dataclass(frozen=True)
class PlanReport:
    """One variant of a run: its training, plan, export and build."""

    variant: str
    train: TrainResult | None = None
    plan: BitWidthPlan | None = None
    spec: NetworkSpec | None = None
    artifact: QonnxArtifact | None = None
    build: BuildReport | None = None
    bitops: BitOps | None = None
    compression: WeightCompression | None = None
    widths: tuple[WidthPath, ...] = ()
    history: History = field(default_factory=History)
    written: str | None = None

    @property
    def accuracy(self) -> float | None:
        """Top-1 fraction on the test split."""
        return None if self.train is None else self.train.accuracy

    @property
    def budget(self) -> BudgetResult | None:
        """What the plan was asked for and what it reached, as training recorded it."""
        return None if self.train is None else self.train.budget


@dataclass(frozen=True)
class RunReport:
    """One run: its plans in the order full precision, learned, uniform, others."""

    name: str
    path: Path
    config: RunConfig | None
    plans: tuple[PlanReport, ...]
    side_builds: tuple[SideBuild, ...]
    missing: tuple[str, ...]
    warnings: tuple[str, ...]

    def plan(self, variant: str) -> PlanReport | None:
        """Return the plan of a variant, or None."""
        return next((p for p in self.plans if p.variant == variant), None)

    @property
    def quantized(self) -> tuple[PlanReport, ...]:
        """All plans but full precision."""
        return tuple(p for p in self.plans if p.variant != FLOAT)

    @property
    def main(self) -> PlanReport | None:
        """The plan the report is about: the learned one, else the first that was built."""
        learned = self.plan(LEARNED)
        built = [p for p in self.quantized if p.build is not None]
        return learned or next(iter((*built, *self.quantized)), None)

    @property
    def hardware(self) -> bool:
        """Whether anything was built."""
        return any(p.build is not None for p in self.plans) or bool(self.side_builds)

    @property
    def board(self) -> Board | None:
        """The board that the main plan was built for."""
        return self.main.build.board if self.main and self.main.build else None

"""TEST-ONLY run directories: invented records with plausible numbers, measured by nobody."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from adaqat_hw import families
from adaqat_hw.run import RunDirectory
from adaqat_hw.schema import (
    BitWidthPlan,
    Board,
    BudgetResult,
    BuildRequest,
    BuildResult,
    DataConfig,
    FreezeChoice,
    HardwareGraph,
    HardwareNode,
    HostInterface,
    InputQuant,
    IntType,
    LayerBits,
    LayerResources,
    LayerSpec,
    NetworkConfig,
    NetworkSpec,
    QonnxArtifact,
    ResourceReport,
    Resources,
    RunConfig,
    SimulationPass,
    SimulationResult,
    StepRecord,
    Stream,
    ThroughputRequest,
    TrainResult,
    add_resources,
)

BOARD = Board(
    name="pynq-z1",
    part="xc7z020clg400-1",
    family="xc7",
    lut=53200,
    ff=106400,
    dsp=220,
    bram_18k=280,
    uram=0,
    default_clock_ns=10.0,
    source="test only",
)
LEARNED = {"conv1": (5, 8), "conv2": (3, 4), "conv3": (2, 3), "fc1": (2, 3), "fc2": (6, 5)}
FOLDING = {"conv1": (4, 3), "conv2": (8, 12), "conv3": (8, 16), "fc1": (2, 8), "fc2": (1, 4)}
EPOCH = 1_700_000_000


def spec(names: tuple[str, ...] = tuple(LEARNED)) -> NetworkSpec:
    macs = (27_648, 147_456, 73_728, 16_384, 640) + (10_000,) * len(names)
    weights = (432, 9_216, 18_432, 16_384, 640) + (1_000,) * len(names)
    return NetworkSpec(
        name="demo-cnn",
        input_shape=(1, 8, 8),
        num_classes=10,
        layers=tuple(
            LayerSpec(
                name=name,
                kind="linear" if name.startswith("fc") else "conv",
                macs=macs[i],
                weights=weights[i],
                in_channels=8,
                out_channels=16,
                input_shape=(8, 8, 8),
                output_shape=(16, 8, 8),
                act=f"act{i}",
            )
            for i, name in enumerate(names)
        ),
    )


def plan_of(bits: dict[str, tuple[int, int]], source: str) -> BitWidthPlan:
    rows = tuple(
        LayerBits(layer=name, weight_bits=w, act_bits=a, act=f"act{i}")
        for i, (name, (w, a)) in enumerate(bits.items())
    )
    return BitWidthPlan(network="demo-cnn", source=source, layers=rows)


@dataclass
class Maker:
    """Write run directories below ``root``; every file's time is fixed."""

    root: Path
    name: str = "digits-demo"
    scale: float = 1.0
    impl: str = "lut"
    bits: dict[str, tuple[int, int]] = field(default_factory=lambda: dict(LEARNED))
    clock_ns: float = 10.0
    rich: bool = False  # the log tells gradients, flips, lambda, BitOPs and the budget
    budget: BudgetResult | None = None
    choice: FreezeChoice | None = None

    @property
    def run(self) -> RunDirectory:
        return RunDirectory(self.root / self.name)

    def all(self) -> Path:
        self.config()
        self.train("float", 0.9861)
        for variant, accuracy in (("learned", 0.9806), ("w8a8", 0.9833), ("w4a4", 0.9778)):
            self.train(variant, accuracy)
            self.export(variant)
            self.build(variant)
        return self.run.root

    def config(self) -> None:
        RunConfig(
            name=self.name,
            network=NetworkConfig(name="demo-cnn"),
            data=DataConfig(name="digits"),
        ).write(self.run.config)
        self._date(self.run.root)

    def widths(self, variant: str) -> dict[str, tuple[int, int]]:
        if variant == "learned":
            return self.bits
        w, a = (int(x) for x in variant[1:].split("a"))
        return dict.fromkeys(self.bits, (w, a)) | {next(iter(self.bits)): (w, 8)}

    def plan(self, variant: str) -> BitWidthPlan:
        source = "adaqat" if variant == "learned" else "uniform"
        return plan_of(self.widths(variant), source)

    def train(self, variant: str, accuracy: float) -> Path:
        folder = self.run.train(variant).path
        plan = None if variant == "float" else self.plan(variant)
        if plan:
            plan.write(folder / "plan.json")
        spec(tuple(self.bits)).write(folder / "spec.json")
        frozen: dict[str, int | None] = {}
        rows: list[dict] = []
        if variant == "learned":
            for i, name in enumerate(self.bits):
                frozen |= {f"weights:{name}": 500 + 90 * i, f"acts:act{i}": 700 + 60 * i}
                if i == 2:
                    frozen[f"weights:{name}"] = None
            rows = self._log(frozen)
        for epoch in range(1, 11):
            top = accuracy * (1 - 0.6 / epoch**2)
            rows.append(
                {"event": "epoch", "epoch": epoch, "step": epoch * 150, "train_loss": 2 / epoch}
                | {"accuracy": top, "lr": 0.05}
            )
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "log.jsonl").write_text(text + '{"event": "cut sho')
        TrainResult(
            network="demo-cnn",
            dataset="digits",
            mode={"float": "float", "learned": "adaqat"}.get(variant, "uniform"),
            config_digest="0" * 12,
            seed=0,
            epochs=10,
            steps=1500,
            accuracy=accuracy,
            accuracy_before_recalibration=None,
            test_samples=360,
            plan="plan.json" if plan else None,
            plan_digest=plan.digest() if plan else None,
            checkpoint="checkpoint.pt",
            log="log.jsonl",
            frozen_at=frozen,
            seconds=31.5,
            tool_versions={"torch": "2.13.0", "brevitas": "0.13.4"},
            budget=self.budget if variant == "learned" else None,
            freeze_choice=self.choice if variant == "learned" else None,
        ).write(folder / "result.json")
        return self._date(folder)

    def _log(self, frozen: dict[str, int | None]) -> list[dict]:
        ends = {f"weights:{n}": b[0] for n, b in self.bits.items()}
        ends |= {f"acts:act{i}": b[1] for i, b in enumerate(self.bits.values())}
        rows: list[dict] = []
        for step in range(0, 1500, 10):
            real = {}
            for i, (name, end) in enumerate(ends.items()):
                stop = frozen.get(name) or 1400
                done = min(1.0, max(0, step - 150) / (stop - 150))
                wobble = 0.3 * ((step // 10 * (i + 3)) % 7 / 7 - 0.5) * (0.2 < done < 1)
                real[name] = 8 - (8 - end) * done + wobble - (0 if done == 1 else 0.1)
            bits = {name: -int(-value // 1) for name, value in real.items()}
            rows.append({"event": "widths", "step": step, "real": real, "bits": bits})
            if self.rich:
                self._enrich(rows)
            due = [n for n, s in frozen.items() if s is not None and s - s % 10 == step]
            if due:
                rows[-1]["freezes"] = [
                    {"name": n, "bits": ends[n], "reason": "oscillation"} for n in due
                ]
        return rows

    def _enrich(self, rows: list[dict]) -> None:
        row, before = rows[-1], rows[-2]["bits"] if len(rows) > 1 else rows[-1]["bits"]
        moved = [n for n in row["bits"] if row["bits"][n] != before[n]]
        row["flips"] = [{"name": n, "before": before[n], "after": row["bits"][n]} for n in moved]
        row["gradients"] = [
            {"name": n, "task": -0.1 / b, "hardware": 0.02 * b} for n, b in row["bits"].items()
        ]
        row |= {
            "hard_loss": 60.0,
            "hardware_lambda": 0.1,
            "bitops": 16_000_000 - 5000 * row["step"],
        }
        row["budget"] = {
            "title": "BitOPs",
            "unit": "BitOPs",
            "asked": 9e6,
            "reached": row["bitops"],
            "target_hard_loss": 50.0,
        }

    def export(self, variant: str) -> Path:
        folder = self.run.export(variant).path
        plan = self.plan(variant)
        QonnxArtifact(
            file="model.onnx",
            sha256=self._sha(variant),
            network="demo-cnn",
            plan_digest=plan.digest(),
            input_shape=(1, 8, 8),
            num_classes=10,
            input_quant=InputQuant(bits=8, signed=False, scale=1 / 255),
            bits_in_graph=plan.layers,
            golden="golden.npz",
            golden_sha256="1" * 64,
            samples=360,
            max_abs_error=1.9e-6,
            argmax_agreement=1.0,
            tool_versions={"qonnx": "1.0.0", "onnx": "1.21.0"},
        ).write(folder / "artifact.json")
        return self._date(folder)

    def _sha(self, variant: str) -> str:
        return self.plan(variant).digest().ljust(64, "0")

    def request(self, variant: str, **changes) -> BuildRequest:
        fields = {
            "model": str(self.run.export(variant).model),
            "model_sha256": self._sha(variant),
            "network": "demo-cnn",
            "variant": variant,
            "layers": tuple(self.bits),
            "board": BOARD.name,
            "part": BOARD.part,
            "dsp": families.load(BOARD.family).dsp,
            "clock_ns": self.clock_ns,
            "goal": "rtl",
            "throughput": ThroughputRequest(kind="fps", fps=100_000, fill=1.0),
            "folding": {
                f"MVAU_{i}": dict(zip(("PE", "SIMD"), FOLDING.get(name, (2, 4)), strict=True))
                for i, name in enumerate(self.widths(variant))
            },
            "impl": self.impl,
        }
        return BuildRequest(**(fields | changes))

    def build(
        self,
        variant: str,
        *,
        upto: str = "synth",
        mismatches: int = 0,
        later: int = 0,
        unreported: tuple[str, ...] = (),
        cycles: float = 1027.5,
        **changes,
    ) -> Path:
        """Write a build that got as far as ``upto``: compile, simulate or synth."""
        request = self.request(variant, **changes)
        folder = self.run.build(request).path
        request.write(folder / "request.json")
        BOARD.write(folder / "board.json")
        self.graph(variant).write(folder / "hardware.json")
        BuildResult(
            request_digest=request.digest(),
            status="ok",
            log="flow.log",
            steps=(StepRecord(name="step_streamline", seconds=1.5, nodes=30),),
            tool_versions={"finn-plus": "1.6.1"},
            graph="hardware.json",
        ).write(folder / "result.json")
        self.resources(variant, "finn_estimate", unreported).write(
            folder / "resources-finn_estimate.json"
        )
        if upto in ("simulate", "synth"):
            self.simulation(mismatches, cycles).write(folder / "simulation.json")
        if upto == "synth":
            self.resources(variant, "yosys_synth", unreported).write(
                folder / "resources-yosys_synth.json"
            )
        return self._date(folder, later)

    def refuse(self, variant: str) -> Path:
        request = self.request(variant)
        folder = self.run.build(request).path
        request.write(folder / "request.json")
        BuildResult(
            request_digest=request.digest(),
            status="refused",
            message="layer 'fc2' has 1-bit weights, which no MVAU here takes",
            unsupported=("fc2: 1-bit weights",),
            log="flow.log",
        ).write(folder / "result.json")
        return self._date(folder)

    def graph(self, variant: str) -> HardwareGraph:
        byte = IntType(bits=8, signed=False)
        wide = IntType(bits=16, signed=True)
        nodes = []
        for i, (name, (w, a)) in enumerate(self.widths(variant).items()):
            pe, simd = FOLDING.get(name, (2, 4))
            stream = Stream(name=f"t{i}", dtype=wide, folded_shape=(1, 8, pe))
            common = {"layer": name, "backend": "rtl", "inputs": (stream,), "estimate": Resources()}
            nodes.append(
                HardwareNode(
                    name=f"MVAU_{i}",
                    op="MVAU",
                    generator="adaqat",
                    impl=self.impl,
                    impl_reason="asked for",
                    outputs=(stream,),
                    attributes={"PE": pe, "SIMD": simd, "MW": 8 * simd, "MH": 8 * pe},
                    cycles=1024 - 8 * w - a,
                    **common,
                )
            )
            if i < len(self.bits) - 1:
                nodes.append(
                    HardwareNode(
                        name=f"Thresholding_{i}",
                        op="Thresholding",
                        generator="finn",
                        outputs=(
                            Stream(
                                name=f"o{i}",
                                dtype=IntType(bits=self._next_bits(variant, i), signed=False),
                                folded_shape=(1, 8, 1),
                            ),
                        ),
                        attributes={"PE": 1},
                        cycles=512,
                        **common,
                    )
                )
        io = Stream(name="global_in", dtype=byte, folded_shape=(64, 1))
        return HardwareGraph(
            network="demo-cnn",
            part=BOARD.part,
            clock_ns=self.clock_ns,
            nodes=tuple(nodes),
            input_stream=io,
            output_stream=io,
            host=HostInterface(
                input_scale=1 / 255,
                input_dtype=byte,
                input_nchw=True,
                input_shape=(8, 8, 1),
                output_shape=(10,),
                output_dtype=wide,
                output_scale=(0.1,),
                output_bias=(0.0,),
            ),
            parameters_file="params.npz",
            parameters_sha256="2" * 64,
            golden_file="golden.npz",
            golden_sha256="3" * 64,
            cycles_estimated=1000,
            fps_estimated=100_000.0,
        )

    def _next_bits(self, variant: str, i: int) -> int:
        acts = [a for _, a in self.widths(variant).values()]
        return acts[i + 1]

    def resources(
        self, variant: str, source: str, unreported: tuple[str, ...] = ()
    ) -> ResourceReport:
        rows = []
        for i, (name, (w, a)) in enumerate(self.widths(variant).items()):
            pe, simd = FOLDING.get(name, (2, 4))
            work = pe * simd * w * a
            if source == "finn_estimate":
                counts = {"lut": 90 + 2 * a, "ff": 0, "dsp": -(-pe // 4) * simd, "bram_18k": 1}
            else:
                lut = int(self.scale * (2.1 * work + 310 + 90 * (i % 3) + 25 * a))
                dsp = pe * simd // 2 if self.impl == "dsp" else 0
                counts = {"lut": lut, "ff": int(1.3 * lut), "dsp": dsp, "bram_18k": i % 2}
            counts |= dict.fromkeys(unreported, None)
            rows.append(
                LayerResources(layer=name, resources=Resources(**counts), nodes=(f"MVAU_{i}",))
            )
        total = add_resources(row.resources for row in rows)
        tool = {"finn_estimate": ("finn-plus", "1.6.1")}.get(source, ("yosys", "0.70"))
        return ResourceReport(
            plan=variant,
            source=source,
            part=BOARD.part,
            tool=tool[0],
            tool_version=tool[1],
            total=total,
            layer_sum=total,
            layers=tuple(rows),
            source_file="stat.json",
            source_sha256="4" * 64,
        )

    def simulation(self, mismatches: int = 0, cycles: float = 1027.5) -> SimulationResult:
        def one(kind: str, stalls: bool, frames: int, wrong: int = 0) -> SimulationPass:
            return SimulationPass(
                stalls=stalls,
                seed=1 if stalls else None,
                kind=kind,
                frames=frames,
                mismatches=wrong,
                cycles=1275 * frames,
                latency_cycles=None if stalls else 3310,
                cycles_per_frame=None if stalls else cycles,
            )

        return SimulationResult(
            reference="the integer model",
            passes=(
                one("real", False, 100, mismatches),
                one("real", True, 20),
                one("random and extreme", True, 20),
            ),
            frames_real=100,
            mismatches=mismatches,
            accuracy=0.98,
            tool_versions={"verilator": "5.48.0"},
            sources_digest="5" * 12,
        )

    def _date(self, folder: Path, later: int = 0) -> Path:
        for path in folder.iterdir():
            if path.is_file():
                os.utime(path, (EPOCH + later, EPOCH + later))
        return folder


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "runs")


@pytest.fixture
def full_run(maker: Maker) -> Path:
    return maker.all()


@pytest.fixture
def make_maker():
    return Maker

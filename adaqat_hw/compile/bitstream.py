"""Bitstream stage: the accelerator behind the board's serial line, routed and packed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from adaqat_hw import families
from adaqat_hw.compile.fifo_depths import sized_graph
from adaqat_hw.compile.simulate import PATIENCE, load_arrays
from adaqat_hw.errors import ConfigError, StageFailed
from adaqat_hw.resources import hw_dir
from adaqat_hw.rtl.board_clock import Clocking, choose_clock
from adaqat_hw.rtl.nextpnr import (
    STAGE,
    Bitstream,
    Device,
    make_bitstream,
    open_flow,
    require_tools,
)
from adaqat_hw.rtl.packing import IntArray
from adaqat_hw.rtl.serial_board import BoardDesign, board_top, constraint_file, simulate_line
from adaqat_hw.rtl.stitch import stitch
from adaqat_hw.run import tree_digest
from adaqat_hw.schema import (
    VIVADO_GOALS,
    BitstreamResult,
    Board,
    BuildConfig,
    BuildRequest,
    Family,
    HardwareGraph,
    ResourceReport,
    Resources,
    SimulationResult,
    sha256_file,
)
from adaqat_hw.tools.content_cache import put_file

BIT_FILE, REPORT_FILE, RECORD = "accelerator.bit", "nextpnr-report.json", "bitstream.json"
RESOURCES = "resources-nextpnr_pnr.json"
LINE_FRAMES = 2  # a character takes thousands of cycles: few frames, all of them over the pins


def makes_bitstream(board: Board) -> bool:
    """Tell whether open tools make a bitstream for the board."""
    return families.load(board.family).nextpnr is not None


def shell_digest(family: Family) -> str:
    """Return the digest of what a bitstream has around the accelerator."""
    return tree_digest(hw_dir() / open_flow(family).shell, hw_dir() / "constraints")


def wants_bitstream(board: Board, config: BuildConfig) -> bool:
    """Tell whether the build ends in a bitstream by open tools: with goal rtl on such a board.

    Raises:
        ConfigError: a goal that only Vivado can reach, on a board that it does not know.
    """
    family = families.load(board.family)
    if family.nextpnr is None:
        return False
    if config.goal in VIVADO_GOALS and family.vivado is None:
        raise ConfigError(
            f"Goal {config.goal!r} needs Vivado, which knows no {board.part!r}; use goal 'rtl', "
            f"which on {board.name!r} ends in a bitstream."
        )
    return config.goal == "rtl" and config.synthesize


def check_board(board: Board, clock_ns: float) -> tuple[Device, Path, str, Clocking]:
    """Return device, constraints, top and clock of a board, before anything runs.

    Raises:
        ConfigError: the board lacks one of them, or cannot have that clock.
        ToolNotFound: a tool is not installed.
    """
    family = families.load(board.family)
    flow = open_flow(family)
    require_tools(flow)
    if board.oscillator_mhz is None:
        raise ConfigError(f"Board {board.name!r} has no oscillator_mhz; give it in its file.")
    return (
        Device.of(board, family),
        constraint_file(board.constraints, flow.constraint_suffix),
        board_top(board.top, flow.shell),
        choose_clock(clock_ns, board.oscillator_mhz, family.pll),
    )


def bitstream_design(
    folder: Path, board: Board, variant: str, note: Callable[[str], None]
) -> tuple[str, list[str]]:
    """Make the bitstream of the build in ``folder``, compiled and simulated.

    Writes accelerator.bit, bitstream.json, resources-nextpnr_pnr.json and nextpnr's report.

    Raises:
        StageFailed: the simulation over the serial line differs, a tool failed, or the design
            is too large for the device. Missed timing is no failure; the record says it.
    """
    request = BuildRequest.read(folder / "request.json")
    graph = sized_graph(folder)
    device, constraints, top, clocking = check_board(board, request.clock_ns)
    accelerator = stitch(graph, folder, parameters=load_arrays(folder / graph.parameters_file))
    source, sink, build = graph.input_stream, graph.output_stream, request.digest()
    design = BoardDesign(accelerator, device.flow.shell, top, source, sink, clocking, build)
    frames = _prove_line(design, graph, folder, note)
    made = make_bitstream(
        design.sources,
        top,
        device,
        constraints,
        parameters=design.parameters,
        data_files=accelerator.data_files,
        logs=folder / "logs",
        note=note,
    )
    for path, name in ((made.path, BIT_FILE), (made.report, REPORT_FILE)):
        put_file(path, folder / name)
    _record(design, made, board, frames, folder).write(folder / RECORD)
    _resources(made, device, graph, board, variant, folder).write(folder / RESOURCES)
    return _text(made, device.family, design, folder), [BIT_FILE, REPORT_FILE, RECORD, RESOURCES]


def _prove_line(
    design: BoardDesign, graph: HardwareGraph, folder: Path, note: Callable[[str], None]
) -> int:
    """Simulate a few frames from pin to pin; they must equal the golden outputs."""
    golden = load_arrays(folder / graph.golden_file)
    frames, expected = _few(golden["inputs"]), _few(golden["outputs"])
    note("building the simulator of the board with its serial line")
    simulator = design.simulator(folder / "sim")
    note(f"{len(frames)} frames over the serial line, pin to pin")
    slowest = max(graph.cycles_estimated, graph.input_stream.beats, graph.output_stream.beats)
    cycles = PATIENCE * slowest * len(graph.nodes)
    _, results = simulate_line(design, simulator, list(frames), cycles)
    for k, (got, wanted) in enumerate(zip(results, expected, strict=True)):
        if not np.array_equal(got, wanted.reshape(-1)):
            raise StageFailed(STAGE, f"frame {k} over the serial line differs from the model.")
    return len(frames)


def _few(arrays: IntArray) -> IntArray:
    return arrays[:LINE_FRAMES]


def _record(
    design: BoardDesign, made: Bitstream, board: Board, frames: int, folder: Path
) -> BitstreamResult:
    return BitstreamResult(
        file=BIT_FILE,
        sha256=sha256_file(folder / BIT_FILE),
        part=board.part,
        top=design.top,
        build=design.build,
        clock_mhz=design.clocking.mhz,
        fmax_mhz=made.routed.fmax_mhz,
        timing_met=_met(made, design),
        baud=design.clocking.baud,
        line_frames=frames,
        line_fps=design.line_fps(),
        used=made.routed.used,
        available=made.routed.available,
        seconds=made.seconds,
        tool_versions=made.versions,
    )


def _met(made: Bitstream, design: BoardDesign) -> bool:
    return made.routed.fmax_mhz >= design.clocking.mhz


def _resources(
    made: Bitstream, device: Device, graph: HardwareGraph, board: Board, variant: str, folder: Path
) -> ResourceReport:
    """Nothing is known by layer: the routed design is flat, the serial line in it."""
    return ResourceReport(
        plan=variant,
        stage="nextpnr_pnr",
        part=board.part,
        tool=device.flow.router.name,
        tool_version=made.versions[device.flow.router.name],
        total=made.routed.resources,
        layer_sum=Resources(),
        layers=(),
        unmatched=tuple(node.name for node in graph.nodes),
        source_file=REPORT_FILE,
        source_sha256=sha256_file(folder / REPORT_FILE),
        slack_ns=made.routed.slack_ns,
        fmax_mhz=made.routed.fmax_mhz,
    )


def _text(made: Bitstream, family: Family, design: BoardDesign, folder: Path) -> str:
    used, routed = made.routed.resources, made.routed
    verdict = "meets" if _met(made, design) else "MISSES"
    text = (
        f"{BIT_FILE}: {used.lut} LUT{family.lut_inputs}, {used.ff} FF, {used.dsp} "
        f"{family.dsp.primitive}, {used.bram_18k} {family.memory.block.primitive}; "
        f"{routed.fmax_mhz:.1f} MHz, {verdict} the {design.clocking.mhz:.1f} MHz of its clock"
    )
    cycles = _cycles_per_frame(folder)
    if cycles is not None:
        text += f"; {routed.fmax_mhz * 1e6 / cycles:,.0f} frames/s at {routed.fmax_mhz:.1f} MHz"
    return text


def _cycles_per_frame(folder: Path) -> float | None:
    passes = SimulationResult.read(folder / "simulation.json").passes
    measured = (p.cycles_per_frame for p in passes if not p.stalls)
    return next((cycles for cycles in measured if cycles), None)

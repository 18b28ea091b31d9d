"""Make a bitstream by open tools: the design behind the board's serial line, routed, packed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from adaqat_hw import families
from adaqat_hw.compile.design import Design
from adaqat_hw.compile.simulate import PATIENCE
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
from adaqat_hw.run import BuildFolder, tree_digest
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
    design: Design, board: Board, variant: str, note: Callable[[str], None]
) -> tuple[str, list[str]]:
    """Make the bitstream of a design that was compiled and simulated.

    Writes the bitstream, its record, the resources, and nextpnr's report.

    Raises:
        StageFailed: the simulation over the serial line differs, a tool failed, or the design
            is too large for the device. Missed timing is no failure; the record says it.
    """
    folder, graph = design.folder, design.sized()
    request = BuildRequest.read(folder.request)
    device, constraints, top, clocking = check_board(board, request.clock_ns)
    accelerator = design.stitch(graph)
    source, sink, build = graph.input_stream, graph.output_stream, request.digest()
    shell = BoardDesign(accelerator, device.flow.shell, top, source, sink, clocking, build)
    frames = _prove_line(shell, design, graph, note)
    bitstream = make_bitstream(
        shell.sources,
        top,
        device,
        constraints,
        parameters=shell.parameters,
        data_files=accelerator.data_files,
        logs=folder.logs,
        note=note,
    )
    put_file(bitstream.path, folder.bit_file)
    put_file(bitstream.report, folder.nextpnr_report)
    _record(shell, bitstream, board, frames, folder).write(folder.bitstream)
    report = _resources(bitstream, device, graph, board, variant, folder)
    written = report.write(folder.resources(report.source))
    files = (folder.bit_file, folder.nextpnr_report, folder.bitstream, written)
    return _text(bitstream, device.family, shell, folder), folder.relative(*files)


def _prove_line(
    shell: BoardDesign, design: Design, graph: HardwareGraph, note: Callable[[str], None]
) -> int:
    """Simulate a few frames from pin to pin; they must equal the golden outputs."""
    golden = design.golden()
    frames, expected = _few(golden["inputs"]), _few(golden["outputs"])
    note("building the simulator of the board with its serial line")
    simulator = shell.simulator(design.folder.simulator)
    note(f"{len(frames)} frames over the serial line, pin to pin")
    slowest = max(graph.cycles_estimated, graph.input_stream.beats, graph.output_stream.beats)
    cycles = PATIENCE * slowest * len(graph.nodes)
    _, results = simulate_line(shell, simulator, list(frames), cycles)
    for k, (result, frame) in enumerate(zip(results, expected, strict=True)):
        if not np.array_equal(result, frame.reshape(-1)):
            raise StageFailed(STAGE, f"frame {k} over the serial line differs from the model.")
    return len(frames)


def _few(arrays: IntArray) -> IntArray:
    return arrays[:LINE_FRAMES]


def _record(
    shell: BoardDesign, bitstream: Bitstream, board: Board, frames: int, folder: BuildFolder
) -> BitstreamResult:
    return BitstreamResult(
        file=folder.bit_file.name,
        sha256=sha256_file(folder.bit_file),
        part=board.part,
        top=shell.top,
        build=shell.build,
        clock_mhz=shell.clocking.mhz,
        fmax_mhz=bitstream.routed.fmax_mhz,
        timing_met=_met(bitstream, shell),
        baud=shell.clocking.baud,
        line_frames=frames,
        line_fps=shell.line_fps(),
        used=bitstream.routed.used,
        available=bitstream.routed.available,
        seconds=bitstream.seconds,
        tool_versions=bitstream.versions,
    )


def _met(bitstream: Bitstream, shell: BoardDesign) -> bool:
    return bitstream.routed.fmax_mhz >= shell.clocking.mhz


def _resources(
    bitstream: Bitstream,
    device: Device,
    graph: HardwareGraph,
    board: Board,
    variant: str,
    folder: BuildFolder,
) -> ResourceReport:
    """Nothing is known by layer: the routed design is flat, the serial line in it."""
    return ResourceReport(
        plan=variant,
        source="nextpnr_pnr",
        part=board.part,
        tool=device.flow.router.name,
        tool_version=bitstream.versions[device.flow.router.name],
        total=bitstream.routed.resources,
        layer_sum=Resources(),
        layers=(),
        unmatched=tuple(node.name for node in graph.nodes),
        source_file=folder.nextpnr_report.name,
        source_sha256=sha256_file(folder.nextpnr_report),
        slack_ns=bitstream.routed.slack_ns,
        fmax_mhz=bitstream.routed.fmax_mhz,
    )


def _text(bitstream: Bitstream, family: Family, shell: BoardDesign, folder: BuildFolder) -> str:
    used, routed = bitstream.routed.resources, bitstream.routed
    verdict = "meets" if _met(bitstream, shell) else "MISSES"
    text = (
        f"{folder.bit_file.name}: {used.lut} LUT{family.lut_inputs}, {used.ff} FF, {used.dsp} "
        f"{family.dsp.primitive}, {used.bram_18k} {family.memory.block.primitive}; "
        f"{routed.fmax_mhz:.1f} MHz, {verdict} the {shell.clocking.mhz:.1f} MHz of its clock"
    )
    cycles = _cycles_per_frame(folder)
    if cycles is not None:
        text += f"; {routed.fmax_mhz * 1e6 / cycles:,.0f} frames/s at {routed.fmax_mhz:.1f} MHz"
    return text


def _cycles_per_frame(folder: BuildFolder) -> float | None:
    passes = SimulationResult.read(folder.simulation).passes
    measured = (p.cycles_per_frame for p in passes if not p.stalls)
    return next((cycles for cycles in measured if cycles), None)

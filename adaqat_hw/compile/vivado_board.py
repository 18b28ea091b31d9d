"""The block design of a board with a processor: that, a DMA and the accelerator, to a bitstream.

The DMA reads and writes 64-bit words over one high-performance port; the accelerator's IP adapts
them to its own streams (``hw/deploy``). Clock and reset come from the processor.

FINN's own Zynq build is not used: it makes its streams and DMAs with Vitis HLS from FINN's nodes,
so it would put another design on the board than the one that was simulated here.
"""

from __future__ import annotations

from collections.abc import Mapping

from adaqat_hw import boards, families
from adaqat_hw.compile.tcl import Raw, command, listing
from adaqat_hw.compile.vivado_scripts import IMPL, VENDOR, reports, step
from adaqat_hw.errors import ConfigError
from adaqat_hw.run import DeployFolder
from adaqat_hw.schema import Board, ProcessingSystem

DMA_BITS = 64
_DESIGN = "system"


def require_board(board: Board) -> tuple[str, ProcessingSystem]:
    """Return Vivado's name of the board and its processor.

    Raises:
        ConfigError: a board without one of them, so without a block design.
    """
    vivado = families.load(board.family).vivado
    if board.vivado_board is None or vivado is None or vivado.processing_system is None:
        known = [name for name in boards.names() if boards.load(name).vivado_board is not None]
        raise ConfigError(
            f"Goal 'bitfile' has no block design for board {board.name!r}; choose one of "
            f"{', '.join(known)}, or goal 'ip' for a design of your own."
        )
    return board.vivado_board, vivado.processing_system


def board_script(board: Board, clock_ns: float, threads: int) -> str:
    """Return the script of goal ``bitfile``; it expects the packaged IP in ``ip/``.

    Raises:
        ConfigError: a board without a block design here.
    """
    name, ps = require_board(board)
    text = "# Written by adaqat-hw; not to be edited.\n"
    text += command("set_param", "general.maxThreads", threads)
    text += command("create_project", "-force", _DESIGN, "project_system", "-part", board.part)
    missing = (
        f"ERROR: the board definition {name} is not installed in Vivado; install the board files "
        "of its maker"
    )
    text += f"if {{[llength [get_board_parts -quiet {name}]] == 0}} {{\n"
    text += f"  {command('puts', missing)}  exit 1\n}}\n"
    text += command("set_property", "board_part", name, Raw("[current_project]"))
    text += command("set_property", "ip_repo_paths", listing("ip"), Raw("[current_project]"))
    text += command("update_ip_catalog", "-rebuild")
    text += step("block_design") + command("create_bd_design", _DESIGN)
    text += _cells(ps, clock_ns) + _wires(ps)
    text += command("assign_bd_address")
    text += command("validate_bd_design") + command("save_bd_design")
    text += "set made [make_wrapper -top -files [get_files system.bd]]\n"
    text += "add_files -norecurse $made\n"
    text += command("set_property", "top", f"{_DESIGN}_wrapper", Raw("[current_fileset]"))
    text += command("update_compile_order", "-fileset", "sources_1")
    text += step("implementation")
    text += command("launch_runs", "impl_1", "-to_step", "write_bitstream", "-jobs", threads)
    text += command("wait_on_run", "impl_1")
    text += (
        'if {[get_property PROGRESS [get_runs impl_1]] ne "100%"} {\n'
        "  puts \"ERROR: \\[Common 17-69\\] Command failed: Run 'impl_1' failed.\"\n  exit 1\n}\n"
    )
    text += command("open_run", "impl_1") + step("reports") + reports(IMPL)
    runs, sources = f"project_system/{_DESIGN}.runs", f"project_system/{_DESIGN}.gen/sources_1"
    bit = f"{runs}/impl_1/{_DESIGN}_wrapper.bit"
    hwh = f"{sources}/bd/{_DESIGN}/hw_handoff/{_DESIGN}.hwh"
    for source, target in ((bit, DeployFolder.bit_file.name), (hwh, DeployFolder.handoff.name)):
        text += command("file", "copy", "-force", source, target)
    return text + step("done") + command("exit", "0")


def _cells(ps: ProcessingSystem, clock_ns: float) -> str:
    settings = {**ps.settings, ps.clock_setting: f"{1000 / clock_ns:.3f}"}
    text = _cell("ps", ps.vlnv)
    config = Raw("{" + ps.preset + "}")
    text += command(
        "apply_bd_automation", "-rule", ps.rule, "-config", config, Raw("[get_bd_cells ps]")
    )
    text += _configure("ps", settings)
    text += _cell("dma", "xilinx.com:ip:axi_dma")
    widths = ("m_axis_mm2s_tdata", "m_axi_mm2s_data", "s_axis_s2mm_tdata", "m_axi_s2mm_data")
    text += _configure(
        "dma",
        {"c_include_sg": 0, "c_sg_length_width": 26}
        | {f"c_{name}_width": DMA_BITS for name in widths},
    )
    for name, masters in (("control", 1), ("memory", 2)):
        text += _cell(name, "xilinx.com:ip:smartconnect")
        text += _configure(name, {"NUM_SI": masters, "NUM_MI": 1})
    text += _cell("reset", "xilinx.com:ip:proc_sys_reset")
    return text + _cell("accelerator", VENDOR)


def _cell(name: str, vlnv: str) -> str:
    if vlnv.count(":") == 3:
        return command("create_bd_cell", "-type", "ip", "-vlnv", vlnv, name)
    # The newest version that this Vivado has.
    newest = Raw(f"[lindex [lsort -dictionary [get_ipdefs {vlnv}:*]] end]")
    return command("create_bd_cell", "-type", "ip", "-vlnv", newest, name)


def _configure(cell: str, values: Mapping[str, object]) -> str:
    pairs = [word for name, value in values.items() for word in (f"CONFIG.{name}", value)]
    return command("set_property", "-dict", listing(*pairs), Raw(f"[get_bd_cells {cell}]"))


def _wires(ps: ProcessingSystem) -> str:
    streams = (("dma/M_AXIS_MM2S", "accelerator/s_axis"), ("accelerator/m_axis", "dma/S_AXIS_S2MM"))
    buses = (
        *streams,
        (f"ps/{ps.control}", "control/S00_AXI"), ("control/M00_AXI", "dma/S_AXI_LITE"),
        ("dma/M_AXI_MM2S", "memory/S00_AXI"), ("dma/M_AXI_S2MM", "memory/S01_AXI"),
        ("memory/M00_AXI", f"ps/{ps.memory}"),
    )  # fmt: skip
    text = "".join(
        command("connect_bd_intf_net", *(Raw(f"[get_bd_intf_pins {pin}]") for pin in pair))
        for pair in buses
    )
    clocked = (
        "reset/slowest_sync_clk", "control/aclk", "memory/aclk", "dma/s_axi_lite_aclk",
        "dma/m_axi_mm2s_aclk", "dma/m_axi_s2mm_aclk", "accelerator/ap_clk",
        f"ps/{ps.control_clock}", f"ps/{ps.memory_clock}",
    )  # fmt: skip
    reset = ("control/aresetn", "memory/aresetn", "dma/axi_resetn", "accelerator/ap_rst_n")
    nets = (
        (f"ps/{ps.clock}", clocked),
        (f"ps/{ps.reset}", ("reset/ext_reset_in",)),
        ("reset/peripheral_aresetn", reset),
    )
    for source, pins in nets:
        listed = (Raw(f"[get_bd_pins {pin}]") for pin in (source, *pins))
        text += command("connect_bd_net", *listed)
    return text

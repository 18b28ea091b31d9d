"""The Tcl that Vivado gets: synthesis and implementation out of context, packaged IP.

Scripts run in a work folder of their own and name every file relative to it, so that they say the
same in a container. ``puts`` lines with STEP tell how far a run has come. ``board_script``
for whole boards is in :mod:`adaqat_hw.compile.vivado_board`.
"""

from __future__ import annotations

from dataclasses import dataclass

from adaqat_hw.compile.tcl import Raw, command, listing, word
from adaqat_hw.errors import ConfigError

STEP = "ADAQAT STEP"
VENDOR = "adaqat:hw:accelerator:1.0"
CLOCK = "ap_clk"
SYNTH, IMPL = "synth", "impl"


@dataclass(frozen=True)
class VivadoSources:
    """What a script is about: RTL in order and memory files, relative to the work folder."""

    top: str
    part: str
    clock_ns: float
    sources: tuple[str, ...]
    memories: tuple[str, ...]


def step(name: str) -> str:
    """Return the line that says which step begins."""
    return command("puts", f"{STEP} {name}")


def reports(prefix: str, *, timing: bool = True) -> str:
    """Return the commands that write the reports to ``<prefix>_<kind>.rpt``."""
    text = command("report_utilization", "-file", f"{prefix}_utilization.rpt")
    text += command("report_utilization", "-hierarchical", "-file", f"{prefix}_hierarchy.rpt")
    if timing:
        text += command("report_timing_summary", "-file", f"{prefix}_timing.rpt")
        text += command("report_power", "-file", f"{prefix}_power.rpt")
    return text


def report_names(prefix: str) -> dict[str, str]:
    """Return the file name of each kind of report."""
    kinds = ("utilization", "hierarchy", "timing", "power")
    return {kind: f"{prefix}_{kind}.rpt" for kind in kinds}


def ooc_script(design: VivadoSources, threads: int) -> str:
    """Return the script of goal ``ooc_synth``: synthesis, placement and routing out of context.

    Nothing is flattened across the instances of the top, which makes the rows per layer true.
    """
    _check(design)
    text = _head(threads)
    text += command("create_project", "-in_memory", "-part", design.part)
    text += _read(design)
    text += step("synth_design")
    text += command(
        "synth_design", "-top", design.top, "-part", design.part, "-mode", "out_of_context",
        "-flatten_hierarchy", "rebuilt",
    )  # fmt: skip
    text += command(
        "create_clock", "-name", CLOCK, "-period", f"{design.clock_ns:g}",
        Raw(f"[get_ports {CLOCK}]"),
    )  # fmt: skip
    text += reports(SYNTH)
    for name in ("opt_design", "place_design", "phys_opt_design", "route_design"):
        text += step(name) + command(name)
    text += reports(IMPL)
    text += command("write_checkpoint", "-force", "accelerator.dcp")
    return text + _end()


def ip_script(design: VivadoSources, wrapper: str) -> str:
    """Return the script of goal ``ip``: the design under ``wrapper`` as an IP in ``ip/``.

    AXI streams, clock and reset are inferred from the port names and attributes of the wrapper.
    """
    _check(design)
    text = _head(1) + command(
        "create_project", "-force", "package", "project", "-part", design.part
    )
    text += command("add_files", "-norecurse", listing(*design.sources, f"{wrapper}.v"))
    if design.memories:
        text += command("add_files", "-norecurse", listing(*design.memories))
        kind = Raw("[get_files -quiet *.dat *.hex *.mem]")
        text += command("set_property", "file_type", "Memory Initialization Files", kind)
    text += command("set_property", "top", wrapper, Raw("[current_fileset]"))
    text += command("update_compile_order", "-fileset", "sources_1")
    text += step("package_project")
    vendor, library, name, version = VENDOR.split(":")
    text += command(
        "ipx::package_project", "-root_dir", "ip", "-vendor", vendor, "-library", library,
        "-taxonomy", "/UserIP", "-import_files", "-force",
    )  # fmt: skip
    core = Raw("[ipx::current_core]")
    for key, value in (("name", name), ("version", version), ("display_name", "adaqat-hw")):
        text += command("set_property", key, value, core)
    text += command("ipx::check_integrity", core)
    text += command("ipx::save_core", core)
    return text + _end()


def _head(threads: int) -> str:
    return (
        "# Written by adaqat-hw; not to be edited.\n"
        + command("set_param", "general.maxThreads", threads)
        # An RTL construct that Vivado does not take must not become a black box.
        + command("set_msg_config", "-id", "Synth 8-439", "-new_severity", "ERROR")
    )


def _read(design: VivadoSources) -> str:
    text = "".join(command("read_verilog", "-sv", name) for name in design.sources)
    return text + "".join(command("read_mem", name) for name in design.memories)


def _end() -> str:
    return step("done") + command("exit", "0")


def _check(design: VivadoSources) -> None:
    for name in (*design.sources, *design.memories):
        word(name)
        if name.startswith(("/", "-")):
            raise ConfigError(f"{name!r} must be a path relative to Vivado's work folder.")
    if not design.sources:
        raise ConfigError("The design has no Verilog source; make the build again.")

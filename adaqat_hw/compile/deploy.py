"""The Verilog around the accelerator for Vivado, and the package that goes to the board."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from adaqat_hw.compile.vivado_board import DMA_BITS
from adaqat_hw.errors import StageFailed
from adaqat_hw.resources import hw_dir
from adaqat_hw.rtl.verilog_names import require_identifier
from adaqat_hw.run import DeployFolder
from adaqat_hw.schema import HardwareGraph, Stream, write_atomic

DRIVER = DeployFolder.driver.name
ADAPTERS = ("adq_words_in.v", "adq_words_out.v")
WRAPPER = "accelerator_ip"


def folder() -> Path:
    """Return the folder of the adapters and the driver."""
    return hw_dir() / "deploy"


def wrapper(graph: HardwareGraph, top: str, *, dma: bool) -> str:
    """Return a plain Verilog module around ``top`` for the IP packager.

    Its streams are ``s_axis`` and ``m_axis``: as wide as the accelerator's, or with ``dma`` of
    64-bit words with TLAST after every frame.
    """
    require_identifier(top, "The top module's name")
    source, sink = graph.input_stream, graph.output_stream
    widths = (DMA_BITS, DMA_BITS) if dma else (source.width, sink.width)
    text = "// Written by adaqat-hw; not to be edited.\n`default_nettype none\n"
    text += f"module {WRAPPER} (\n"
    text += _attribute("xilinx.com:signal:clock:1.0 ap_clk CLK", "ASSOCIATED_BUSIF s_axis:m_axis, "
                       "ASSOCIATED_RESET ap_rst_n")  # fmt: skip
    text += "    input  wire ap_clk,\n"
    text += _attribute("xilinx.com:signal:reset:1.0 ap_rst_n RST", "POLARITY ACTIVE_LOW")
    text += "    input  wire ap_rst_n,\n"
    text += _port("s_axis", "TDATA", "input ", widths[0]) + _port("s_axis", "TVALID", "input ")
    text += _port("s_axis", "TREADY", "output")
    text += _port("m_axis", "TDATA", "output", widths[1]) + _port("m_axis", "TVALID", "output")
    if dma:
        text += _port("m_axis", "TLAST", "output")
    text += _port("m_axis", "TREADY", "input ").rstrip(",\n") + "\n);\n"
    if dma:
        text += _wires("source", source) + _wires("sink", sink)
        text += _instance(
            "adq_words_in", f"#(.WIDTH({source.width}), .DMA({DMA_BITS})) words_in",
            _stream("in0_V", "s_axis_", str.lower) + _stream("out0_V", "source_", str),
        )  # fmt: skip
    inner = (
        _stream("in0_V", "source_", str) + _stream("out0_V", "sink_", str)
        if dma
        else _stream("in0_V", "s_axis_", str.lower) + _stream("out0_V", "m_axis_", str.lower)
    )
    text += _instance(top, "core", inner)
    if dma:
        parameters = f"#(.WIDTH({sink.width}), .BEATS({sink.beats}), .DMA({DMA_BITS}))"
        text += _instance(
            "adq_words_out", f"{parameters} words_out",
            _stream("in0_V", "sink_", str) + _stream("out0_V", "m_axis_", str.lower)
            + [".out0_V_TLAST(m_axis_tlast)"],
        )  # fmt: skip
    return text + "endmodule\n`default_nettype wire\n"


def _attribute(info: str, parameter: str) -> str:
    return (
        f'    (* X_INTERFACE_INFO = "{info}" *)\n    (* X_INTERFACE_PARAMETER = "{parameter}" *)\n'
    )


def _port(bus: str, name: str, direction: str, width: int | None = None) -> str:
    span = "" if width is None else f"[{width - 1}:0] "
    info = f"xilinx.com:interface:axis:1.0 {bus} {name}"
    head = f'    (* X_INTERFACE_INFO = "{info}" *)\n'
    return f"{head}    {direction} wire {span}{bus}_{name.lower()},\n"


def _wires(name: str, stream: Stream) -> str:
    return (
        f"  wire [{stream.width - 1}:0] {name}_TDATA;\n"
        f"  wire {name}_TVALID;\n  wire {name}_TREADY;\n"
    )


def _stream(port: str, wire: str, case: Any) -> list[str]:
    ends = ("TDATA", "TVALID", "TREADY")
    return [f".{port}_{end}({wire}{case(end)})" for end in ends]


def _instance(module: str, name: str, ports: Iterable[str]) -> str:
    listed = ",\n      ".join([".ap_clk(ap_clk)", ".ap_rst_n(ap_rst_n)", *ports])
    return f"  {module} {name} (\n      {listed}\n  );\n"


def design_facts(graph: HardwareGraph) -> dict[str, Any]:
    """Return what the driver must know of the design."""

    def stream(port: Stream) -> dict[str, Any]:
        return {
            "bits": port.dtype.bits,
            "signed": port.dtype.signed,
            "elements": port.elements,
            "beats": port.beats,
            "width": port.width,
        }

    return {
        "network": graph.network,
        "part": graph.part,
        "clock_ns": graph.clock_ns,
        "input": stream(graph.input_stream),
        "output": stream(graph.output_stream),
        "host": graph.host.model_dump(mode="json"),
    }


def write_package(graph: HardwareGraph, work: Path, target: Path) -> list[Path]:
    """Put bitstream, handoff, driver and design record into ``target``; return the files."""
    package, built = DeployFolder(target), DeployFolder(work)
    sources = (built.bit_file, built.handoff, folder() / DRIVER)
    for source in sources:
        if not source.is_file() or source.stat().st_size == 0:
            raise StageFailed(
                "vivado", f"{source.name!r} was not made although Vivado ended well", work
            )

    def fill(part: Path) -> None:
        for source in sources:
            shutil.copyfile(source, part / source.name)
        write_atomic(DeployFolder(part).design, json.dumps(design_facts(graph), indent=1) + "\n")

    put_folder(target, fill)
    return [package.bit_file, package.handoff, package.driver, package.design]


def put_folder(target: Path, fill: Callable[[Path], object]) -> None:
    """Make folder ``target`` anew with what ``fill`` puts into it: all of it or nothing."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        fill(part)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)

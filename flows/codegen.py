"""Insert width converters and FIFOs, generate the RTL of FINN's nodes, copy it into hdl/."""

from __future__ import annotations

import shutil
from pathlib import Path

from onnx import NodeProto

from adaqat_hw.schema.build_files import HDL
from adaqat_hw.schema.operators import FIFO, Generator, operator
from flows import workarounds
from flows.flow_state import FlowError, FlowState
from flows.graph_types import HardwareOp, hardware_op
from flows.layers import map_layers

_SUFFIXES = (".v", ".sv", ".vh", ".svh", ".dat")


def generator_of(state: FlowState, node: NodeProto) -> Generator:
    """Return who makes the RTL of a node: ``finn`` or ``adaqat``."""
    record = operator(node.op_type)
    if not record.implementations:
        return record.generators[0]
    built = record.implementation(state.choices[node.name].impl)
    assert built is not None
    return built.generator


def insert_streams(state: FlowState) -> None:
    """Insert width converters and FIFOs, all of ``request.fifo_depth`` entries.

    Nodes keep their names; ``state.layer_of`` is filled again.
    """
    from finn.transformation.fpgadataflow.insert_dwc import InsertDWC
    from finn.transformation.fpgadataflow.insert_fifo import InsertFIFO
    from finn.transformation.fpgadataflow.specialize_layers import SpecializeLayers
    from qonnx.transformation.general import (
        GiveReadableTensorNames,
        GiveUniqueNodeNames,
        SortGraph,
    )

    before = [n.name for n in state.model.graph.node]
    for transformation in (
        InsertDWC(),
        InsertFIFO(create_shallow_fifos=True),
        SpecializeLayers(state.request.part),
        SortGraph(),
        GiveUniqueNodeNames(),
        GiveReadableTensorNames(),
    ):
        state.model = state.model.transform(transformation)
    after = {n.name for n in state.model.graph.node}
    if lost := [name for name in before if name not in after]:
        raise FlowError(f"inserting FIFOs renamed the nodes {lost!r}, which it must not")
    for node in state.model.graph.node:
        if operator(node.op_type) is FIFO:
            workarounds.fix_fifo(hardware_op(node), state.request.fifo_depth)
    map_layers(state)


def generate_rtl(state: FlowState) -> None:
    """Generate and collect the RTL of every node that FINN makes.

    Files go to ``hdl/<node>/`` and FINN's library to ``hdl/rtllib/``; the state gets their
    paths relative to the build directory.
    """
    from finn.util.settings import get_settings

    library = Path(get_settings().finn_rtllib).resolve()
    shared: dict[str, None] = {}
    for node in state.model.graph.node:
        if generator_of(state, node) != "finn":
            continue
        if not node.op_type.endswith("_rtl"):
            raise FlowError(f"FINN has no RTL for {node.name!r} ({node.op_type})")
        workarounds.generate_node(node, state.model, state.request.part, state.request.clock_ns)
        instance = hardware_op(node)
        generated = Path(instance.get_nodeattr("code_gen_dir_ipgen"))
        own = [p for p in sorted(generated.iterdir()) if _is_needed(p)]
        if not own:
            raise FlowError(f"FINN generated no RTL for {node.name!r}")
        state.files_of[node.name] = tuple(_copy(state, p, node.name) for p in own)
        state.top_of[node.name] = _top_module(instance, node, own)
        for name in instance.get_rtl_file_list(abspath=True):
            path = Path(name).resolve()
            if path.is_relative_to(library) and path.is_file():
                subfolder = Path("rtllib") / path.relative_to(library).parent
                shared[_copy(state, path, str(subfolder))] = None
    state.rtllib_files = tuple(shared)


def _is_needed(path: Path) -> bool:
    """Tell whether a generated file is used; the weight memories are this project's own."""
    return path.suffix in _SUFFIXES and not (
        path.name == "memblock.dat" or path.name.endswith("_memstream_wrapper.v")
    )


def _copy(state: FlowState, path: Path, subfolder: str) -> str:
    target = state.folder / HDL / subfolder / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
    return target.relative_to(state.folder).as_posix()


def _top_module(instance: HardwareOp, node: NodeProto, files: list[Path]) -> str:
    types = instance.get_nodeattr_types()
    top = instance.get_nodeattr("gen_top_module") if "gen_top_module" in types else ""
    top = top or instance.get_verilog_top_module_name()
    texts = [p.read_text(encoding="utf-8") for p in files if p.suffix in (".v", ".sv")]
    for name in (top, f"{top}_wrapper"):
        if any(f"module {name}" in text for text in texts):
            return str(name)
    raise FlowError(f"no file that FINN generated for {node.name!r} declares module {top!r}")

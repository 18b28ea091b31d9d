"""Every workaround for finn-plus and qonnx, each with version, symptom and when to delete it.

Seen with finn-plus 1.6.1 and qonnx 1.0.0 unless an entry says otherwise.
"""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path

from onnx import NodeProto

from flows.graph_types import HardwareOp, Model

_LAZY_XSI_NAMES = (
    "SimEngine",
    "locate_glbl",
    "compile_sim_obj",
    "get_simkernel_so",
    "load_sim_obj",
    "reset_rtlsim",
    "close_rtlsim",
    "rtlsim_multi_io",
)


def prepare_environment(scratch: Path) -> None:
    """Keep FINN's settings and scratch files inside ``scratch``. Call before importing finn.

    finn-plus 1.6.1. Symptom: without FINN_SETTINGS it writes into the home directory, without
    FINN_BUILD_DIR into the system's temporary folder. Delete when finn takes these as
    arguments.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    os.environ["FINN_SETTINGS"] = str(scratch / "settings.yaml")
    os.environ["FINN_BUILD_DIR"] = str(scratch)
    os.environ["FINN_DEPS"] = str(scratch / "no-deps")
    os.environ["NUM_DEFAULT_WORKERS"] = "1"


def load_finn() -> None:
    """Import finn's build steps on a machine without Vivado.

    finn-plus 1.6.1. Symptom: ``finn.builder.build_dataflow_steps`` does ``from finn.xsi import
    SimEngine``, a lazy name that raises without XILINX_VIVADO; the steps used here never
    simulate with it. Delete when that import is made where it is used.

    finn-plus 1.6.1. Symptom: outside FINN's own command line ``get_settings()`` raises until
    settings were initialised. Delete when they initialise themselves.
    """
    warnings.filterwarnings("ignore", category=UserWarning, module="qonnx")
    import finn.xsi

    for name in _LAZY_XSI_NAMES:
        setattr(finn.xsi, name, type(name, (), {}))
    from finn.util.settings import initialize_dummy_settings

    initialize_dummy_settings()
    import finn.builder.build_dataflow_steps

    logging.getLogger("finn").setLevel(logging.WARNING)


def move_overloaded_inputs(model: Model) -> list[str]:
    """Drop graph inputs that are initializers, and return the names of the real ones.

    Brevitas 0.13 through torch 2.13's exporter. Symptom: the QONNX file lists every parameter
    as a graph input too, so that "the" input of the graph is not unique. Delete when the
    exporter stops it (or no such file is accepted any more).
    """
    constants = {x.name for x in model.graph.initializer}
    for value in [x for x in model.graph.input if x.name in constants]:
        model.graph.input.remove(value)
    return [x.name for x in model.graph.input]


def declare_opset(model: Model) -> None:
    """Give the standard ONNX domain a version where a file declares it twice or not at all.

    qonnx 1.0.0. Symptom: GemmToMatMul reads ``opset_import[0].version`` whatever its domain is
    and warns about "version 2 of the Gemm node". Harmless, hence only the standard domain is
    put first. Delete when qonnx looks the domain up.
    """
    imports = sorted(model.model.opset_import, key=lambda x: x.domain not in ("", "ai.onnx"))
    listed = [(x.domain, x.version) for x in imports]
    del model.model.opset_import[:]
    for domain, version in listed:
        entry = model.model.opset_import.add()
        entry.domain, entry.version = domain, version


def generate_node(node: NodeProto, model: Model, part: str, clock_ns: float) -> None:
    """Generate the RTL of one node.

    finn-plus 1.6.1. Symptom: the public transformation PrepareIP generates all nodes, HLS ones
    too, whose C++ needs Vitis; hence its inner function. Delete when PrepareIP takes a filter.
    """
    from finn.transformation.fpgadataflow.prepare_ip import _codegen_single_node

    _codegen_single_node(node, model, part, clock_ns)


def fix_fifo(instance: HardwareOp, depth: int) -> None:
    """Give a FIFO its depth, and the RTL version.

    finn-plus 1.6.1. Symptom: InsertFIFO takes depths from its neighbours, which only FINN's own
    sizing by the Vivado simulator sets, and makes deep FIFOs of Vivado's IP (impl_style vivado).
    Delete when InsertFIFO takes a depth and a style.
    """
    instance.set_nodeattr("depth", depth)
    instance.set_nodeattr("impl_style", "rtl")

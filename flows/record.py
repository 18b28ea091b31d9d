"""Write the flow's results: HardwareGraph, parameters, and the list of outputs."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from adaqat_hw.schema import (
    BuildOutput,
    HardwareGraph,
    HardwareNode,
    Resources,
    Stream,
    sha256_file,
)
from adaqat_hw.schema.build_files import GOLDEN, HARDWARE, HDL, PARAMETERS, REPORTS
from adaqat_hw.schema.operators import Operator, base_op, operator
from flows.codegen import generator_of
from flows.flow_state import FlowError, FlowState
from flows.graph_types import HardwareOp, Model, hardware_op
from flows.host_interface import int_type

_NOT_HARDWARE = (
    *("backend", "code_gen_dir_ipgen", "ipgen_path", "ip_path", "ip_vlnv", "exec_mode", "slr"),
    *("cycles_rtlsim", "cycles_estimate", "rtlsim_trace", "res_estimate", "res_synth"),
    *("rtlsim_so", "mem_port", "partition_id", "device_id", "output_hook", "bodies"),
    *("mlo_max_iter", "address_offset", "preferred_impl_style", "gen_top_module"),
    *("code_gen_dir_cppsim", "executable_path", "ipgen_ignore", "tool_version", "inFIFODepths"),
    *("outFIFODepths", "io_chrc_in", "io_chrc_out", "io_chrc_period", "io_chrc_pads_in"),
)


def write_records(state: FlowState) -> HardwareGraph:
    """Write ``params.npz`` and ``hardware.json``; ``golden.npz`` must exist already."""
    assert state.host is not None, "records are written after the host interface is cut off"
    nodes: list[HardwareNode] = []
    arrays: dict[str, NDArray[Any]] = {}
    for node in state.model.graph.node:
        instance = hardware_op(node)
        parameters = _parameters(state.model, node, operator(node.op_type))
        arrays.update({f"{node.name}__{key}": value for key, value in parameters.items()})
        nodes.append(_hardware_node(state, node, instance, parameters))
    if len(state.model.graph.input) != 1 or len(state.model.graph.output) != 1:
        raise FlowError("the accelerator has several inputs or outputs")
    parameters_path = state.folder / PARAMETERS
    save_arrays(parameters_path, arrays)
    golden_path = state.folder / GOLDEN
    cycles = max(n.cycles for n in nodes)
    output_stream = _outer(nodes, state.model.graph.output[0].name, "outputs")
    # Before minimize_bit_width the accumulators have FINN's placeholder width.
    host = state.host.model_copy(update={"output_dtype": output_stream.dtype})
    graph = HardwareGraph(
        network=state.request.network,
        part=state.request.part,
        clock_ns=state.request.clock_ns,
        nodes=tuple(nodes),
        input_stream=_outer(nodes, state.model.graph.input[0].name, "inputs"),
        output_stream=output_stream,
        host=host,
        parameters_file=PARAMETERS,
        parameters_sha256=sha256_file(parameters_path),
        golden_file=GOLDEN,
        golden_sha256=sha256_file(golden_path),
        rtllib_files=state.rtllib_files,
        cycles_estimated=cycles,
        fps_estimated=1e9 / (cycles * state.request.clock_ns),
    )
    _check_host_interface(graph)
    graph.write(state.folder / HARDWARE)
    return graph


def outputs(state: FlowState) -> tuple[BuildOutput, ...]:
    """List the files of the build directory with their SHA-256."""
    names = [HARDWARE, PARAMETERS, GOLDEN]
    for folder in (HDL, REPORTS):
        files = sorted(p for p in (state.folder / folder).rglob("*") if p.is_file())
        names += [p.relative_to(state.folder).as_posix() for p in files]
    listed = [(name, state.folder / name) for name in names]
    return tuple(
        BuildOutput(path=name, sha256=sha256_file(path)) for name, path in listed if path.is_file()
    )


def save_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write an .npz under a temporary name, then rename.

    The bytes depend on the arrays alone: ``np.savez`` writes headers that differ between patch
    releases of Python, and digests of these files stand in the records.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            body = io.BytesIO()
            np.lib.format.write_array(body, np.asanyarray(array), allow_pickle=False)
            archive.writestr(member, body.getvalue(), zipfile.ZIP_DEFLATED)
    temporary.replace(path)


def _parameters(model: Model, node: NodeProto, record: Operator) -> dict[str, NDArray[np.int64]]:
    if record.parameters is None:
        return {}
    key = record.parameters.name
    values = model.get_initializer(node.input[1])
    if values is None:
        raise FlowError(f"the {key} of {node.name!r} are not constant")
    integers: NDArray[np.int64] = np.rint(values).astype(np.int64)
    if not np.array_equal(integers, values):
        raise FlowError(f"the {key} of {node.name!r} are not integers")
    # Kernels (C, 1, height, width) have one row per channel.
    return {key: integers.reshape(len(integers), -1)}


def _hardware_node(
    state: FlowState,
    node: NodeProto,
    instance: HardwareOp,
    parameters: dict[str, NDArray[np.int64]],
) -> HardwareNode:
    record = operator(node.op_type)
    choice = state.choices.get(node.name)
    attributes = _attributes(instance)
    if record.weighted:
        weights = instance.get_input_datatype(1)
        attributes["weight_bits"] = int(weights.bitwidth())
        attributes["weight_signed"] = int(weights.signed())
        if choice is not None and choice.dsp_refusal is not None:
            attributes["dsp_refusal"] = choice.dsp_refusal
    elif record.parameters is not None:
        attributes["out_bias"] = int(instance.get_nodeattr("ActVal"))
    return HardwareNode(
        name=node.name,
        op=base_op(node.op_type),
        backend="rtl" if node.op_type.endswith("_rtl") else "hls",
        layer=state.layer_of.get(node.name),
        generator=generator_of(state, node),
        impl=choice.impl if choice else None,
        impl_reason=choice.reason if choice else "",
        top_module=state.top_of.get(node.name),
        files=state.files_of.get(node.name, ()),
        inputs=tuple(
            _stream(name, instance, "in", k)
            for k, name in enumerate(node.input)
            if state.model.get_initializer(name) is None
        ),
        outputs=tuple(_stream(name, instance, "out", k) for k, name in enumerate(node.output)),
        attributes=attributes,
        parameters={key: f"{node.name}__{key}" for key in parameters},
        cycles=int(instance.get_exp_cycles()),
        estimate=_estimate(instance, state.request.part),
    )


def _stream(tensor: str, instance: HardwareOp, side: Literal["in", "out"], k: int) -> Stream:
    if side == "in":
        datatype, shape = instance.get_input_datatype(k), instance.get_folded_input_shape(k)
        width = instance.get_instream_width_padded(k)
    else:
        datatype, shape = instance.get_output_datatype(k), instance.get_folded_output_shape(k)
        width = instance.get_outstream_width_padded(k)
    stream = Stream(
        name=tensor,
        dtype=int_type(datatype, f"stream {tensor!r}"),
        folded_shape=tuple(int(x) for x in shape),
    )
    if stream.width != width:
        raise FlowError(
            f"stream {tensor!r} is {stream.width} bits wide by its folded shape "
            f"{stream.folded_shape!r} but FINN says {width}"
        )
    return stream


def _attributes(instance: HardwareOp) -> dict[str, int | str | tuple[int, ...]]:
    attributes: dict[str, int | str | tuple[int, ...]] = {}
    for name, kind in instance.get_nodeattr_types().items():
        if name in _NOT_HARDWARE or kind[0] not in ("i", "s", "ints"):
            continue
        value = instance.get_nodeattr(name)
        if kind[0] == "i":
            attributes[name] = int(value)
        elif kind[0] == "ints":
            attributes[name] = tuple(int(x) for x in value)
        elif value:
            attributes[name] = value.decode() if isinstance(value, bytes) else str(value)
    return attributes


def _estimate(instance: HardwareOp, part: str) -> Resources:
    """Return FINN's estimate of the node as FINN would build it; it estimates no flip-flops."""
    row = instance.node_res_estimation(part)
    keys = {"lut": "LUT", "dsp": "DSP", "bram_18k": "BRAM_18K", "uram": "URAM"}
    return Resources(
        **{ours: math.ceil(row[key]) if row.get(key) is not None else None
           for ours, key in keys.items()}
    )  # fmt: skip


def _outer(nodes: list[HardwareNode], tensor: str, side: Literal["inputs", "outputs"]) -> Stream:
    for node in nodes:
        for stream in node.inputs if side == "inputs" else node.outputs:
            if stream.name == tensor:
                return stream
    raise FlowError(f"no node has the graph's {side[:-1]} {tensor!r}")


def _check_host_interface(graph: HardwareGraph) -> None:
    pairs = (
        (graph.input_stream, graph.host.input_shape, graph.host.input_dtype),
        (graph.output_stream, graph.host.output_shape, graph.host.output_dtype),
    )
    for stream, shape, dtype in pairs:
        if math.prod(stream.folded_shape) != math.prod(shape) or stream.dtype != dtype:
            raise FlowError(
                f"stream {stream.name!r} carries {stream.folded_shape!r} of {stream.dtype!r} per "
                f"frame, but software and accelerator exchange {shape!r} of {dtype!r}"
            )

"""The flow as a list of steps, in order. FINN's own steps are called, never copied."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from adaqat_hw.schema import BuildRequest, sha256_file, write_atomic
from adaqat_hw.schema.build_files import LAYERS, REPORTS
from adaqat_hw.schema.operators import operator
from flows import (
    bipolar,
    codegen,
    folding,
    golden,
    host_interface,
    network,
    normalize_qonnx,
    pools,
    record,
    rounding_ties,
    select_implementation,
    shortcuts,
    support,
    workarounds,
)
from flows import streamline as streamlining
from flows.flow_state import FlowError, FlowState, Refused
from flows.layers import map_layers
from flows.verify import Comparison, choose_frames, verify


@dataclass(frozen=True)
class Step:
    """One step: its name in records, what it does to the state, how its graph is verified."""

    name: str
    run: Callable[[FlowState], None]
    verified_by: Comparison = "no"


def steps_of(request: BuildRequest) -> list[Step]:
    """Return the steps for a request."""
    listed = [
        Step("load", _load),
        Step("adopt", _adopt, "logits"),
        Step("qonnx_to_finn", _finn_step("step_qonnx_to_finn"), "logits"),
        Step("tidy_up", _finn_step("step_tidy_up"), "logits"),
        Step("normalise_pools", pools.normalise, "logits"),
        Step("streamline", streamlining.streamline, "logits"),
        Step("round_thresholds", rounding_ties.round_thresholds, "logits"),
        Step("cut_host_interface", _cut_host_interface, "logits"),
        Step("convert_to_hw", _convert, "integers"),
        Step(
            "minimize_bit_width_initial", _finn_step("step_minimize_bit_width_initial"), "integers"
        ),
        Step("create_dataflow_partition", _finn_step("step_create_dataflow_partition"), "integers"),
        Step("choose_implementations", _choose),
        Step("specialize_layers", _specialize, "integers"),
        Step("folding", _fold, "integers"),
        Step("minimize_bit_width", _finn_step("step_minimize_bit_width"), "integers"),
        Step("generate_estimate_reports", _estimate),
    ]
    if request.goal != "estimate":
        listed += [
            Step("insert_streams", codegen.insert_streams, "integers"),
            Step("generate_rtl", codegen.generate_rtl),
        ]
    return [*listed, Step("golden_frames", golden.make_golden), Step("write_records", _write)]


def perform(step: Step, state: FlowState) -> None:
    """Run a step, then verify that the graph still computes the same."""
    step.run(state)
    verify(state, step.verified_by)


def _load(state: FlowState) -> None:
    path = Path(state.request.model)
    if not path.is_file():
        raise Refused([f"QONNX file {state.request.model!r} does not exist; export again."])
    if sha256_file(path) != state.request.model_sha256:
        raise Refused(
            [f"QONNX file {state.request.model!r} was changed after the export; export again."]
        )
    workarounds.prepare_environment(state.scratch)
    workarounds.load_finn()
    from qonnx.core.modelwrapper import ModelWrapper

    model = ModelWrapper(str(path))
    inputs = workarounds.move_overloaded_inputs(model)
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise Refused(
            [
                f"The network has {len(inputs)} inputs {inputs!r} and {len(model.graph.output)} "
                "outputs; the accelerator has one of each."
            ]
        )
    workarounds.declare_opset(model)
    state.input_name = inputs[0]
    state.input_shape = tuple(model.get_tensor_shape(inputs[0]) or ())
    state.layers = network.mac_layers(model, state.request.layers)
    state.model = model
    state.config = _finn_config(state)


def _adopt(state: FlowState) -> None:
    """Bring the file into the form that the next steps take, and cut off what is the host's."""
    normalize_qonnx.fold_constants(state)
    normalize_qonnx.cut_softmax(state)
    normalize_qonnx.quantize_declared_input(state)
    state.file_model = deepcopy(state.model)
    normalize_qonnx.cut_affine(state)
    state.quantizer = network.input_quantizer(state.model, state.input_name)
    bipolar.write_as_integers(state)
    shortcuts.as_convolutions(state)
    choose_frames(state)


def _finn_config(state: FlowState) -> object:
    import finn.builder.build_dataflow_config as finn_config

    config = finn_config.DataflowBuildConfig(
        output_dir=str(state.scratch / "out"),
        synth_clk_period_ns=state.request.clock_ns,
        fpga_part=state.request.part,
        target_fps=state.request.target_fps,
        standalone_thresholds=True,  # embedded thresholds exist in HLS only
        generate_outputs=[finn_config.DataflowOutputType.ESTIMATE_REPORTS],
        save_intermediate_models=False,
        auto_fifo_depths=False,  # FINN sizes FIFOs with the Vivado simulator only
    )
    for folder in (config.get_report_directory(), config.get_intermediate_models_directory()):
        folder.mkdir(parents=True, exist_ok=True)
    return config


def _finn_step(name: str) -> Callable[[FlowState], None]:
    def run(state: FlowState) -> None:
        from finn.builder.build_dataflow_steps import build_dataflow_step_lookup

        state.model = build_dataflow_step_lookup[name](state.model, state.config)

    return run


def _cut_host_interface(state: FlowState) -> None:
    host_interface.cut_host_interface(state)
    state.integer_model = deepcopy(state.model)


def _convert(state: FlowState) -> None:
    """Convert to hardware nodes; refuse what stays, or becomes something without RTL."""
    _finn_step("step_convert_to_hw")(state)
    problems = support.unsupported_nodes(state)
    if problems:
        raise Refused(problems)


def _choose(state: FlowState) -> None:
    map_layers(state)
    select_implementation.choose_all(state)


def _specialize(state: FlowState) -> None:
    """Let FINN pick RTL or HLS variants, and carry the choices over to the new names."""
    chosen = [state.choices.get(n.name) for n in state.model.graph.node]
    _finn_step("step_specialize_layers")(state)
    nodes = list(state.model.graph.node)
    if len(nodes) != len(chosen):
        raise FlowError(f"specialising made {len(nodes)} nodes of {len(chosen)}")
    state.choices = {n.name: c for n, c in zip(nodes, chosen, strict=True) if c is not None}
    map_layers(state)
    wrong = [
        f"Layer {state.layer_of.get(n.name)!r} cannot be built with impl='dsp': FINN's own check "
        "turned its RTL version down."
        for n in nodes
        if (choice := state.choices.get(n.name)) is not None
        and (built := operator(n.op_type).implementation(choice.impl)) is not None
        and built.generator == "finn"
        and not n.op_type.endswith(f"_{built.backend}")
    ]
    if wrong:
        raise Refused(wrong)


def _fold(state: FlowState) -> None:
    folding.unfold(state)
    if state.request.target_fps is not None:
        _finn_step("step_target_fps_parallelization")(state)
    folding.apply_folding(state)


def _estimate(state: FlowState) -> None:
    _finn_step("step_generate_estimate_reports")(state)
    target = state.folder / REPORTS
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(state.config.get_report_directory().glob("*.json")):
        shutil.copyfile(path, target / path.name)


def _write(state: FlowState) -> None:
    body = {"layer_of": state.layer_of, "notes": state.notes}
    write_atomic(state.folder / REPORTS / LAYERS, json.dumps(body, indent=1) + "\n")
    record.write_records(state)

"""From a finished training to a verified artifact."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adaqat_hw.errors import ConfigError, ExportMismatch
from adaqat_hw.export import export, read_bits
from adaqat_hw.export.verify import run_graph
from adaqat_hw.schema import GOLDEN_FRAMES, BitWidthPlan, QonnxArtifact, RunConfig, sha256_file

# Stages do not import each other; a test may use what another stage writes.
from adaqat_hw.train import Variant, train
from tests.error_texts import raises_text

MakeConfig = Callable[..., RunConfig]


@pytest.fixture(scope="session")
def trained(run_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    for network in ("mlp", "demo-cnn"):
        train(run_config(network), Variant.named("learned"), folder / network)
    train(run_config(), Variant.named("float"), folder / "float")
    return folder


@pytest.mark.parametrize("network", ["mlp", "demo-cnn"])
def test_an_export_is_verified_on_the_whole_test_set(
    run_config: MakeConfig, trained: Path, tmp_path: Path, network: str
) -> None:
    started = time.process_time()
    events: list[dict[str, Any]] = []
    artifact = export(run_config(network), trained / network, tmp_path, progress=events.append)
    assert time.process_time() - started < 15
    assert {p.name for p in tmp_path.iterdir()} == {"artifact.json", "golden.npz", "model.onnx"}
    assert QonnxArtifact.read(tmp_path / "artifact.json") == artifact
    assert artifact.sha256 == sha256_file(tmp_path / "model.onnx")
    assert artifact.golden_sha256 == sha256_file(tmp_path / "golden.npz")
    assert (artifact.samples, artifact.argmax_agreement) == (360, 1.0)
    assert artifact.max_abs_error is not None
    assert artifact.max_abs_error < 1e-4
    plan = BitWidthPlan.read(trained / network / "plan.json")
    assert artifact.plan_digest == plan.digest()
    assert artifact.bits_in_graph == plan.layers
    assert [b.node for b in read_bits(tmp_path / "model.onnx")] == [r.layer for r in plan.layers]
    assert artifact.input_quant is not None
    assert (artifact.input_quant.bits, artifact.input_quant.signed) == (8, True)
    assert artifact.input_quant.scale == pytest.approx(1 / 128)
    assert {"torch", "brevitas", "qonnx", "onnx"} <= set(artifact.tool_versions)
    assert events[-1]["done"] == 360


def test_golden_vectors_hold_inputs_logits_and_labels(
    run_config: MakeConfig, trained: Path, tmp_path: Path
) -> None:
    export(run_config(), trained / "mlp", tmp_path, samples=50)
    with np.load(tmp_path / "golden.npz") as golden:
        assert golden["inputs"].shape == (50, 1, 8, 8)
        assert golden["logits"].shape == (50, 10)
        assert [golden[k].dtype for k in ("inputs", "logits", "labels")] == [
            np.float32,
            np.float32,
            np.int64,
        ]
        assert (golden["logits"].argmax(1) == golden["labels"]).mean() > 0.5


def test_a_sample_limit_is_recorded(run_config: MakeConfig, trained: Path, tmp_path: Path) -> None:
    assert export(run_config(), trained / "mlp", tmp_path, samples=7).samples == 7
    with raises_text(ConfigError, "samples = 0 must be at least 1; leave it out for all."):
        export(run_config(), trained / "mlp", tmp_path, samples=0)


def test_a_test_set_larger_than_memory_is_verified_in_parts(
    run_config: MakeConfig, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adaqat_hw.export import stage

    whole = export(run_config(), trained / "mlp", tmp_path / "whole")
    seen: list[int] = []
    run = stage.run_graph

    def watched(path: str, x: np.ndarray[Any, Any], **rest: Any) -> Any:
        seen.append(len(x))
        return run(path, x, **rest)

    monkeypatch.setattr(stage, "run_graph", watched)
    monkeypatch.setattr(stage, "_CHUNK_BYTES", 4 * 64 * 150)
    monkeypatch.setattr(stage, "_GOLDEN_BYTES", 4 * 64 * 200)
    done: list[int] = []
    parts = export(
        run_config(),
        trained / "mlp",
        tmp_path / "parts",
        progress=lambda event: done.append(event.get("done", 0)),
    )
    assert seen == [150, 150, 60]
    assert done == sorted(done)
    assert done[-1] == 360
    assert (parts.samples, parts.argmax_agreement) == (360, whole.argmax_agreement)
    one, other = (np.load(tmp_path / name / "golden.npz") for name in ("whole", "parts"))
    for key in ("inputs", "logits", "labels"):
        assert (len(one[key]), len(other[key])) == (360, 200)
        assert np.array_equal(one[key][:200], other[key])


def test_few_large_samples_still_give_the_flow_enough_golden_frames(
    run_config: MakeConfig, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adaqat_hw.export import stage

    monkeypatch.setattr(stage, "_GOLDEN_BYTES", 1)
    export(run_config(), trained / "mlp", tmp_path, samples=200)
    with np.load(tmp_path / "golden.npz") as golden:
        assert len(golden["inputs"]) == len(golden["labels"]) == GOLDEN_FRAMES


def test_tokens_stay_integers_in_the_graph_and_the_golden_file(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper, save

    from adaqat_hw.export import stage

    table = np.arange(12, dtype=np.float32).reshape(6, 2)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "tokens"], ["letters"]),
            helper.make_node("Flatten", ["letters"], ["logits"]),
        ],
        "tokens",
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 6])],
        [numpy_helper.from_array(table, "table")],
        value_info=[helper.make_tensor_value_info("letters", TensorProto.FLOAT, [1, 3, 2])],
    )
    path = tmp_path / "tokens.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), str(path))
    tokens = torch.tensor([[5, 0, 1], [2, 2, 3], [0, 0, 4]])
    x = stage._input_array(tokens)
    assert x.dtype == np.int64
    assert stage._input_array(tokens.double()).dtype == np.float32
    assert np.array_equal(run_graph(str(path), x), table[x].reshape(3, 6))


def test_full_precision_cannot_be_exported(
    run_config: MakeConfig, trained: Path, tmp_path: Path
) -> None:
    with raises_text(
        ConfigError,
        f"The training in '{trained}/float' is in full precision ('float') and has no "
        "integers to export; export a variant with bit-widths.",
    ):
        export(run_config(), trained / "float", tmp_path)


def test_an_unfinished_training_is_named(run_config: MakeConfig, tmp_path: Path) -> None:
    with raises_text(ConfigError, f"TrainResult '{tmp_path}/none/result.json' does not exist."):
        export(run_config(), tmp_path / "none", tmp_path / "out")


def test_an_edited_plan_is_refused(run_config: MakeConfig, trained: Path, tmp_path: Path) -> None:
    source = tmp_path / "train"
    shutil.copytree(trained / "mlp", source)
    plan = BitWidthPlan.read(source / "plan.json")
    rows = [plan.layers[0].model_copy(update={"weight_bits": 3}), *plan.layers[1:]]
    edited = plan.model_copy(update={"layers": tuple(rows)})
    edited.write(source / "plan.json")
    with raises_text(
        ConfigError,
        f"'{tmp_path}/train/plan.json' was changed after training (digest {edited.digest()}, "
        f"trained with {plan.digest()}); train at the edited plan instead of exporting it: "
        "'adaqat-hw train CONFIG --plan FILE'.",
    ):
        export(run_config(), source, tmp_path / "out")


def test_another_network_or_damaged_weights_are_refused(
    run_config: MakeConfig, trained: Path, tmp_path: Path
) -> None:
    with raises_text(
        ConfigError,
        f"The training in '{trained}/mlp' is of network 'mlp', the configuration names "
        "'demo-cnn'; give the configuration it was trained with.",
    ):
        export(run_config("demo-cnn"), trained / "mlp", tmp_path / "out")
    narrow = run_config(options={"hidden": [8, 8]})
    with raises_text(
        ConfigError,
        f"Checkpoint '{trained}/mlp/checkpoint.pt' does not fit this network: its "
        "'network.fc1.weight' has shape (64, 64), the network's (8, 64); "
        "train again, or give the configuration it was trained with.",
    ):
        export(narrow, trained / "mlp", tmp_path / "out")
    source = tmp_path / "train"
    shutil.copytree(trained / "mlp", source)
    data = (source / "checkpoint.pt").read_bytes()
    (source / "checkpoint.pt").write_bytes(data[: len(data) // 2])
    with raises_text(
        ConfigError,
        f"Checkpoint '{tmp_path}/train/checkpoint.pt' is damaged or no checkpoint; "
        "delete it and train again.",
    ):
        export(run_config(), source, tmp_path / "out")


def test_a_graph_with_other_bits_leaves_no_artifact(
    run_config: MakeConfig, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adaqat_hw.export import stage

    export(run_config(), trained / "mlp", tmp_path)
    write = stage.write_qonnx

    def wrong(net: Any, path: Path) -> None:
        net.weight_widths["fc2"].set(7)
        write(net, path)

    monkeypatch.setattr(stage, "write_qonnx", wrong)
    learned = BitWidthPlan.read(trained / "mlp" / "plan.json").layer("fc2").weight_bits
    assert learned < 7
    with raises_text(
        ExportMismatch,
        f"Layer 'fc2' has weight_bits = 7 in the exported graph and {learned} in the plan; this is "
        "a fault of the export, please report it.",
    ):
        export(run_config(), trained / "mlp", tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"golden.npz", "model.onnx"}


def test_a_graph_that_decides_differently_leaves_no_artifact(
    run_config: MakeConfig, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adaqat_hw.export import stage

    run = stage.run_graph
    monkeypatch.setattr(stage, "run_graph", lambda *a, **k: -run(*a, **k))
    with pytest.raises(
        ExportMismatch,
        match=r"^The exported graph decides differently from PyTorch on 360 of 360 test samples "
        r"\(largest logit error [\d.]+\); this is a fault of the export, please report it\.$",
    ):
        export(run_config(), trained / "mlp", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_callers_random_state_is_left_alone(
    run_config: MakeConfig, trained: Path, tmp_path: Path
) -> None:
    state = torch.get_rng_state()
    export(run_config(), trained / "mlp", tmp_path, samples=1)
    assert torch.equal(torch.get_rng_state(), state)

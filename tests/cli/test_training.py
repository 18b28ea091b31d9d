"""The train command around a training: checkpoints it hands over, budgets, torchrun."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from adaqat_hw.cli import main
from adaqat_hw.cost import bitops
from adaqat_hw.quant import Binding
from adaqat_hw.report import collect
from adaqat_hw.schema import (
    BitWidthPlan,
    BudgetResult,
    NetworkSpec,
    QonnxArtifact,
    TrainResult,
)

_CONFIG = """name = "t"
[network]
name = "mlp"
[data]
name = "digits"
limit_train = 100
limit_test = 50
[train]
epochs = 2
batch_size = 32
threads = 1
"""


@pytest.fixture
def cli(capfd, monkeypatch, tmp_path):
    """Run the command line in a folder with t.toml; return (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.toml").write_text(_CONFIG)

    def call(*argv: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(list(argv))
        captured = capfd.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return call


def test_the_runs_own_baseline_teaches(cli, tmp_path):
    status, _, err = cli("train", "t.toml", "--set", "train.teacher=float", "-q")
    assert status == 0, err
    folder = tmp_path / "runs" / "t" / "train"
    assert {p.name for p in folder.iterdir()} == {"float", "learned"}
    again = cli("train", "t.toml", "--set", "train.teacher=float")
    assert again[2].count("up to date") == 2


def test_a_teacher_that_is_not_there_is_named(cli):
    status, _, err = cli("train", "t.toml", "--set", "train.teacher=gone.pt", "-q")
    assert status == 2
    assert re.search(
        r"The checkpoint of train\.teacher, 'gone\.pt', does not exist; train the full-precision "
        r"variant first or give the path of another checkpoint\.",
        " ".join(err.split()),
    )


def _checkpoint(path: Path, seed: int) -> str:
    import torch

    from adaqat_hw import nets
    from adaqat_hw.schema import NetworkConfig
    from adaqat_hw.train.checkpoint import save

    torch.manual_seed(seed)
    save(path, dict(nets.build(NetworkConfig(name="mlp")).state_dict()))
    return str(path)


@pytest.mark.parametrize("key", ["init", "teacher"])
def test_full_precision_is_one_training_whatever_init_and_teacher_say(
    cli, monkeypatch, tmp_path: Path, key: str
):
    """Finished it is up to date; interrupted it resumes."""
    from adaqat_hw.train import loop

    first = _checkpoint(tmp_path / "first.pt", 1)
    again = ("train", "t.toml", "--variant", "float", "--set", f"train.{key}='{first}'", "-q")
    folder = tmp_path / "runs" / "t" / "train" / "float"

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "write_result", interrupted)
        assert cli("train", "t.toml", "--variant", "float", "-q")[0] != 0
    assert (folder / "last.pt").is_file()
    assert not (folder / "result.json").exists()
    status, _, err = cli(*again)
    assert status == 0, err
    finished = (folder / "result.json").read_text()
    status, _, err = cli(*again[:-1])
    assert status == 0
    assert "up to date" in err
    assert (folder / "result.json").read_text() == finished


@pytest.mark.parametrize("variant", ["float", "learned", "4/4", "plan"])
def test_the_stamp_and_the_training_itself_have_one_digest(cli, tmp_path: Path, variant: str):
    init = _checkpoint(tmp_path / "init.pt", 1)
    options = ["--variant", variant] if variant != "plan" else []
    if variant == "plan":
        assert cli("train", "t.toml", "--variant", "4/4", "-q")[0] == 0
        options = ["--plan", "runs/t/train/w4a4/plan.json"]
    status, _, err = cli("train", "t.toml", *options, "--set", f"train.init='{init}'", "-q")
    assert status == 0, err
    for folder in (tmp_path / "runs" / "t" / "train").iterdir():
        stamped = json.loads((folder / "stage.json").read_text())["inputs"]
        assert stamped == TrainResult.read(folder / "result.json").config_digest


def test_a_fine_tuning_does_not_go_on_from_another_checkpoint(cli, monkeypatch, tmp_path: Path):
    from adaqat_hw.train import loop

    init = _checkpoint(tmp_path / "init.pt", 1)
    argv = ("train", "t.toml", "--variant", "4/4", "--set", f"train.init='{init}'", "-q")

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "write_result", interrupted)
        assert cli(*argv)[0] != 0
    _checkpoint(tmp_path / "init.pt", 2)
    status, _, err = cli(*argv)
    assert status == 2
    assert "with another network, configuration, init or teacher checkpoint" in " ".join(
        err.split()
    )


def test_a_finished_training_stays_done_on_another_device(cli):
    assert cli("train", "t.toml", "-q")[0] == 0
    status, _, err = cli("train", "t.toml", "--set", "train.device=cpu", "--set", "data.workers=1")
    assert status == 0
    assert "up to date" in err


def test_a_missed_budget_ends_with_status_1_every_time(cli, monkeypatch, tmp_path: Path):
    sentence = "The plan misses the budget of 1 BitOPs with 2 BitOPs."
    missed = BudgetResult(
        title="BitOPs", unit="BitOPs", asked=1.0, reached=2.0, met=False, sentence=sentence
    )
    monkeypatch.setattr(Binding, "budget_result", lambda self: missed)
    for _ in range(2):
        status, out, err = cli("train", "t.toml", "-q")
        assert status == 1
        assert out == ""
        assert "train/learned failed: The plan misses the budget of 1 BitOPs" in err
    result = TrainResult.read(Path("runs/t/train/learned/result.json"))
    assert result.budget is not None
    assert not result.budget.met


def test_a_gpu_that_is_not_there_is_one_sentence(cli, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, _, err = cli("train", "t.toml", "--set", "train.device=cuda:3", "-q")
    assert status == 2
    assert re.search(r"train\.device is 'cuda:3', so it needs GPU 3, and here is no GPU", err)


def test_the_whole_road_is_not_for_torchrun(cli, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    status, _, err = cli("run", "t.toml", "-q")
    assert status == 2
    assert "torchrun started 2 processes, which only 'train' can share" in err


def test_how_a_plan_was_chosen_is_printed_with_it(cli):
    budget = ("--set", "adaqat.budget.bitops=400000", "--set", "train.epochs=4")
    status, trained, err = cli("train", "t.toml", *budget)
    assert status == 0, err
    choice = TrainResult.read(Path("runs/t/train/learned/result.json")).freeze_choice
    assert choice is not None
    assert trained.splitlines()[-1] == choice.sentence
    assert f"  {choice.sentence}\n" in err
    _, printed, _ = cli("plan", "runs/t")
    assert printed.splitlines()[-1] == choice.sentence
    assert cli("plan", "runs/t", "--json")[1].count("sentence") == 0
    _, edited, _ = cli("plan", "runs/t/train/learned/plan.json")
    assert edited.splitlines() == printed.splitlines()[:-1]


def test_a_uniform_variant_with_ends_and_input_is_found_by_every_spelling(cli, tmp_path):
    ends = ("--set", "quant.ends='learned'")
    name = "w2a2-ends2-3-input3"
    status, _, err = cli(
        "train", "t.toml", "--variant", "2/2", "--ends", "2/3", "--input-bits", "3", "-q", *ends
    )
    assert status == 0, err
    plan = BitWidthPlan.read(tmp_path / "runs" / "t" / "train" / name / "plan.json")
    first, *inner, last = [(row.weight_bits, row.act_bits) for row in plan.layers]
    assert (first, last) == ((2, 3), (2, 3))
    assert set(inner) == {(2, 2)}
    for spelled in (name, "2/2 ends 2/3 input 3"):
        status, _, err = cli("train", "t.toml", "--variant", spelled, *ends)
        assert status == 0, err
        assert "up to date" in err
    status, out, err = cli("export", "runs/t", "--variant", "2/2", "--ends", "2/3",
                           "--input-bits", "3", "-q")  # fmt: skip
    assert status == 0, err
    assert out.strip().endswith(f"export/{name}/model.onnx")
    artifact = QonnxArtifact.read(tmp_path / "runs" / "t" / "export" / name / "artifact.json")
    assert artifact.input_quant is not None
    assert artifact.input_quant.bits == 3
    assert artifact.bits_in_graph[0].act_bits == 3
    shown = cli("plan", "runs/t", "--variant", "2/2 ends 2/3 input 3", "--json")[1]
    assert json.loads(shown)["layers"] == [row.model_dump() for row in plan.layers]
    report = collect(tmp_path / "runs" / "t")
    assert [row.variant for row in report.plans] == [name]
    assert not [text for text in report.missing if text.startswith("uniform plans")]


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (
            ("--ends", "2/3", "--input-bits", "3"),
            "--ends '2/3' and --input-bits 3 with variant 'learned': only uniform variants such as "
            "2/2 take them; [quant] sets ends and input of the others.",
        ),
        (
            ("--variant", "float", "--input-bits", "3"),
            "--input-bits 3 with variant 'float': only uniform variants such as 2/2 take them; "
            "[quant] sets ends and input of the others.",
        ),
        (
            ("--variant", "2/2", "--ends", "2"),
            "Variant '2/2 ends 2' must be float, learned, or W/A such as 4/4, with ends and input "
            "such as 2/2 ends 2/3 input 3, all from 1 to 32 bits and given once.",
        ),
        (
            ("--variant", "w2a2-input3", "--input-bits", "4"),
            "Variant 'w2a2-input3 input 4' must be float, learned, or W/A such as 4/4, with ends "
            "and input such as 2/2 ends 2/3 input 3, all from 1 to 32 bits and given once.",
        ),
    ],
)
def test_ends_and_input_that_cannot_be_meant_are_refused(cli, tmp_path, argv, text):
    status, _, err = cli("train", "t.toml", *argv)
    assert status == 2
    assert " ".join(err.split()) == f"error: {text}"
    assert not (tmp_path / "runs").exists()


def test_a_learned_input_is_logged_reported_and_exported(cli, tmp_path):
    sets = [
        *("quant.ends='learned'", "quant.input_signed=false", "quant.input_bits=5"),
        *("adaqat.granularity='layer'", "adaqat.lr_acts=0.5", "adaqat.hardware_lambda=0.5"),
        "train.epochs=4",
    ]
    options = [part for item in sets for part in ("--set", item)]
    status, _, err = cli("train", "t.toml", "-q", *options)
    assert status == 0, err
    folder = tmp_path / "runs" / "t" / "train" / "learned"
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    courses = [row["real"]["input"] for row in rows if "real" in row]
    assert courses[0] <= 5
    assert min(courses) < max(courses)
    bits = BitWidthPlan.read(folder / "plan.json").layers[0].act_bits
    assert bits < 5
    last = [row for row in rows if row["event"] == "final"][-1]
    assert last["bits"]["input"] == bits
    plan = BitWidthPlan.read(folder / "plan.json")
    spec = NetworkSpec.read(folder / "spec.json")
    assert last["bitops"] == bitops(spec, plan).total
    status, _, err = cli("export", "runs/t", "-q")
    assert status == 0, err
    artifact = QonnxArtifact.read(tmp_path / "runs" / "t" / "export" / "learned" / "artifact.json")
    assert artifact.input_quant is not None
    assert artifact.input_quant.bits == bits
    learned = collect(tmp_path / "runs" / "t").plan("learned")
    assert learned is not None
    (course,) = [path for path in learned.widths if path.name == "input"]
    assert (course.operand, course.bits[-1]) == ("activations", bits)


def test_an_unknown_backend_is_refused_before_training(cli, tmp_path):
    config = tmp_path / "t.toml"
    config.write_text(config.read_text() + '[build]\nboard = "pynq-z1"\nbackend = "hls"\n')
    status, _, err = cli("run", "t.toml")
    assert status == 2
    assert " ".join(err.split()) == (
        "error: Backend 'hls' is not known; choose one of finn-streams."
    )
    assert not (tmp_path / "runs" / "t" / "train").exists()

"""A small run goes into a zoo of its own and comes out again, ready for every later stage."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from adaqat_hw import boards, families, zoo
from adaqat_hw.cli import main
from adaqat_hw.cost import bitops
from adaqat_hw.errors import ConfigError
from adaqat_hw.run import RunDirectory, ZooFolder, ZooRoot
from adaqat_hw.schema import (
    BitWidthPlan,
    BuildRequest,
    BuildResult,
    NetworkSpec,
    QonnxArtifact,
    ResourceReport,
    Resources,
    RunConfig,
    TrainResult,
)
from adaqat_hw.zoo import new_entry

_CONFIG = """name = "t"
seed = 3
[network]
name = "mlp"
options = { hidden = [16, 16] }
[data]
name = "digits"
limit_train = 200
limit_test = 100
[train]
epochs = 3
batch_size = 32
lr = 0.05
threads = 1
[quant]
ends = "learned"
input_signed = false
[adaqat]
granularity = "layer"
lr_weights = 0.5
lr_acts = 0.5
[build]
board = "pynq-z1"
"""


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """A run with a learned, exported variant and a float one; who changes it takes a copy."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "t.toml").write_text(_CONFIG)
    for argv in (
        ("train", f"{folder}/t.toml", "--runs", f"{folder}/runs", "-q"),
        ("train", f"{folder}/t.toml", "--runs", f"{folder}/runs", "--variant", "float", "-q"),
        ("export", f"{folder}/runs/t", "-q"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(list(argv))
        assert not stopped.value.code
    return folder / "runs" / "t"


@pytest.fixture
def own(run, tmp_path) -> Path:
    """A copy of the run that a test may change."""
    return Path(shutil.copytree(run, tmp_path / "own"))


@pytest.fixture
def home(tmp_path) -> Path:
    return tmp_path / "zoo"


@pytest.fixture
def cli(capfd):
    def call(*argv: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(list(argv))
        captured = capfd.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return call


def test_an_entry_has_every_record_and_no_number_of_its_own(run, home):
    entry = zoo.add(run, "learned", "small", home)
    folder = ZooFolder(home / "small")
    assert {path.name for path in folder.path.iterdir()} == {
        *("entry.json", "config.json", "result.json", "plan.json", "spec.json", "checkpoint.pt"),
        *("log.jsonl", "artifact.json", "model.onnx", "golden.npz"),
    }
    trained = RunDirectory(run).train("learned")
    for name in ("result.json", "plan.json", "spec.json", "checkpoint.pt", "log.jsonl"):
        assert (folder.path / name).read_bytes() == (trained.path / name).read_bytes()
    exported = RunDirectory(run).export("learned")
    assert folder.model.read_bytes() == exported.model.read_bytes()
    spec, plan = NetworkSpec.read(folder.spec), BitWidthPlan.read(folder.plan)
    assert entry.record.bitops == bitops(spec, plan).total
    assert entry.record.bill is None
    assert entry.surest is None
    assert (entry.result.test_samples, entry.result.seed) == (100, 3)
    assert entry.config.name == "small"
    assert (
        QonnxArtifact.read(folder.artifact).sha256 == QonnxArtifact.read(exported.artifact).sha256
    )


def test_the_table_says_what_is_not_there(run, home):
    zoo.add(run, "learned", "small", home)
    zoo.add(run, "float", "taught", home)
    small, taught = (
        dict(zip(zoo.COLUMNS, zoo.row(e), strict=True)) for e in zoo.list_entries(home)
    )
    assert (small["name"], small["variant"], small["LUT"]) == ("small", "learned", "not built")
    assert re.fullmatch(r"\d+\.\d\d % \(n = 100\)", small["top-1"])
    assert re.fullmatch(r"\d(-\d)? / \d(-\d)?", small["W / A"])
    assert (taught["W / A"], taught["BitOPs"]) == ("full precision", "full precision")
    assert taught["LUT"] == "not built"
    page = ZooRoot(home).readme.read_text()
    assert page == zoo.readme(zoo.list_entries(home))
    for cells in (small, taught):
        assert f"| [{cells['name']}]({cells['name']}/) | " in page


def _build(run: Path, lut: int | None, status: str = "ok") -> None:
    """Records of a build of the learned variant."""
    artifact = QonnxArtifact.read(RunDirectory(run).export("learned").artifact)
    request = BuildRequest(
        model="/elsewhere/model.onnx",
        model_sha256=artifact.sha256,
        network="mlp",
        variant="learned",
        board="pynq-z1",
        part="xc7z020",
        dsp=families.load(boards.load("pynq-z1").family).dsp,
        clock_ns=10,
        goal="rtl",
    )
    folder = RunDirectory(run).build(request)
    request.write(folder.request)
    BuildResult(request_digest=request.digest(), status=status, log="flow.log").write(folder.result)
    for source, count in (("finn_estimate", 50), ("yosys_synth", lut)):
        ResourceReport(
            plan="learned",
            source=source,
            part="xc7z020",
            tool="tool",
            tool_version="1",
            total=Resources(lut=count),
            layer_sum=Resources(),
            layers=(),
            source_file="x",
            source_sha256="0",
        ).write(folder.resources(source))


@pytest.mark.parametrize(
    ("lut", "text"),
    [
        (1234, "1,234 (yosys_synth, pynq-z1, 10 ns)"),
        (None, "not reported (yosys_synth, pynq-z1, 10 ns)"),
    ],
)
def test_the_bill_is_that_of_the_build(own, home, lut, text):
    _build(own, lut)
    entry = zoo.add(own, "learned", "small", home)
    assert {report.source for report in entry.resources} == {"finn_estimate", "yosys_synth"}
    assert entry.record.bill is not None
    assert entry.record.bill.cycles_per_frame is None
    assert dict(zip(zoo.COLUMNS, zoo.row(entry), strict=True))["LUT"] == text


def test_a_failed_build_is_no_bill(own, home):
    _build(own, 7, status="failed")
    entry = zoo.add(own, "learned", "small", home)
    assert (entry.record.bill, entry.resources) == (None, ())


def test_paths_of_the_machine_stay_there(own, home):
    config = RunConfig.read(own / "config.json")
    body = config.model_dump(mode="json")
    body["data"]["path"] = "/home/me/digits"
    body["train"] |= {"init": "/home/me/init.pt", "teacher": "zoo:big"}
    body["build"]["board"] = "/home/me/board.toml"
    RunConfig.model_validate(body).write(own / "config.json")
    zoo.add(own, "learned", "small", home)
    texts = [path.read_bytes() for path in (home / "small").iterdir()]
    assert not [text for text in texts if b"/home/me" in text or str(own).encode() in text]
    kept = RunConfig.read(home / "small" / "config.json")
    assert (kept.data.path, kept.build) == (None, None)
    assert (kept.train.init, kept.train.teacher) == ("init.pt", "zoo:big")


def test_a_large_log_keeps_epochs_and_changes_of_widths(run, home, monkeypatch):
    monkeypatch.setattr(new_entry, "_MAX_LOG_BYTES", 10)
    entry = zoo.add(run, "learned", "small", home)
    assert entry.record.trimmed
    whole = (run / "train" / "learned" / "log.jsonl").read_text().splitlines()
    kept = (home / "small" / "log.jsonl").read_text().splitlines()
    assert set(kept) < set(whole)
    dropped = [json.loads(line) for line in whole if line not in kept]
    assert {row["event"] for row in dropped} == {"widths"}
    assert not any(row["flips"] or row["freezes"] for row in dropped)
    assert [json.loads(x)["epoch"] for x in kept if '"event": "epoch"' in x] == [1, 2, 3]


def test_frames_are_kept_of_bundled_data_only(own, home, monkeypatch):
    zoo.add(own, "learned", "small", home)
    with np.load(home / "small" / "golden.npz") as arrays:
        assert sorted(arrays.files) == ["inputs", "labels", "logits"]
        assert {len(arrays[name]) for name in arrays.files} == {100}
    monkeypatch.setattr(new_entry, "_BUNDLED_DATA", ())
    entry = zoo.add(own, "learned", "other", home)
    assert entry.artifact is not None
    assert (entry.artifact.golden, entry.artifact.golden_sha256) == (None, None)
    assert not (home / "other" / "golden.npz").exists()


def test_a_network_laid_out_is_up_to_date_in_every_stage(run, home, tmp_path, cli, capfd):
    zoo.add(run, "learned", "small", home)
    for _ in range(2):  # the second time it is there already
        status, printed, err = cli("zoo", "--zoo", str(home), "small", "--to", str(tmp_path / "r"))
        assert status == 0, err
        assert printed.strip() == str(tmp_path / "r" / "small")
    out = tmp_path / "r" / "small"
    status, printed, err = cli("export", str(out))
    assert status == 0, err
    assert "up to date" in err
    report = json.loads(cli("report", str(out), "--json")[1])
    assert report["accuracy"]["quantized"] == TrainResult.read(home / "small/result.json").accuracy
    assert "learned: not built" in report["missing"]
    # Without the export it is made again, from plan and weights alone.
    shutil.rmtree(out / "export")
    status, _, err = cli("export", str(out), "-q")
    assert status == 0, err
    before = QonnxArtifact.read(home / "small" / "artifact.json")
    assert (
        QonnxArtifact.read(out / "export/learned/artifact.json").plan_digest == before.plan_digest
    )


def test_another_run_is_not_overwritten(run, home, tmp_path):
    entry = zoo.add(run, "learned", "small", home)
    (tmp_path / "r" / "small").mkdir(parents=True)
    text = (
        f"'{tmp_path}/r/small' exists and is not laid out from the zoo's 'small'; give another "
        "folder with --to, or delete it."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        zoo.lay_out(entry, tmp_path / "r")


def test_an_unknown_network_is_refused_with_the_names(run, home, cli):
    home.mkdir()
    status, _, err = cli("zoo", "--zoo", str(home), "small")
    assert status == 2
    assert " ".join(err.split()) == "error: The zoo has no network 'small'; there are: none."
    zoo.add(run, "learned", "small", home)
    status, _, err = cli("zoo", "--zoo", str(home), "big")
    assert " ".join(err.split()) == "error: The zoo has no network 'big'; there are: small."


def test_the_command_lists_and_adds(run, home, cli):
    argv = ("zoo", "--zoo", str(home), "add", str(run), "learned", "--name", "small")
    status, printed, err = cli(*argv)
    assert status == 0, err
    assert "not built" in printed
    status, printed, _ = cli("zoo", "--zoo", str(home))
    assert status == 0
    assert "small" in printed
    (listed,) = json.loads(cli("zoo", "--zoo", str(home), "--json")[1])["networks"]
    assert (listed["name"], listed["lut"], listed["test_samples"]) == ("small", None, 100)
    status, _, err = cli(*argv)
    assert status == 2
    assert " ".join(err.split()) == (
        "error: The zoo has a network 'small' already; give another name, or delete "
        f"'{home}/small' first."
    )


@pytest.mark.parametrize("name", ["add", "get", "../up", "", "a" * 65])
def test_a_name_that_no_run_may_have_is_refused(run, home, name):
    text = (
        f"--name {name!r} must be 1 to 64 letters, digits, '.', '_' or '-', start with a letter or "
        "digit, and be neither 'add' nor 'get'."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        zoo.add(run, "learned", name, home)
    assert not home.exists()


def test_what_is_not_finished_is_refused(own, home):
    text = (
        f"The training 'w4a4' of '{own}' is not finished or was changed since; finish it with "
        "'adaqat-hw train' first."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        zoo.add(own, "w4a4", "small", home)
    (own / "export" / "learned" / "model.onnx").write_bytes(b"changed")
    text = (
        f"Variant 'learned' of '{own}' is not exported as it is trained now; run 'adaqat-hw export "
        f"{own} --variant learned' first."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        zoo.add(own, "learned", "small", home)
    (own / "train" / "learned" / "log.jsonl").write_text("changed")
    with pytest.raises(ConfigError, match=r"^The training 'learned' of .* was changed since; "):
        zoo.add(own, "learned", "small", home)


def test_a_large_file_is_refused_and_leaves_nothing(run, home, monkeypatch):
    monkeypatch.setattr(new_entry, "MAX_FILE_BYTES", 5000)
    with pytest.raises(ConfigError) as caught:
        zoo.add(run, "learned", "small", home)
    size = (run / "train" / "learned" / "checkpoint.pt").stat().st_size
    assert str(caught.value) == (
        f"'checkpoint.pt' of 'small' has {size:,} bytes; a file of the zoo has at most 5,000, so "
        "keep this network elsewhere."
    )
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("variant", ["learned", "float"])
def test_a_training_starts_from_a_network_of_the_zoo(
    run, home, tmp_path, cli, monkeypatch, variant
):
    """Both from full precision and from a quantized network: weights and batch norm."""
    import torch

    from adaqat_hw.train import load_weights

    entry = zoo.add(run, variant, "small", home)
    monkeypatch.setattr("adaqat_hw.zoo.entry.zoo_dir", lambda: home)
    (tmp_path / "t.toml").write_text(_CONFIG)
    sets = ("name='u'", "train.init='zoo:small'", "train.lr=1e-12", "train.epochs=1",
            "train.weight_decay=0.0", "quant.ends='fixed'")  # fmt: skip
    argv = [part for item in sets for part in ("--set", item)]
    runs = ("--runs", str(tmp_path / "runs"))
    status, _, err = cli("train", str(tmp_path / "t.toml"), "--variant", "8/8", *runs, "-q", *argv)
    assert status == 0, err
    tuned = load_weights(tmp_path / "runs" / "u" / "train" / "w8a8" / "checkpoint.pt")
    start = load_weights(entry.folder.checkpoint)
    names = [name for name in start if name.endswith("fc1.weight") or name.endswith("fc2.weight")]
    assert len(names) == 2
    for name in names:
        own = f"network.{name.removeprefix('network.')}"
        torch.testing.assert_close(tuned[own], start[name], rtol=0, atol=1e-6)


def test_a_teacher_is_in_full_precision(run, home, tmp_path, cli, monkeypatch):
    zoo.add(run, "learned", "small", home)
    zoo.add(run, "float", "taught", home)
    monkeypatch.setattr("adaqat_hw.zoo.entry.zoo_dir", lambda: home)
    (tmp_path / "t.toml").write_text(_CONFIG)
    argv = ("train", str(tmp_path / "t.toml"), "--runs", str(tmp_path / "runs"), "-q", "--set")
    status, _, err = cli(*argv, "train.teacher='zoo:small'")
    assert status == 2
    assert " ".join(err.split()) == (
        "error: train.teacher = 'zoo:small' has bit-widths (variant 'learned'), and a teacher is "
        "in full precision; choose a 'float' one, which 'adaqat-hw zoo' lists."
    )
    status, _, err = cli(*argv, "train.teacher='zoo:taught'")
    assert status == 0, err

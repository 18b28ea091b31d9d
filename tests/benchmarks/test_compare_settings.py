from __future__ import annotations

import pytest

from adaqat_hw.schema import TrainResult
from benchmarks import compare_settings

_CONFIG = """name = "t"
[network]
name = "mlp"
[network.options]
hidden = [8]
[data]
name = "digits"
limit_train = 64
limit_test = 50
[train]
epochs = 1
batch_size = 32
threads = 1
recalibrate_batches = 1
"""


@pytest.fixture
def compare(capsys, monkeypatch, tmp_path):
    """Compare in a folder with t.toml; return (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.toml").write_text(_CONFIG)

    def call(*argv):
        status = compare_settings.main(["t.toml", "--out", "out", *argv])
        return (status, *capsys.readouterr())

    return call


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--case", "a:", "--case", "a: train.lr=0.2"], "there are two cases 'a'"),
        (["--case", ": train.lr=0.2"], "the name '' must be"),
        (["--case", "../a:"], "the name '../a' must be"),
        (["--case", "train.lr=0.2"], "the name 'train.lr=0.2' must be"),
        (["--case", "a:", "--seeds", "1", "1"], "--seeds: 1 is given 2 times"),
        (["--case", "a:", "--seeds", "-1"], "--seeds: -1 must be at least 0"),
        (["--case", "a: seed=3"], "--case 'a': 'seed=3' sets the seed; give seeds by --seeds."),
        (["--case", "a:", "--set", "seed = 3"], "--set: 'seed = 3' sets the seed"),
        (["--case", "a:", "--threads", "0"], "--threads 0 must be at least 1"),
        (["--case", "a:", "--out", "t.toml"], "--out 't.toml' is a file"),
        (["--case", "a:", "--variant", "two"], "Variant 'two' must be float, learned, or W/A"),
        (["--case", "a:", "--variant", "plan-x"], "Variant 'plan-x' is a plan of one's own"),
        (["--case", "a:", "--case", "b: train.nope=1"], "unknown key 'train.nope'"),
        (["--case", "a:", "--case", "b: train.init=no.pt"], "train.init, 'no.pt', does not exist"),
        (["--case", "a: train.teacher=no.pt"], "train.teacher, 'no.pt', does not exist"),
        (["--case", "a: train.init=zoo:nothing"], "'nothing'"),
        (
            ["--set", "train.init=float", "--case", "a: network.options.hidden=[9]"],
            "Case 'a' changes the network",
        ),
    ],
)
def test_bad_arguments_are_refused_before_any_training(compare, tmp_path, arguments, said):
    status, out, err = compare(*arguments)
    assert (status, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_only_the_very_training_is_taken(compare, tmp_path):
    arguments = ("--variant", "2/2", "--set", "train.init=float", "--case")
    status, out, err = compare(*arguments, "a:")
    assert status == 0, err
    assert "| a |" in out
    base = tmp_path / "out" / "seed0"
    assert {path.name for path in base.iterdir()} == {"float", "w2a2-a"}
    files = [base / name / "result.json" for name in ("float", "w2a2-a")]
    before = [path.stat().st_mtime_ns for path in files]

    assert compare(*arguments, "a:")[1] == out
    assert [path.stat().st_mtime_ns for path in files] == before

    (base / "w2a2-a" / "left.txt").write_text("of the earlier training")
    digest = TrainResult.read(files[1]).config_digest
    assert compare(*arguments, "a: train.lr=0.02")[0] == 0
    assert TrainResult.read(files[1]).config_digest != digest
    assert not (base / "w2a2-a" / "left.txt").exists()
    assert files[0].stat().st_mtime_ns == before[0]  # the float one has no keys of a case


def test_a_path_is_the_checkpoint_that_it_names(compare, tmp_path):
    status, _, err = compare("--variant", "float", "--case", "a:")
    assert status == 0, err
    checkpoint = "out/seed0/float-a/checkpoint.pt"
    status, _, err = compare("--case", f"b: train.init={checkpoint}", "--case", "c:")
    assert status == 0, err
    base = tmp_path / "out" / "seed0"
    assert not (base / "float").exists()
    b, c = (TrainResult.read(base / f"w2a2-{name}" / "result.json") for name in "bc")
    assert b.config_digest != c.config_digest

from __future__ import annotations

import json
import re

import pytest

from adaqat_hw import nets
from adaqat_hw.cli import main


@pytest.fixture
def cli(capfd, monkeypatch, tmp_path):
    """Run the command line in an empty folder; return (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*argv: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(list(argv))
        captured = capfd.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return call


def one_sentence(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) == 1, text
    return re.sub(r"\s+", " ", lines[0])


def test_resnet20_costs_what_the_paper_says(cli):
    status, out, _ = cli("cost", "resnet20", "--bits", "3/4", "--ends", "8/8", "--json")
    body = json.loads(out)
    assert status == 0
    assert body["bitops"] == 509_648_896
    assert body["weight_compression"] == pytest.approx(32 / 3)


@pytest.mark.parametrize("network", nets.names())
def test_every_network_has_a_cost(cli, network):
    status, out, _ = cli("cost", network, "--bits", "4/4", "--json")
    body = json.loads(out)
    assert status == 0
    assert body["bitops"] == sum(row["bitops"] for row in body["layers"])
    for row in body["layers"]:
        product = row["weights"] == 0
        assert (row["weight_bits"] is None) == product == (row["second_act_bits"] is not None)
        second = row["second_act_bits"] if product else row["weight_bits"]
        assert row["bitops"] == row["macs"] * second * row["act_bits"]


def test_cost_prints_a_table(cli):
    status, out, _ = cli("cost", "mlp")
    assert status == 0
    assert "BitOPs" in out


def test_cost_of_a_product_of_activations_has_no_weight_width(cli):
    _, out, _ = cli("cost", "vit", "--bits", "3/4")
    row = next(line for line in out.splitlines() if "blocks.0.attention.scores" in line)
    assert "-/4x4" in row
    assert "3/4" in next(line for line in out.splitlines() if "blocks.0.attention.k" in line)


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (("cost", "resnet21"), 2, r"resnet21.*resnet20"),
        (("cost", "mlp", "--bits", "3"), 2, r"'3' must read WEIGHTS/ACTIVATIONS"),
        (("cost", "mlp", "--bits", "0/4"), 2, r"bit-width 0"),
        (("run", "absent.toml"), 2, r"'absent.toml' does not exist"),
        (("report", "nowhere"), 2, r"'nowhere' is no run directory"),
        (("export", "nowhere"), 2, r"'nowhere' is no run directory"),
        (("build", "absent.onnx", "--board", "pynq-z1"), 2, r"absent.onnx"),
        (("build", "absent.onnx", "--board", "pynq-z9"), 2, r"pynq-z9.*pynq-z1"),
        (("plan", "absent.json"), 2, r"'absent.json' does not exist"),
        (("fit", "nowhere"), 2, r"'nowhere' is no run directory"),
    ],
)
def test_bad_input_is_one_sentence_and_a_status(cli, argv, status, message):
    code, out, err = cli(*argv)
    assert code == status
    assert out == ""
    assert re.search(message, one_sentence(err)), err


def test_a_truncated_onnx_file_is_refused(cli, tmp_path):
    (tmp_path / "cut.onnx").write_bytes(b"\x08\x07\x12\x0bpytorch\x3a\xff")
    status, _, err = cli("build", "cut.onnx", "--board", "pynq-z1")
    assert status == 2
    assert "cut.onnx" in one_sentence(err)


def test_the_help_of_build_names_the_table_that_options_overlay(cli):
    status, out, _ = cli("build", "--help")
    assert status == 0
    assert "Options take the place of the run's own build settings." in " ".join(out.split())


def test_boards_are_listed(cli):
    status, out, _ = cli("boards", "--json")
    names = {board["name"] for board in json.loads(out)["boards"]}
    assert status == 0
    assert {"pynq-z1", "pynq-z2", "ultra96-v2", "zcu104", "kv260"} <= names


def test_doctor_says_what_is_missing(cli, monkeypatch, tmp_path):
    monkeypatch.setenv("ADAQAT_FINN_ENV", str(tmp_path / "absent"))
    status, out, _ = cli("doctor", "--json")
    body = json.loads(out)
    rows = {row["name"]: row for row in body["checks"]}
    assert (status, body["ok"]) == (3, False)
    assert not rows["FINN environment"]["ok"]
    assert "adaqat-hw env create" in rows["FINN environment"]["remedy"]
    assert rows["torch"]["version"]


def test_a_missing_finn_environment_stops_a_build(cli, monkeypatch, tmp_path, tiny_qonnx):
    monkeypatch.setenv("ADAQAT_FINN_ENV", str(tmp_path / "absent"))
    status, _, err = cli("build", str(tiny_qonnx), "--board", "pynq-z1", "--quiet")
    assert status == 3
    assert "adaqat-hw env create" in one_sentence(err)


def test_an_unknown_command_is_refused(cli):
    status, _, err = cli("syntesize")
    assert status == 2
    assert "syntesize" in err


def test_version(cli):
    status, out, _ = cli("--version")
    assert (status, out.split()[0]) == (0, "adaqat-hw")


def test_an_interrupted_command_says_how_to_go_on(cli, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr("adaqat_hw.boards.names", interrupt)
    status, out, err = cli("boards")
    assert (status, out) == (130, "")
    assert "The same command goes on" in one_sentence(err)

"""Options and failures of the command build."""

from __future__ import annotations

import json
import re

import pytest

from adaqat_hw.cli import main


@pytest.fixture
def cli(capfd, monkeypatch, tmp_path):
    """Run the command line in an empty folder; return (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*argv: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([str(x) for x in argv])
        captured = capfd.readouterr()
        return int(stopped.value.code or 0), captured.out, " ".join(captured.err.split())

    return call


FORM = '{"MVAU_hls_0": {"PE": 2, "SIMD": 4}}'


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            (),
            "Which board? Give --board NAME, or --fit NAME to fill it; a run may name it in its "
            "[build].",
        ),
        (
            ("--board", "pynq-z1", "--fit", "pynq-z2"),
            "--board 'pynq-z1' and --fit 'pynq-z2' are two boards; give one.",
        ),
        (
            ("--fit", "pynq-z2", "--fps", "9"),
            "--fps 9 and --fit 'pynq-z2' each ask for a throughput; give one of them.",
        ),
        (
            ("--board", "pynq-z2", "--unfolded", "--folding", "x.json"),
            "--unfolded and --folding 'x.json' each ask for a throughput; give one of them.",
        ),
        (
            ("--board", "pynq-z2", "--fill", "0.5"),
            "The build's options: fill 0.5 says how much of the board fps or fit may take; give "
            "one.",
        ),
        (
            ("--fit", "pynq-z2", "--fill", "70"),
            "--fill 70.0 must be a share of the board, above 0 and at most 1.",
        ),
        (
            ("--fit", "pynq-z2", "--fill", "0"),
            "--fill 0.0 must be a share of the board, above 0 and at most 1.",
        ),
        (
            ("--fit", "pynq-z9"),
            "Unknown board 'pynq-z9'; choose one of kv260, pynq-z1, pynq-z2, ultra96-v2, "
            "ulx3s-85f, zcu104, or give the path of your own .toml file.",
        ),
        (
            ("--board", "pynq-z2", "--goal", "bit"),
            "--goal 'bit' must be one of estimate, rtl, ip, ooc_synth, bitfile.",
        ),
        (("--board", "pynq-z2", "--env", "vm"), "--env 'vm' must be one of local, docker."),
        (("--board", "pynq-z2", "--impl", "x"), "--impl 'x' must be one of auto, lut, dsp."),
        (
            ("--board", "pynq-z2", "--layer-impl", "a"),
            "--layer-impl 'a' must read LAYER=lut, LAYER=dsp or LAYER=auto.",
        ),
        (("--board", "pynq-z2", "--fps", "0"), "--fps 0 must be greater than 0."),
        (("--board", "pynq-z2", "--frames", "0"), "--frames 0 must be greater than 0."),
        (("--board", "pynq-z2", "--frames", "500"), "--frames 500 must be at most 128."),
        (("--board", "pynq-z2", "--clock-ns", "-1"), "--clock-ns -1.0 must be greater than 0."),
        (
            ("--board", "pynq-z2", "--folding", "bad.json"),
            f"--folding 'bad.json' must read {FORM}, by hardware node name.",
        ),
        (
            ("--board", "pynq-z2", "--folding", "cut.json"),
            "--folding 'cut.json' cannot be read as JSON (Expecting value: line 1 column 1 (char "
            f"0)); it must read {FORM}.",
        ),
    ],
)
def test_options_that_say_nothing_or_too_much_are_refused(cli, tmp_path, options, message):
    (tmp_path / "bad.json").write_text('{"MVAU_hls_0": {"PE": "2"}}')
    (tmp_path / "cut.json").write_text("")
    assert cli("build", "a.onnx", *options) == (2, "", f"error: {message}")
    status, out, _ = cli("build", "a.onnx", *options, "--json")
    assert (status, json.loads(out)["failure"]["message"]) == (2, message)


def test_a_failed_build_of_a_file_prints_its_failure_as_json(
    cli, monkeypatch, tmp_path, tiny_qonnx
):
    monkeypatch.setenv("ADAQAT_FINN_ENV", str(tmp_path / "absent"))
    status, out, err = cli("build", tiny_qonnx, "--board", "pynq-z1", "--quiet", "--json")
    failure = json.loads(out)["failure"]
    assert status == failure["exit_status"] == 3
    assert (failure["kind"], failure["stage"], failure["log"]) == ("ToolNotFound", None, None)
    assert err == " ".join(f"error: {failure['message']}".split())


def test_a_refused_network_prints_its_failure_as_json(cli, grouped_qonnx):
    status, out, err = cli("build", grouped_qonnx, "--board", "pynq-z1", "--quiet", "--json")
    failure = json.loads(out)["failure"]
    assert (status, failure["kind"]) == (2, "UnsupportedNetwork")
    assert "groups=2" in failure["message"]
    assert err == " ".join(f"error: {failure['message']}".split())


def test_a_failed_stage_prints_what_there_is_and_the_failure(
    cli, monkeypatch, tmp_path, tiny_qonnx
):
    """FINN's process ends at once: the request stands, nothing else."""
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setenv("ADAQAT_FINN_ENV", str(tmp_path / "env"))
    status, out, _ = cli("build", tiny_qonnx, "--board", "pynq-z1", "--quiet", "--json")
    body = json.loads(out)
    assert status == 1
    assert (body["failure"]["kind"], body["failure"]["stage"]) == ("StageFailed", "build")
    assert body["failure"]["log"].endswith("flow.log")
    assert body["build"]["request"]["board"] == "pynq-z1"
    assert re.fullmatch(r"build not finished \(build/\S+\)", body["missing"][0])

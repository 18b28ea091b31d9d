from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from adaqat_hw.tools import package_version
from benchmarks.train_step import _config, _parser, launches

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "train_step.py"


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-W", "ignore", str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("network", ["demo-cnn", "speech-cnn"])
def test_it_prints_the_ratios_and_proves_equal_outputs(network):
    done = run(
        "--network", network, "--batch", "8", "--rounds", "2", "--probe-every", "2", "--json"
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    for key in ("adaqat_over_stock", "adaqat_over_float"):
        low, high = result[f"spread_{key}"]
        assert 0 < low <= result[key] <= high
    # Not compiled, the eager float step is the float step.
    assert result["adaqat_over_float_eager"] == result["adaqat_over_float"]
    assert result["outputs_bit_identical"] is True
    assert result["same_gradients_present"] is True
    assert result["largest_relative_gradient_difference"] < 1e-2
    assert result["largest_relative_gradient_difference_float64"] < 1e-9
    assert set(result["step_ms"]) == {"float", "stock", "adaqat"}
    assert 0 < result["launches"]["float"] < result["launches"]["quantized"]
    assert result["settings"]["network"] == network
    assert result["versions"]["torch"] == package_version("torch")


@pytest.mark.parametrize(
    ("arguments", "most"),
    [
        ([], {"float": 180, "quantized": 833, "probing": 1892}),
        # Six probes, each of one width.
        (
            ["--granularity", "layer", "--probes-per-step", "6"],
            {"float": 180, "quantized": 835, "probing": 3805},
        ),
    ],
)
def test_a_step_of_resnet20_launches_no_more_than_it_did(arguments, most):
    counts = launches(_config(_parser().parse_args(arguments)))
    assert counts.keys() == most.keys()
    assert all(counts[name] <= most[name] for name in most), counts


def test_bad_arguments_are_refused():
    done = run("--rounds", "0")
    assert done.returncode == 2
    assert "'0' must be at least 1" in done.stderr

"""Every module of hw/rtl passes verilator --lint-only -Wall, at several parameters."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from adaqat_hw.resources import hw_dir

pytestmark = pytest.mark.rtl

_PARAMETERS = {
    "adq_mvau_lut": (
        "",
        "PE=2 MH=6 SIMD=3 MW=9",
        "PE=3 MH=3 SIMD=5 MW=10 WEIGHT_WIDTH=1 ACT_SIGNED=1 ACCU_WIDTH=5",
        "MH=4 WEIGHT_WIDTH=1 ACT_WIDTH=1 WEIGHT_SIGNED=0 ACCU_WIDTH=24",
        "MW=16 SIMD=16 WEIGHT_WIDTH=7 WEIGHT_SIGNED=0 ACT_SIGNED=1 BUFFER_VECTORS=2 MH=2",
    ),
    "adq_adder_tree": ("", "N=1", "N=1 LAST_NEGATIVE=1", "N=7 SHIFT=1 LAST_NEGATIVE=1 WIDTH=1"),
    "adq_vvau": (
        "",
        "PE=2 CHANNELS=6 SIMD=3",
        "PE=3 CHANNELS=3 SIMD=9 WEIGHT_WIDTH=1 ACT_SIGNED=1 ACCU_WIDTH=5",
        "CHANNELS=4 KERNEL=1 WEIGHT_WIDTH=1 ACT_WIDTH=1 WEIGHT_SIGNED=0 ACCU_WIDTH=24",
        "KERNEL=25 SIMD=25 WEIGHT_WIDTH=7 WEIGHT_SIGNED=0 ACT_SIGNED=1 ACT_WIDTH=8",
        "PE=3 CHANNELS=6 SIMD=3 USE_DSP=1",
    ),
    "adq_dot": ("", "SIMD=5 USE_DSP=1 OUT_WIDTH=4", "WEIGHT_WIDTH=1", "ACT_WIDTH=1 SIMD=9"),
    "adq_maxpool": ("", "K=1", "K=9 PE=3 SIGNED=1"),
    "adq_fifo": ("", "DEPTH=3 WIDTH=9", "DEPTH=34 WIDTH=1", "DEPTH=300 WIDTH=17"),
    "adq_weight_stream": ("", "DEPTH=1", "DEPTH=9 WIDTH=35"),
    "adq_duplicate": ("", "PE=3 WIDTH=5 OUTPUTS=3"),
    "adq_add": (
        "",
        "PE=3 IN0_WIDTH=1 IN0_SIGNED=1 IN1_WIDTH=7 OUT_WIDTH=9",
        "IN0_WIDTH=8 IN1_WIDTH=8 IN1_SIGNED=1 OUT_WIDTH=8",
    ),
    "adq_global_acc_pool": (
        "",
        "CHANNELS=3 PE=3 PIXELS=1 OUT_WIDTH=4",
        "CHANNELS=6 PE=2 PIXELS=7 IN_WIDTH=1 SIGNED=1",
    ),
    "adq_avgpool": (
        "",
        "K=1 SHIFT=0",
        "K=9 PE=3 SIGNED=1 SHIFT=4",
        "K=16 SHIFT=0 OUT_WIDTH=12",
        "K=4 SHIFT=3 OUT_WIDTH=3",
    ),
    "adq_label_select": (
        "",
        "LABELS=1",
        "LABELS=7 PE=7 WIDTH=1 SIGNED=0",
        "LABELS=1000 PE=8 OUT_WIDTH=16",
    ),
}
_CASES = [(top, each) for top, lists in _PARAMETERS.items() for each in lists]


def _modules() -> dict[str, Path]:
    return {path.stem: path for path in sorted((hw_dir() / "rtl").glob("*/*.sv"))}


def _lint(verilator: Path, path: Path, parameters: str) -> subprocess.CompletedProcess[str]:
    command = [
        str(verilator),
        "--lint-only",
        "-Wall",
        "--top-module",
        path.stem,
        *(f"-I{folder}" for folder in sorted((hw_dir() / "rtl").iterdir())),
    ]
    command += [f"-G{each}" for each in parameters.split()]
    return subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)


def test_every_module_is_listed_and_named_like_its_file() -> None:
    modules = _modules()
    assert set(_PARAMETERS) == set(modules)
    for name, path in modules.items():
        assert f"module {name} " in path.read_text(encoding="utf-8")
        assert (path.parent / "README.md").is_file()


@pytest.mark.parametrize(("top", "parameters"), _CASES)
def test_lint_is_silent(verilator: Path, top: str, parameters: str) -> None:
    done = _lint(verilator, _modules()[top], parameters)
    assert done.returncode == 0, done.stderr
    assert "%Warning" not in done.stderr


@pytest.mark.parametrize(
    ("module", "parameters", "message"),
    [
        ("adq_mvau_lut", "PE=2 MH=3", "PE must divide MH"),
        ("adq_vvau", "SIMD=2", "SIMD must divide KERNEL"),
        ("adq_add", "OUT_WIDTH=3", "OUT_WIDTH must not be below IN0_WIDTH"),
        ("adq_global_acc_pool", "PE=3", "PE must divide CHANNELS"),
        ("adq_global_acc_pool", "IN_WIDTH=9", "OUT_WIDTH must not be below IN_WIDTH"),
        ("adq_avgpool", "SHIFT=6", "SHIFT below the sum's width"),
        ("adq_label_select", "PE=3", "PE must divide LABELS"),
        ("adq_label_select", "OUT_WIDTH=3", "hold the index of every label"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(
    verilator: Path, module: str, parameters: str, message: str
) -> None:
    done = _lint(verilator, _modules()[module], parameters)
    assert done.returncode != 0
    assert message in done.stderr

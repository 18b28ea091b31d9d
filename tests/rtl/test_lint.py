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
    "adq_maxpool": ("", "K=1", "K=9 PE=3 SIGNED=1"),
    "adq_weight_stream": ("", "DEPTH=1", "DEPTH=9 WIDTH=35"),
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
        f"-I{path.parent}",
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


def test_a_folding_that_does_not_divide_is_refused(verilator: Path) -> None:
    done = _lint(verilator, _modules()["adq_mvau_lut"], "PE=2 MH=3")
    assert done.returncode != 0
    assert "PE must divide MH" in done.stderr

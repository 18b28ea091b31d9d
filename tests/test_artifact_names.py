"""Files of a run directory are named in run.py and schema/build_files.py, nowhere else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from adaqat_hw import run
from adaqat_hw.schema import build_files

ROOT = Path(__file__).resolve().parent.parent
NAMING = {ROOT / "adaqat_hw" / "run.py", Path(build_files.__file__)}
# Packages whose own files lie in working folders and caches, named for the tools that want them.
ELSEWHERE = {ROOT / "adaqat_hw" / "rtl"}
SUFFIXES = (".json", ".jsonl", ".npz", ".pt", ".onnx", ".bit", ".hwh", ".log", ".html", ".md")
PREFIXES = ("resources-", "folding-", "task-")


def known_names() -> set[str]:
    entries = {
        entry.name
        for folder in run.Folder.__subclasses__()
        for entry in vars(folder).values()
        if isinstance(entry, run._Entry)
    }
    shared = {value for value in vars(build_files).values() if isinstance(value, str)}
    return {name for name in entries | shared if name.endswith(SUFFIXES)}


def spelled(tree: ast.AST, names: set[str]) -> Iterator[tuple[int, str]]:
    """Yield line and text of every artifact name that is spelled in a syntax tree."""
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if text in names:
                yield node.lineno, text
            case ast.BinOp(op=ast.Div(), right=ast.Constant(value=str(text))):
                if text.endswith(SUFFIXES):
                    yield node.lineno, text
            case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]):
                if text.startswith(PREFIXES):
                    yield node.lineno, text


def test_no_other_module_spells_the_name_of_an_artifact():
    names = known_names()
    assert {"result.json", "fifos.json", "plan.json", "report.html", "design.json"} <= names
    faults = []
    for path in [*(ROOT / "adaqat_hw").rglob("*.py"), *(ROOT / "flows").rglob("*.py")]:
        if path in NAMING or not ELSEWHERE.isdisjoint(path.parents):
            continue
        for line, text in spelled(ast.parse(path.read_text(encoding="utf-8")), names):
            faults.append(f"{path.relative_to(ROOT)}:{line}: {text!r}")
    assert faults == []


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("f('result.json')", "result.json"),
        ("folder / 'new.json'", "new.json"),
        ("folder / f'resources-{source}.json'", "resources-"),
    ],
)
def test_a_spelled_name_is_seen(code, text):
    assert text in {found for _, found in spelled(ast.parse(code), known_names())}


def test_what_is_no_artifact_is_let_be():
    code = "print('see plan.json'); folder / name; f'{x}-resources'"
    assert list(spelled(ast.parse(code), known_names())) == []

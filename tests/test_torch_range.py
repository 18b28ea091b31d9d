"""Names of PyTorch that only its newest supported release has are used behind a check."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]
# Name, and the one file that may say it, because it asks first whether it is there.
_NEWEST = {"forward_sync_buffers": "adaqat_hw/train/world.py", "init_sync_buffers": None}
_SOURCES = [
    path.relative_to(_ROOT).as_posix()
    for folder in ("adaqat_hw", "benchmarks")
    for path in sorted((_ROOT / folder).rglob("*.py"))
]


def _said(text: str) -> set[str]:
    """Return all keywords, attributes, names and whole strings of a module."""
    words: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.keyword) and node.arg:
            words.add(node.arg)
        elif isinstance(node, ast.Attribute):
            words.add(node.attr)
        elif isinstance(node, ast.Name):
            words.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            words.add(node.value)
    return words


@pytest.mark.parametrize("name", _NEWEST)
def test_only_the_file_that_asks_says_a_newest_name(name: str) -> None:
    users = [path for path in _SOURCES if name in _said((_ROOT / path).read_text())]
    assert users == ([_NEWEST[name]] if _NEWEST[name] else [])


def test_the_range_that_is_promised_is_the_one_that_is_checked() -> None:
    text = (_ROOT / "pyproject.toml").read_text()
    assert re.search(r'requires-python = "(.+)"', text)[1] == ">=3.11,<3.14"
    assert re.search(r'"torch([^"]+)"', text)[1] == ">=2.11,<2.14"


def test_no_source_needs_a_newer_python() -> None:
    for path in _SOURCES:
        ast.parse((_ROOT / path).read_text(), path, feature_version=(3, 11))

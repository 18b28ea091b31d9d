"""Family files, and that nothing but them and their reader knows a family by name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from adaqat_hw import boards, families
from adaqat_hw.errors import ConfigError
from adaqat_hw.resources import hw_dir

ROOT = Path(__file__).resolve().parent.parent
READER = ROOT / "adaqat_hw" / "families.py"
CODE = [
    path
    for folder in ("adaqat_hw", "flows", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path != READER
]
# Families, their parts, primitives and makers, those of today and some that may come.
KNOWN = {name for family in families.every() for name in (family.name, family.dsp.primitive)}
NAMES = re.compile(
    "|".join(sorted(map(re.escape, KNOWN)))
    + r"|xc[7vkz]|xck|lfe5|ice40|zynq|artix|kintex|virtex|versal|7.?series|ultrascale"
    + r"|dsp48|dsp58|mult18|mult9|trellis|dp16k|ramb\d+e\d|uram288"
    + r"|\bamd\b|\blattice\b|digilent|avnet|radiona",
    re.IGNORECASE,
)


def test_the_families_are_the_shipped_files():
    assert families.names() == ("ecp5", "xc7", "xcup")
    assert [family.name for family in families.every()] == list(families.names())


def test_every_board_has_a_family():
    assert {boards.load(name).family for name in boards.names()} == set(families.names())


@pytest.mark.parametrize(
    ("name", "datapath", "packing", "narrow", "lut_inputs"),
    [
        ("xc7", (18, 25, 48), "lanes", True, 6),
        ("xcup", (18, 27, 48), "lanes", False, 6),
        ("ecp5", (18, 18, 54), None, False, 4),
    ],
)
def test_dsp_blocks_and_luts(name, datapath, packing, narrow, lut_inputs):
    family = families.load(name)
    dsp = family.dsp
    assert (dsp.datapath, dsp.packing, dsp.narrow_weights) == (datapath, packing, narrow)
    assert family.lut_inputs == lut_inputs
    assert family.cells.dsp == {dsp.primitive: 1}
    assert family.memory.block.primitive in family.cells.bram_18k


@pytest.mark.parametrize("name", families.names())
def test_what_a_family_names_exists(name):
    family = families.load(name)
    for stub in family.synthesis.stubs:
        assert (hw_dir() / "synth" / stub).is_file()
    if family.cost_model is not None:
        assert (hw_dir() / "cost" / family.cost_model).is_file()
    words = [ram.words for ram in family.memory.distributed]
    assert words == sorted(words)
    if family.nextpnr is not None:
        assert (hw_dir() / family.nextpnr.shell).is_dir()


# ---- files that are none


@pytest.fixture
def changed(tmp_path):
    """Copy a family's file with one text replaced by another, which must occur."""

    def change(old: str, new: str, name: str = "xc7") -> Path:
        text = (hw_dir() / "families" / f"{name}.toml").read_text(encoding="utf-8")
        assert old in text
        path = tmp_path / f"{name}.toml"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return path

    return change


KEYS = (
    "title, vendor, lut_inputs, cost_model, finn_part, synthesis, cells, dsp, memory, pll, "
    "nextpnr, vivado"
)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("lut_inputs", "luts", f" has the unknown key 'luts'; a family has {KEYS}."),
        ('title = "7-series"', 'name = "x"', f" has the unknown key 'name'; a family has {KEYS}."),
        ("lut_inputs = 6", "", " lacks the key 'lut_inputs'."),
        ("wide_bits = 25", "", " lacks the key 'dsp.wide_bits'."),
        ("wide_bits = 25", "wide_bit = 25", " lacks the key 'dsp.wide_bits'."),
        ("packing = ", "lanes = 2\npacking = ", " has the unknown key 'dsp.lanes'."),
        ("lut_inputs = 6", "lut_inputs = 0",
         ": lut_inputs = 0: Input should be greater than 0."),
        ('packing = "lanes"', 'packing = "pairs"',
         ": dsp.packing = 'pairs': Input should be 'lanes'."),
        ("title = ", "title = = ",
         " is not valid TOML: Invalid value (at line 2, column 9)."),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_in_one_sentence(changed, old, new, says):
    path = changed(old, new)
    with pytest.raises(ConfigError) as caught:
        families.read(path)
    assert str(caught.value) == f"Family file {str(path)!r}{says}"


def test_a_missing_file_and_an_unknown_name(tmp_path):
    path = tmp_path / "x.toml"
    with pytest.raises(ConfigError) as caught:
        families.read(path)
    assert str(caught.value) == (
        f"Family file {str(path)!r} cannot be read: [Errno 2] No such file or directory: "
        f"{str(path)!r}."
    )
    with pytest.raises(ConfigError) as caught:
        families.load("ice40")
    assert str(caught.value) == (
        "Unknown FPGA family 'ice40'; choose one of ecp5, xc7, xcup, or add its file to "
        "hw/families."
    )


def test_a_new_family_is_one_file(changed, tmp_path, monkeypatch):
    changed("", "")
    (tmp_path / "xc7.toml").rename(tmp_path / "mine.toml")
    monkeypatch.setattr(families, "_folder", lambda: tmp_path)
    assert families.names() == ("mine",)
    assert families.load("mine").name == "mine"


# ---- nobody else knows one


def _words(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the strings, attributes and names of a module with their lines, not its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)):
            if id(node) not in docstrings:
                yield node.lineno, str(node.value)
        elif isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.lineno, node.name
        elif isinstance(node, (ast.arg, ast.keyword)) and node.arg is not None:
            yield node.lineno, node.arg
        elif isinstance(node, ast.alias):
            yield node.lineno, node.name


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_knows_a_family_by_name(path):
    assert NAMES.search(path.stem) is None
    named = [f"line {line}: {word!r}" for line, word in _words(path) if NAMES.search(word)]
    assert named == [], "a fact of a device family belongs into hw/families/<name>.toml"


def test_that_test_sees_a_family(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        '"""Of the DSP48E1."""\nBLOCKS = {"DSP48E2": 27}\ndef f(board):\n    return board.zynq\n'
    )
    seen = [line for line, word in _words(path) if NAMES.search(word)]
    assert sorted(seen) == [2, 4]

"""What docs/architecture.md says of modules, imports and files is what the code does."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl.ops import operator_module
from adaqat_hw.schema import operators
from adaqat_hw.schema.operators import OPERATORS, Operator

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "adaqat_hw"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def modules() -> set[str]:
    """Names of the package's top-level modules and subpackages."""
    files = {path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")}
    return files | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


def imported(path: Path) -> set[str]:
    """Names of the modules that a file imports, wherever in the file it does."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            names.add(node.module or "")
    return names


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def first_cells(text: str) -> list[str]:
    """First cells of the rows of a Markdown table, without its head."""
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return [row.split("|")[1].strip() for row in rows[1:]]


def test_importing_the_package_loads_no_torch():
    code = "import adaqat_hw, sys; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_every_public_name_is_what_its_package_calls_so():
    import adaqat_hw

    assert len(adaqat_hw.__all__) == 1 + len(adaqat_hw._PUBLIC)
    for name, package in adaqat_hw._PUBLIC.items():
        assert name in adaqat_hw.__all__
        public = getattr(adaqat_hw, name)
        assert public.__name__ == name
        assert public.__module__.startswith(f"adaqat_hw.{package}")


def test_an_unknown_name_is_refused():
    import adaqat_hw

    with pytest.raises(AttributeError, match=r"^module 'adaqat_hw' has no attribute 'nonsense'$"):
        _ = adaqat_hw.nonsense


def test_every_package_is_packaged():
    listed = PROJECT["tool"]["setuptools"]["packages"]
    packages = {
        ".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")
    }
    assert packages == {name for name in listed if "_bundled" not in name}


def test_the_flow_imports_neither_torch_nor_the_package_beyond_its_records():
    allowed = ("adaqat_hw.schema", "adaqat_hw.errors", "adaqat_hw.qonnx_graph")
    of_package = set()
    for path in (ROOT / "flows").glob("*.py"):
        names = imported(path)
        assert not {name for name in names if name.partition(".")[0] == "torch"}, path.name
        of_package |= {name for name in names if name.partition(".")[0] == "adaqat_hw"}
    assert {name for name in of_package if not name.startswith(allowed)} == set()
    assert of_package >= set(allowed)


def test_the_page_lists_every_module():
    listed = [name for cell in first_cells(section("Layers")) for name in cell.split(",")]
    assert sorted(name.strip(" `") for name in listed) == sorted(modules())


def test_the_contracts_of_the_imports_know_every_module():
    own = {f"adaqat_hw.{name}" for name in modules()}
    layers, *others = PROJECT["tool"]["importlinter"]["contracts"]
    assert {name.strip() for layer in layers["layers"] for name in layer.split("|")} == own
    assert others
    for contract in others:
        assert set(contract["source_modules"]) <= own | {"adaqat_hw"}, contract["name"]


def test_every_file_that_the_page_names_exists():
    paths = {path for path in re.findall(r"`([\w.-]+/[\w./-]*)`", PAGE) if "<" not in path}
    assert len(paths) > 20
    homes = (ROOT, PACKAGE, ROOT / "hw")
    gone = [path for path in paths if not any((home / path).exists() for home in homes)]
    assert gone == []


# --- what an operator touches: the page's table against the code


def words_in_code(path: Path) -> set[str]:
    """Text constants of a file, docstrings left out, without FINN's backend suffixes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    texts = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    }
    return {re.sub(r"(_rtl|_hls|_|/\w*)$", "", text) for text in texts}


def python_files() -> list[Path]:
    return [path for home in (PACKAGE, ROOT / "flows", ROOT / "benchmarks")
            for path in sorted(home.rglob("*.py"))]  # fmt: skip


def operator_places(record: Operator) -> list[str]:
    """Files of the page's table, those of one operator."""
    text = section("Adding an operator")
    cells = [path for cell in first_cells(text) for path in re.findall(r"`([^`]+)`", cell)]
    assert len(cells) == 6
    return [cell.replace("<module>", record.module) for cell in cells]


@pytest.mark.parametrize("record", OPERATORS, ids=[record.module for record in OPERATORS])
def test_an_operator_is_named_only_where_the_page_says(record: Operator) -> None:
    allowed = set(operator_places(record))
    names = {record.name, *record.aliases}
    named = {
        path.relative_to(ROOT).as_posix() for path in python_files() if names & words_in_code(path)
    }
    assert named - allowed == set(), "read the record of schema/operators.py instead"


@pytest.mark.parametrize("record", OPERATORS, ids=[record.module for record in OPERATORS])
def test_an_operator_has_all_that_the_page_lists(record: Operator) -> None:
    operator = operator_module(record)
    assert operator.record is record
    for place in operator_places(record):
        if "<" not in place:
            assert (ROOT / place).is_file(), place
    if "adaqat" in record.generators:
        module = PACKAGE / "rtl" / "ops" / f"{record.module}.py"
        cores = {text for text in words_in_code(module) if re.fullmatch(r"adq_\w+", text)}
        assert cores
        for core in cores:
            (source,) = (ROOT / "hw" / "rtl").glob(f"*/{core}.sv")
            assert source.with_name("README.md").is_file()
    rows = [json.loads(line) for path in (ROOT / "hw" / "cost").glob("rows-*.jsonl")
            for line in path.read_text(encoding="utf-8").splitlines()]  # fmt: skip
    assert set(record.kinds()) <= {row["kind"] for row in rows}
    for row in (row for row in rows if row["op"] in (record.name, *record.aliases)):
        assert set(row["attributes"]) <= set(record.measured)


def test_records_of_operators_are_taken_by_name_where_the_compiler_inserts_them_only() -> None:
    """Elsewhere what an operator does is read from its record, not from which one it is."""
    constants = {name for name, value in vars(operators).items() if isinstance(value, Operator)}
    assert len(constants) == len(OPERATORS)
    taken = {}
    for path in python_files():
        if path.parent.name == "ops" or path.name == "operators.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & constants
        if names:
            taken[path.relative_to(ROOT).as_posix()] = names
    assert taken == {
        "adaqat_hw/cost/fold_problem.py": {"FIFO", "WIDTH_CONVERTER"},
        "adaqat_hw/rtl/fifo_graph.py": {"FIFO"},
        "flows/codegen.py": {"FIFO"},
    }


def test_an_unknown_operator_is_refused_with_the_names_that_there_are() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^'LayerNorm_hls' is no hardware operator; there are AddStreams, [\w, ]+, VVAU\.$",
    ):
        operators.operator("LayerNorm_hls")
    assert operators.operator("AddStreams_hls") is operators.operator("ElementwiseAdd")

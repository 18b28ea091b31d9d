"""What docs/architecture.md says of modules, imports and files is what the code does."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

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

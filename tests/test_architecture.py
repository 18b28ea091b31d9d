"""The picture in docs/architecture.md is what the code does."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "adaqat_hw"


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)


def test_imports_point_one_way():
    done = run(str(Path(sys.executable).parent / "lint-imports"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "command", [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)]
)
def test_static_checks_are_clean(command):
    done = run(str(Path(sys.executable).parent / command[0]), *command[1:])
    assert done.returncode == 0, done.stdout + done.stderr


def test_importing_the_package_loads_no_torch():
    code = "import adaqat_hw, sys; print('torch' in sys.modules)"
    assert run(sys.executable, "-c", code).stdout.strip() == "False"


def test_every_public_name_exists():
    import adaqat_hw

    for name in adaqat_hw.__all__:
        assert getattr(adaqat_hw, name) is not None


def test_an_unknown_name_is_refused():
    import adaqat_hw

    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = adaqat_hw.nonsense


def test_every_package_is_packaged():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
    assert found == {name for name in listed if "_bundled" not in name}


def test_the_flow_imports_neither_torch_nor_the_package_beyond_its_records():
    allowed = ("adaqat_hw.schema", "adaqat_hw.errors")
    for path in (ROOT / "flows").rglob("*.py"):
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) > 1 and words[0] in ("import", "from"):
                assert words[1].split(".")[0] != "torch", f"{path.name}: {line}"
                if words[1].startswith("adaqat_hw"):
                    assert words[1].startswith(allowed), f"{path.name}: {line}"


def test_architecture_page_names_every_package():
    page = (ROOT / "docs" / "architecture.md").read_text()
    for path in PACKAGE.iterdir():
        if (path / "__init__.py").is_file():
            assert f"`{path.name}`" in page, f"docs/architecture.md does not speak of {path.name}"


def test_modules_stay_small():
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "flows").rglob("*.py")]:
        lines = len(path.read_text().splitlines())
        assert lines <= 400, f"{path.relative_to(ROOT)} has {lines} lines; one idea per module"

"""What lies outside the package reaches a user who installs the wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("hw", "flows", "configs", "zoo")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    argv = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w"]
    source = folder / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run(
        [sys.executable, *argv, str(folder), str(source)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder


def test_every_file_of_the_outer_folders_is_in_the_wheel(unpacked):
    for name in FOLDERS:
        here = {
            p.relative_to(ROOT / name).as_posix()
            for p in (ROOT / name).rglob("*")
            if p.is_file() and "__pycache__" not in p.parts
        }
        there = unpacked / "site" / "adaqat_hw" / "_bundled" / name
        found = {p.relative_to(there).as_posix() for p in there.rglob("*") if p.is_file()}
        assert here <= found | {".gitkeep"}, sorted(here - found)


def test_the_installed_package_finds_them(unpacked):
    code = (
        "from adaqat_hw import resources as r, boards; import adaqat_hw;"
        "print(adaqat_hw.__file__); print(r.hw_dir()); print(r.flows_dir() / 'finn_flow.py');"
        "print(boards.load('pynq-z1').part);"
        "print(sorted(p.name for p in r.configs_dir().iterdir()));"
        "from adaqat_hw import zoo; print([entry.name for entry in zoo.list_entries()])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=unpacked,
        env={"PYTHONPATH": str(unpacked / "site"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert all("_bundled" in line for line in lines[1:3])
    assert Path(lines[2]).is_file()
    assert "demo.toml" in lines[4]
    assert "digits-demo-cnn" in lines[5]


def test_the_report_page_has_its_assets(unpacked):
    assets = unpacked / "site" / "adaqat_hw" / "report" / "assets"
    assert {p.name for p in assets.iterdir()} >= {"page.html", "page.css", "page.js"}

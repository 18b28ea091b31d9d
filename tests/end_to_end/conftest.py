from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def command(*argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the installed command line as a user would."""
    program = Path(sys.executable).parent / "adaqat-hw"
    return subprocess.run(
        [str(program), *argv], cwd=cwd, capture_output=True, text=True, check=False, timeout=3000
    )


@pytest.fixture(scope="session")
def run_command():
    return command


@pytest.fixture(scope="session")
def workplace(tmp_path_factory):
    """An empty folder with the shipped configurations, where the demo has run once."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "configs").symlink_to(ROOT / "configs")
    finn = ROOT / ".venv-finn"
    if finn.is_dir():
        os.environ.setdefault("ADAQAT_FINN_ENV", str(finn))
    done = command("run", "configs/demo.toml", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder

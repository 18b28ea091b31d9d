"""Dockerfiles as instructions, and the shell of a RUN executed here with programs that log."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
_LOGGER = """\
#!{python}
import json, os, sys
name = os.path.basename(sys.argv[0])
if name.startswith("python") and sys.argv[1:2] == ["-c"]:
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
call = [name, *sys.argv[1:]]
if "-r" in call:  # pip's list instead of its name
    call[-1:] = open(call[-1]).read().splitlines()
with open({log!r}, "a") as log:
    log.write(json.dumps(call) + "\\n")
"""


@dataclass(frozen=True)
class Dockerfile:
    """The instructions of a Dockerfile in their order: name, flags and rest."""

    instructions: tuple[tuple[str, tuple[str, ...], str], ...]

    @classmethod
    def read(cls, name: str) -> Dockerfile:
        text = (DOCKER / name).read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
        joined = re.sub(r"\\\n", "", "\n".join(lines))
        parsed = []
        for line in filter(str.strip, joined.splitlines()):
            word, rest = line.split(maxsplit=1)
            flags = []
            while rest.startswith("--"):
                flag, rest = rest.split(maxsplit=1)
                flags.append(flag)
            parsed.append((word.upper(), tuple(flags), rest))
        return cls(tuple(parsed))

    def of(self, word: str) -> list[str]:
        """The rest of every instruction of a name."""
        return [rest for name, _, rest in self.instructions if name == word]

    def words(self) -> list[str]:
        return [name for name, _, _ in self.instructions]

    def pairs(self, word: str) -> dict[str, str]:
        """What ENV and LABEL set."""
        parts = [part for rest in self.of(word) for part in shlex.split(rest)]
        return dict(part.split("=", 1) for part in parts)

    def arguments(self) -> dict[str, str | None]:
        """The build arguments with their defaults."""
        split = [rest.partition("=") for rest in self.of("ARG")]
        return {name: default if equal else None for name, equal, default in split}

    def copied(self) -> list[str]:
        return [source for rest in self.of("COPY") for source in rest.split()[:-1]]

    def last_user(self) -> str:
        return self.of("USER")[-1].split(":")[0]


@pytest.fixture(scope="module")
def image() -> Dockerfile:
    return Dockerfile.read("Dockerfile")


@pytest.fixture(scope="module")
def vivado_image() -> Dockerfile:
    return Dockerfile.read("vivado.Dockerfile")


@pytest.fixture
def run_here(tmp_path: Path) -> Callable[..., list[list[str]]]:
    """Execute a RUN here: programs of the image only log, /opt and /tmp lie in a folder."""

    def run(command: str, programs: tuple[str, ...], **environment: str) -> list[list[str]]:
        log, bin_dir = tmp_path / "calls.log", tmp_path / "bin"
        for folder in (bin_dir, tmp_path / "opt" / "adaqat" / "src", tmp_path / "tmp"):
            folder.mkdir(parents=True, exist_ok=True)
        for name in programs:
            program = bin_dir / name
            program.write_text(_LOGGER.format(python=sys.executable, log=str(log)))
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
        command = re.sub(r"(?<!\w)(/opt/adaqat|/tmp/)", rf"{tmp_path}\1", command)
        log.write_text("")
        env = {"PATH": f"{bin_dir}:{os.environ['PATH']}", **environment}
        done = subprocess.run(
            ["sh", "-c", command],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in log.read_text().splitlines()]

    return run

"""The run directory: the only module that knows where a stage's files lie.

::

    runs/<name>/run.json  config.toml  env.json
               /train/<variant>/      plan.json result.json checkpoint.pt log.jsonl
               /export/<variant>/     artifact.json model.onnx golden.npz
               /build/<variant>-<board>-<clock>ns-<goal>-<digest>/
               /report/

A stage is done when its record exists and carries the digest of the stage's inputs.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import BuildRequest, digest_of, sha256_file, write_atomic

STAGE_STAMP = "stage.json"


@dataclass(frozen=True)
class RunDirectory:
    """Paths of one run."""

    root: Path

    @property
    def manifest(self) -> Path:
        """Append-only list of what was done: ``run.json``, one JSON object per line."""
        return self.root / "run.json"

    @property
    def config(self) -> Path:
        """Copy of the configuration the run was started with."""
        return self.root / "config.json"

    def train(self, variant: str) -> Path:
        """Folder of one training (``float``, ``learned``, ``w8a8``, ...)."""
        return self.root / "train" / variant

    def export(self, variant: str) -> Path:
        """Folder of one exported network."""
        return self.root / "export" / variant

    def build(self, request: BuildRequest) -> Path:
        """Folder of one build; its name carries the request's digest."""
        clock = f"{request.clock_ns:g}ns"
        name = f"{request.variant}-{request.board}-{clock}-{request.goal}-{request.digest()}"
        return self.root / "build" / name

    @property
    def report(self) -> Path:
        """Folder of the report's files."""
        return self.root / "report"

    def note(self, stage: str, **facts: Any) -> None:
        """Append one line to the manifest."""
        self.root.mkdir(parents=True, exist_ok=True)
        with self.manifest.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps({"stage": stage, **facts}, default=str) + "\n")


def stamp(folder: Path, inputs: Any, files: Iterable[str], name: str = STAGE_STAMP) -> None:
    """Mark the stage in ``folder`` done for ``inputs`` with the output ``files`` it made."""
    outputs = {file: sha256_file(folder / file) for file in files}
    body = {"inputs": digest_of(inputs), "outputs": outputs}
    write_atomic(folder / name, json.dumps(body, indent=1) + "\n")


def is_done(folder: Path, inputs: Any, name: str = STAGE_STAMP) -> bool:
    """Tell whether the stage in ``folder`` is done for exactly these inputs."""
    return done_for(folder, name) == digest_of(inputs)


def done_for(folder: Path, name: str = STAGE_STAMP) -> str | None:
    """Return the digest of the inputs that the finished stage in ``folder`` had, or None.

    A stage whose outputs are gone, truncated or changed is not done.
    """
    try:
        body = json.loads((folder / name).read_text(encoding="utf-8"))
        outputs = dict(body["outputs"])
        for file, digest in outputs.items():
            if sha256_file(folder / file) != digest:
                return None
        return str(body["inputs"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def stage_lock(folder: Path) -> Iterator[None]:
    """Hold the stage's lock; refuse when another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"Another process is working on {str(folder)!r}; wait for it or stop it."
            ) from None
        yield
    finally:
        os.close(handle)


def tree_digest(*folders: Path) -> str:
    """Return 12 hex digits over names and bytes of all source files below ``folders``."""
    rows = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                rows.append((path.relative_to(folder).as_posix(), sha256_file(path)))
    return digest_of(rows)

"""The run directory: the only module that knows where a stage's files lie and how they are named.

::

    runs/<name>/config.json  run.json
               /train/<variant>/      TrainFolder
               /export/<variant>/     ExportFolder
               /build/<variant>-<board>-<clock>ns-<goal>-<digest>/    BuildFolder
               /report/               ReportFolder

A stage is done when its stamp carries the digest of the stage's inputs and the files that it made
are unchanged. Names that FINN's environment shares are in ``adaqat_hw.schema.build_files``.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import BuildRequest, digest_of, sha256_file, write_atomic
from adaqat_hw.schema import build_files as names

STAGE_STAMP = "stage.json"


class _Entry:
    """A file or folder of a :class:`Folder`: its path, where the folder is known."""

    def __init__(self, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, folder: None, owner: type[Folder]) -> _Entry: ...

    @overload
    def __get__(self, folder: Folder, owner: type[Folder]) -> Path: ...

    def __get__(self, folder: Folder | None, owner: type[Folder]) -> _Entry | Path:
        return self if folder is None else folder.path / self.name


@dataclass(frozen=True)
class Folder:
    """A folder of the run directory; what lies in it is an attribute, a path."""

    path: Path

    def relative(self, *paths: Path) -> list[str]:
        """Return ``paths`` relative to the folder, as records and stamps name them."""
        return [path.relative_to(self.path).as_posix() for path in paths]


class TrainFolder(Folder):
    """One training: its records, the final weights, and ``resume``, the state to go on from."""

    result = _Entry("result.json")
    plan = _Entry("plan.json")
    spec = _Entry("spec.json")
    checkpoint = _Entry("checkpoint.pt")
    resume = _Entry("last.pt")
    log = _Entry("log.jsonl")
    tensorboard = _Entry("tensorboard")


class ExportFolder(Folder):
    """One exported network: the QONNX file, golden frames, and what was verified."""

    artifact = _Entry("artifact.json")
    model = _Entry("model.onnx")
    golden = _Entry("golden.npz")


class BuildFolder(Folder):
    """One build.

    ``hdl`` and ``reports`` are the backend's, ``scratch`` its working files, ``rtl`` the stitched
    design, ``simulator`` and ``vivado_work`` the working files of those tools. ``deploy`` is a
    :class:`DeployFolder`.
    """

    request = _Entry(names.REQUEST)
    board = _Entry("board.json")
    environment = _Entry("environment.json")
    result = _Entry(names.RESULT)
    flow_log = _Entry(names.FLOW_LOG)
    folding = _Entry("folding.json")
    hardware = _Entry(names.HARDWARE)
    parameters = _Entry(names.PARAMETERS)
    golden = _Entry(names.GOLDEN)
    hdl = _Entry(names.HDL)
    reports = _Entry(names.REPORTS)
    scratch = _Entry(names.SCRATCH)
    rtl = _Entry("rtl")
    fifos = _Entry("fifos.json")
    simulator = _Entry("sim")
    simulation = _Entry("simulation.json")
    cells = _Entry("cells-yosys_synth.json")
    logs = _Entry("logs")
    bitstream = _Entry("bitstream.json")
    bit_file = _Entry("accelerator.bit")
    nextpnr_report = _Entry("nextpnr-report.json")
    vivado = _Entry("vivado.json")
    vivado_work = _Entry("vivado")
    ip = _Entry("ip")
    deploy = _Entry("deploy")

    def resources(self, source: str) -> Path:
        """Return the resource report of one source, such as ``yosys_synth``."""
        return self.path / f"resources-{source}.json"

    def resource_reports(self) -> list[Path]:
        """Return the resource reports that are there."""
        return sorted(self.path.glob("resources-*.json"))

    def folding_for(self, target: str) -> Path:
        """Return the folding that was found for a target, given by its digest."""
        return self.path / f"folding-{target}.json"

    def stamp_name(self, task: str) -> str:
        """Return the name of the stamp of one task of the build."""
        return f"task-{task}.json"


class DeployFolder(Folder):
    """What goes to a board beside its processor: bitstream, handoff, driver, the design's facts."""

    bit_file = _Entry("accelerator.bit")
    handoff = _Entry("accelerator.hwh")
    driver = _Entry("accelerator_driver.py")
    design = _Entry("design.json")


class ZooRoot(Folder):
    """The zoo: a folder for each network, and the page that lists them."""

    readme = _Entry("README.md")


class ZooFolder(Folder):
    """One network of the zoo: the records and files of a training, its export and its bill."""

    entry = _Entry("entry.json")
    config = _Entry("config.json")
    result = _Entry(TrainFolder.result.name)
    plan = _Entry(TrainFolder.plan.name)
    spec = _Entry(TrainFolder.spec.name)
    checkpoint = _Entry(TrainFolder.checkpoint.name)
    log = _Entry(TrainFolder.log.name)
    artifact = _Entry(ExportFolder.artifact.name)
    model = _Entry(ExportFolder.model.name)
    golden = _Entry(ExportFolder.golden.name)

    def resources(self, source: str) -> Path:
        """Return the resource report of one source."""
        return BuildFolder(self.path).resources(source)

    def resource_reports(self) -> list[Path]:
        """Return the resource reports that are there."""
        return BuildFolder(self.path).resource_reports()


class ReportFolder(Folder):
    """The report's files."""

    page = _Entry("report.html")
    json = _Entry("report.json")
    markdown = _Entry("report.md")
    figures = _Entry("figures")


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

    def train(self, variant: str) -> TrainFolder:
        """Return the folder of one training (``float``, ``learned``, ``w8a8``, ...)."""
        return TrainFolder(self.root / "train" / variant)

    def export(self, variant: str) -> ExportFolder:
        """Return the folder of one exported network."""
        return ExportFolder(self.root / "export" / variant)

    def build(self, request: BuildRequest) -> BuildFolder:
        """Return the folder of one build; its name carries the request's digest."""
        clock = f"{request.clock_ns:g}ns"
        name = f"{request.variant}-{request.board}-{clock}-{request.goal}-{request.digest()}"
        return BuildFolder(self.root / "build" / name)

    @property
    def report(self) -> ReportFolder:
        """Folder of the report's files."""
        return ReportFolder(self.root / "report")

    def trainings(self) -> list[TrainFolder]:
        """Return the folders of all trainings that have left a record, by name."""
        return [TrainFolder(path) for path in _with_records(self.root / "train")]

    def exports(self) -> list[ExportFolder]:
        """Return the folders of all exports that have left a record, by name."""
        return [ExportFolder(path) for path in _with_records(self.root / "export")]

    def builds(self) -> list[BuildFolder]:
        """Return the folders of all builds that have left a record, by name."""
        return [BuildFolder(path) for path in _with_records(self.root / "build")]

    def note(self, stage: str, **facts: Any) -> None:
        """Append one line to the manifest."""
        self.root.mkdir(parents=True, exist_ok=True)
        with self.manifest.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps({"stage": stage, **facts}, default=str) + "\n")


def _with_records(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    listed = (p for p in parent.iterdir() if p.is_dir() and not p.name.startswith("."))
    return sorted(p for p in listed if any(p.glob("*.json*")))


def stamp(folder: Path, inputs: Any, files: Iterable[str], name: str = STAGE_STAMP) -> None:
    """Mark the stage in ``folder`` done for ``inputs`` with the output ``files`` it made."""
    stamp_as(folder, digest_of(inputs), files, name)


def stamp_as(folder: Path, digest: str, files: Iterable[str], name: str = STAGE_STAMP) -> None:
    """Mark a stage done as :func:`stamp` does, for inputs of which only the digest is known."""
    outputs = {file: sha256_file(folder / file) for file in files}
    body = {"inputs": digest, "outputs": outputs}
    write_atomic(folder / name, json.dumps(body, indent=1) + "\n")


def export_inputs(plan_digest: str | None, checkpoint: Path) -> dict[str, str | None]:
    """Return what an export is made from: a plan and weights, by their content.

    Raises:
        ConfigError: the weights are gone.
    """
    if not checkpoint.is_file():
        raise ConfigError(
            f"The weights {str(checkpoint)!r} do not exist, though the training beside them is "
            "finished; restore the file, or delete the folder and train again."
        )
    return {"plan": plan_digest, "weights": sha256_file(checkpoint)}


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

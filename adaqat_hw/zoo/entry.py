"""The entries that there are, and what each one holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from adaqat_hw.errors import ConfigError
from adaqat_hw.resources import zoo_dir
from adaqat_hw.run import ZooFolder
from adaqat_hw.schema import (
    BitWidthPlan,
    QonnxArtifact,
    ResourceReport,
    RunConfig,
    Source,
    TrainResult,
    ZooEntry,
)
from adaqat_hw.zoo.files import check_files, check_listed, check_record, damaged, read_record

PREFIX = "zoo:"
# The surest first: what was placed and routed, what was synthesized, what was estimated.
_SUREST: tuple[Source, ...] = (
    *("vivado_impl", "nextpnr_pnr", "vivado_synth", "yosys_synth", "finn_estimate"),
)


@dataclass(frozen=True)
class Entry:
    """One network of the zoo with its records.

    ``plan`` and ``artifact`` are None in full precision. ``resources`` are those of its build, none
    where it was not built; ``size`` is that of the recorded files in bytes.
    """

    folder: ZooFolder
    record: ZooEntry
    config: RunConfig
    result: TrainResult
    plan: BitWidthPlan | None
    artifact: QonnxArtifact | None
    resources: tuple[ResourceReport, ...]
    size: int

    @property
    def name(self) -> str:
        """Its name, which is its folder's."""
        return self.record.name

    @property
    def surest(self) -> ResourceReport | None:
        """The resource report of the surest source, None where it was not built."""
        known = {report.source: report for report in self.resources}
        return next((known[source] for source in _SUREST if source in known), None)


def list_entries(root: Path | None = None) -> list[Entry]:
    """Return all entries by name; ``root`` is the zoo's folder, None for the shipped one.

    Raises:
        ConfigError: there is no such folder, or an entry is damaged.
    """
    listed, faults = survey(root)
    if faults:
        raise faults[0]
    return listed


def survey(root: Path | None = None) -> tuple[list[Entry], list[ConfigError]]:
    """Return the sound entries by name, and what is wrong with each damaged one.

    Raises:
        ConfigError: there is no such folder.
    """
    listed, faults = [], []
    for name in _names(_root(root)):
        try:
            listed.append(open_entry(name, root))
        except ConfigError as exc:
            faults.append(exc)
    return listed, faults


def open_entry(name: str, root: Path | None = None) -> Entry:
    """Read one entry.

    Raises:
        ConfigError: there is none of that name, or it is damaged: its name is not its folder's, or
            a file is gone, cut short or changed.
    """
    names = _names(_root(root))
    if name not in names:
        known = ", ".join(names) if names else "none"
        raise ConfigError(f"The zoo has no network {name!r}; there are: {known}.")
    folder = ZooFolder(_root(root) / name)
    record = read_record(ZooEntry, folder, folder.entry)
    check_record(folder, record)
    check_files(folder, record)
    check_listed(
        folder, record, folder.config, folder.result, folder.spec, folder.checkpoint, folder.log
    )
    result = read_record(TrainResult, folder, folder.result)
    plan, artifact = None, None
    if result.plan is not None:
        check_listed(folder, record, folder.plan, folder.artifact, folder.model)
        plan = read_record(BitWidthPlan, folder, folder.plan)
        artifact = read_record(QonnxArtifact, folder, folder.artifact)
        if artifact.golden is not None:
            check_listed(folder, record, folder.golden)
        if artifact.sha256 != record.files[folder.model.name]:
            raise damaged(folder, "'model.onnx' is not the file that 'artifact.json' describes")
    reports = [path for path in folder.resource_reports() if path.name in record.files]
    return Entry(
        folder=folder,
        record=record,
        config=read_record(RunConfig, folder, folder.config),
        result=result,
        plan=plan,
        artifact=artifact,
        resources=tuple(read_record(ResourceReport, folder, path) for path in reports),
        size=sum((folder.path / file).stat().st_size for file in record.files),
    )


def checkpoint(reference: str, *, teacher: bool = False) -> Path:
    """Return the weights that ``zoo:NAME`` names.

    Args:
        reference: text that begins with :data:`PREFIX`.
        teacher: whether they are distilled from.

    Raises:
        ConfigError: there is no such network, or it is quantized and is to be a teacher.
    """
    entry = open_entry(reference.removeprefix(PREFIX))
    if teacher and entry.plan is not None:
        raise ConfigError(
            f"train.teacher = {reference!r} has bit-widths (variant {entry.record.variant!r}), and "
            "a teacher is in full precision; choose a 'float' one, which 'adaqat-hw zoo' lists."
        )
    return entry.folder.checkpoint


def _root(root: Path | None) -> Path:
    if root is None:
        return zoo_dir()
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise ConfigError(
            f"The zoo {str(root)!r} {what}; give a folder of networks with --zoo, or leave it out "
            "for the shipped zoo."
        )
    return root


def _names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if ZooFolder(path).entry.is_file())

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

PREFIX = "zoo:"
# The surest first: what was placed and routed, what was synthesized, what was estimated.
_SUREST: tuple[Source, ...] = (
    *("vivado_impl", "nextpnr_pnr", "vivado_synth", "yosys_synth", "finn_estimate"),
)


@dataclass(frozen=True)
class Entry:
    """One network of the zoo with its records.

    ``plan`` and ``artifact`` are None in full precision. ``resources`` are those of its build, none
    where it was not built; ``size`` is in bytes.
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
    """Return all entries by name; ``root`` is the zoo's folder, None for the shipped one."""
    return [open_entry(name, root) for name in _names(_root(root))]


def open_entry(name: str, root: Path | None = None) -> Entry:
    """Read one entry.

    Raises:
        ConfigError: there is none of that name, or a record in it is damaged.
    """
    names = _names(_root(root))
    if name not in names:
        known = ", ".join(names) if names else "none"
        raise ConfigError(f"The zoo has no network {name!r}; there are: {known}.")
    folder = ZooFolder(_root(root) / name)
    result = TrainResult.read(folder.result)
    quantized = result.plan is not None
    return Entry(
        folder=folder,
        record=ZooEntry.read(folder.entry),
        config=RunConfig.read(folder.config),
        result=result,
        plan=BitWidthPlan.read(folder.plan) if quantized else None,
        artifact=QonnxArtifact.read(folder.artifact) if quantized else None,
        resources=tuple(ResourceReport.read(path) for path in folder.resource_reports()),
        size=sum(path.stat().st_size for path in folder.path.iterdir()),
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
    return zoo_dir() if root is None else root


def _names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if ZooFolder(path).entry.is_file())

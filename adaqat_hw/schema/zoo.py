"""ZooEntry: what a network of the zoo is, beside the records of the run that made it."""

from __future__ import annotations

from typing import ClassVar

from adaqat_hw.schema._base import Record


class ZooBill(Record):
    """The build that an entry's resource reports come from.

    ``setting`` is board, clock, throughput and implementation in words; ``cycles_per_frame`` was
    counted in simulation, None where it was not.
    """

    board: str
    clock_ns: float
    setting: str
    cycles_per_frame: float | None


class ZooEntry(Record):
    """One network of the zoo.

    ``variant`` is which of its run's trainings it is. ``bitops`` are those of its plan for one
    sample, None in full precision. ``bill`` is None where it was not built. ``trimmed`` says
    that the log lacks the probes, and keeps epochs and changes of widths. ``files`` holds the
    SHA-256 of every other file of the entry by its name. Version 2: ``files``.
    """

    schema_version: ClassVar[int] = 2
    remedy: ClassVar[str] = "add the network to the zoo again"

    name: str
    variant: str
    bitops: int | None
    bill: ZooBill | None
    trimmed: bool
    files: dict[str, str]

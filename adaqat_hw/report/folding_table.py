"""The folding that a build was given: PE, SIMD, implementation, predicted cost, bottleneck."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adaqat_hw.report.records import read_if_there
from adaqat_hw.report.tables import Cell, Column, Table, text_cell
from adaqat_hw.run import BuildFolder
from adaqat_hw.schema.folding import FoldingRecord

_NAMES = ("lut", "ff", "dsp", "bram_18k")
_HEADS = ("LUT", "FF", "DSP", "BRAM 18k")


def read_folding(folder: Path) -> FoldingRecord | None:
    """Return the folding of a build folder, None where none was searched.

    Raises:
        ReportError: the record is damaged.
    """
    return read_if_there(FoldingRecord, BuildFolder(folder).folding)


def folding_json(folder: Path) -> dict[str, Any] | None:
    """Return the folding of a build folder for ``--json``, None where none was searched."""
    record = read_folding(folder)
    return record.model_dump(mode="json") if record is not None else None


def folding_table(record: FoldingRecord) -> Table:
    """Return the folding as a table; predictions stand with their error bars."""
    columns = (
        Column("layer", numeric=False),
        Column("operator", numeric=False),
        Column("folding", numeric=False),
        Column("in", numeric=False),
        Column("cycles"),
        *(Column(head, "predicted") for head in _HEADS),
    )
    rows = []
    for row in record.nodes:
        folds = " ".join(f"{name} {value}" for name, value in row.folds.items())
        first = (
            text_cell(row.layer or "-"),
            text_cell(row.op),
            text_cell(folds),
            text_cell(row.impl or "-"),
        )
        cycles = Cell(f"{row.cycles:,}", float(row.cycles), highlight=row.cycles == record.interval)
        rows.append((*first, cycles, *_cost(row.resources, row.error)))
    blank = (text_cell("-"), text_cell("-"), Cell("-"))
    streams = text_cell("FIFOs and width converters")
    rows.append((streams, *blank, Cell("-"), *_cost(record.streams, record.streams_error)))
    slowest = Cell(f"{record.interval:,}", float(record.interval))
    rows.append((text_cell("total"), *blank, slowest, *_cost(record.total, record.error)))
    return Table("folding", _title(record), columns, tuple(rows), _note(record))


def _cost(resources: Any, error: Any) -> list[Cell]:
    cells = []
    for name in _NAMES:
        value, bar = getattr(resources, name), getattr(error, name)
        cells.append(Cell(f"{value:,} ± {bar:,}" if bar else f"{value:,}", float(value)))
    return cells


def _title(record: FoldingRecord) -> str:
    target = record.target
    room = f"{100 * target.fill:g} % of {record.board}"
    goal = f"fastest within {room}"
    if target.fps is not None:
        goal = f"cheapest of {target.fps:,} frames/s within {room}"
    return f"Folding, {goal}: {record.fps:,.0f} frames/s at {record.clock_ns:g} ns"


def _note(record: FoldingRecord) -> str:
    model = record.model
    return (
        f"Bottleneck: {record.bottleneck.reason}. Predicted from {model.samples} nodes synthesized "
        f"with {model.tool} {model.tool_version}; a bar is one RMS error."
    )

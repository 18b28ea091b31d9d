"""One description of a table, which terminal, Markdown and HTML all render."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from adaqat_hw.report.text import MISSING, MISSING_IN_WORDS, clean


@dataclass(frozen=True)
class Cell:
    """One cell: its text, what it sorts by, a hover text, and whether it is highlighted."""

    text: str
    value: float | None = None
    title: str = ""
    highlight: bool = False


@dataclass(frozen=True)
class Column:
    """One column; ``source`` names where its numbers come from."""

    head: str
    source: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """A titled table. ``note`` is one sentence under it."""

    key: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    folded: bool = False


def text_cell(text: str | None, *, highlight: bool = False, title: str = "") -> Cell:
    """Return a cell of text; control characters are replaced."""
    if text is None:
        return Cell(MISSING, title=MISSING_IN_WORDS)
    return Cell(clean(text), highlight=highlight, title=clean(title))


def number_cell(
    value: float | None,
    form: Callable[[float | None], str],
    *,
    title: str = "",
    highlight: bool = False,
) -> Cell:
    """Return a cell of a number that may be missing."""
    if value is None:
        return Cell(MISSING, title=title or MISSING_IN_WORDS)
    return Cell(form(value), value=float(value), title=title, highlight=highlight)

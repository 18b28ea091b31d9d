"""A report as one self-contained HTML page: no network, no external font, no library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from string import Template

from adaqat_hw import __version__
from adaqat_hw.report.cards import Card, cards
from adaqat_hw.report.content import (
    board_table,
    builds_table,
    estimate_table,
    layers_table,
    over,
    plans_table,
    resources_table,
    simulation_table,
)
from adaqat_hw.report.figure_canvas import Figure
from adaqat_hw.report.findings import findings
from adaqat_hw.report.fit_tables import fits_table, points_table
from adaqat_hw.report.fits import FitReport, verdict
from adaqat_hw.report.model import RunReport
from adaqat_hw.report.overview import runs_table
from adaqat_hw.report.provenance import provenance_table, tools_table
from adaqat_hw.report.svg import for_page
from adaqat_hw.report.tables import Cell, Column, Table
from adaqat_hw.report.text import MISSING, MISSING_IN_WORDS, clean
from adaqat_hw.report.width_table import widths_table

Figures = dict[str, Figure]


def page(
    reports: Sequence[RunReport],
    fitted: FitReport,
    figures: Sequence[Figures],
    shared: Figures,
) -> str:
    """Return the page of one or several runs.

    Args:
        reports: the runs.
        fitted: fits over all of them.
        figures: each run's figures by key, in the order of ``reports``.
        shared: figures over all runs by key (``fit``, and ``accuracy-cost`` for several).
    """
    several = len(reports) > 1
    parts = []
    if several:
        names = ", ".join(run.name for run in reports)
        parts += [
            f"<header><h1>{len(reports)} runs compared</h1><p class='lead'>{_text(names)}</p>"
            "</header>",
            _figure(shared.get("accuracy-cost"), "all"),
            _table(runs_table(reports)),
        ]
    for i, (run, drawn) in enumerate(zip(reports, figures, strict=True)):
        parts.append(_run(run, drawn, f"r{i}"))
    if any(run.hardware for run in reports):
        parts.append(_fit_section(fitted, shared))
    for run in reports:
        title = f"Provenance: {run.name}" if several else "Provenance"
        tables = [tools_table(run), provenance_table(run)]
        tables += [builds_table(run)] if run.hardware else []
        parts.append(_section(title, *(_table(t) for t in tables)))
    title = " · ".join(run.name for run in reports)
    return _template("page.html").substitute(
        title=_text(title),
        css=_asset("page.css"),
        script=_asset("page.js"),
        body="\n".join(parts),
        version=_text(__version__),
        missing=_text(f"{MISSING} means {MISSING_IN_WORDS}, never zero."),
    )


def _run(run: RunReport, drawn: Figures, slug: str) -> str:
    main = run.main
    network = next((p.train.network for p in run.plans if p.train), None)
    dataset = next((p.train.dataset for p in run.plans if p.train), None)
    board = f"{run.board.name} ({run.board.part})" if run.board else None
    facts = " · ".join(x for x in (network, dataset, board) if x)
    head = f"<header><h1>{_text(run.name)}</h1><p class='lead'>{_text(facts)}</p></header>"
    warnings = [
        f"{p.variant} DOES NOT FIT THE BOARD: {', '.join(over(p))} (yosys_synth)"
        for p in run.quantized
        if over(p)
    ]
    alarms = "".join(f"<p class='alarm'>{_text(line)}</p>" for line in (*warnings, *run.warnings))
    gaps = ""
    if run.missing:
        listed = "".join(f"<li>{_text(line)}</li>" for line in run.missing)
        gaps = f"<aside class='gaps'><h3>Not in this report</h3><ul>{listed}</ul></aside>"
    grid = "".join(_card(card) for card in cards(run))
    sentences = "".join(f"<li>{_text(line)}</li>" for line in findings(run))
    parts = [
        head,
        alarms,
        f"<div class='cards'>{grid}</div>" if grid else "",
        f"<ul class='said'>{sentences}</ul>",
        gaps,
        _section(
            "Accuracy against cost",
            _figure(drawn.get("accuracy-cost"), slug),
            _table(plans_table(run)),
            _table(board_table(run)) if run.hardware else "",
            _figure(drawn.get("learning"), slug),
        ),
    ]
    if main is not None:
        keys = ("widths", "trajectories", "integers", "gradients", "steering")
        parts.append(
            _section(
                "Learned widths" if main.variant == "learned" else f"Widths of {main.variant}",
                *(_figure(drawn.get(key), slug) for key in keys),
                _table(widths_table(main)) if main.widths else "",
                _table(layers_table(main, run.hardware)),
            )
        )
    if main is not None and run.hardware:
        parts += [
            _section(
                "FINN's estimate against synthesis",
                _figure(drawn.get("estimate"), slug),
                _table(estimate_table(main)),
            ),
            _section(
                "Resources and simulation",
                _table(resources_table(run)),
                _table(simulation_table(main)),
            ),
        ]
    return f"<article class='run'>{''.join(parts)}</article>"


def _fit_section(fitted: FitReport, shared: Figures) -> str:
    sentences = verdict(fitted)
    paragraphs = "".join(f"<p>{_text(line)}</p>" for line in sentences)
    tables = [t for t in (fits_table(fitted), points_table(fitted)) if t.rows]
    return _section(
        "Do bit-operations explain area?",
        f"<div class='verdict'>{paragraphs}</div>",
        _figure(shared.get("fit"), "all"),
        *(_table(table) for table in tables),
    )


def _section(title: str, *parts: str) -> str:
    body = "".join(parts)
    return f"<section><h2>{_text(title)}</h2>{body}</section>"


def _figure(figure: Figure | None, slug: str) -> str:
    if figure is None:
        return ""
    drawn = for_page(figure.svg, f"{slug}-{figure.key}", figure.caption)
    body = f"<figure>{drawn}<figcaption>{_text(figure.caption)}</figcaption></figure>"
    if figure.folded:
        return f"<details><summary>{_text(figure.caption.split(',')[0])}</summary>{body}</details>"
    return body


def _card(card: Card) -> str:
    kind = " bad" if card.bad else ""
    return (
        f"<div class='card{kind}'><div class='what'>{_text(card.what)}</div>"
        f"<div class='value'>{_text(card.value)}</div>"
        f"<div class='beside'>{_text(card.beside)}</div>"
        f"<div class='source'>{_text(card.source)}</div></div>"
    )


def _table(table: Table) -> str:
    title = f"<h3>{_text(table.title)}</h3>"
    if not table.rows:
        return f"{title}<p class='none'>Nothing on record.</p>"
    heads = "".join(_head(column) for column in table.columns)
    rows = "".join(f"<tr>{''.join(_cells(table.columns, row))}</tr>" for row in table.rows)
    note = f"<p class='note'>{_text(table.note)}</p>" if table.note else ""
    body = (
        f"<div class='scroll'><table class='sortable'><thead><tr>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>{note}"
    )
    if table.folded:
        return f"<details><summary>{_text(table.title)}</summary>{body}</details>"
    return title + body


def _head(column: Column) -> str:
    kind = "num" if column.numeric else "txt"
    source = f"<span class='tag'>{_text(column.source)}</span>" if column.source else ""
    return (
        f"<th class='{kind}' scope='col' aria-sort='none'>"
        f"<button type='button' title='Sort by {_text(column.head)}'>{_text(column.head)}"
        f"{source}</button></th>"
    )


def _cells(columns: Iterable[Column], row: Iterable[Cell]) -> Iterable[str]:
    for column, cell in zip(columns, row, strict=True):
        kinds = ["num" if column.numeric else "txt"]
        kinds += ["highlight"] if cell.highlight else []
        kinds += ["none"] if cell.text == MISSING else []
        kinds += ["nb"] if len(cell.text) <= 24 else []
        value = ""
        if cell.value is not None:
            value = f" data-value='{cell.value!r}'"
        hover = " · ".join(x for x in (cell.title, column.source) if x)
        title = f" title='{_text(hover)}'" if hover else ""
        yield f"<td class='{' '.join(kinds)}'{value}{title}>{_text(cell.text)}</td>"


def _text(value: str) -> str:
    return escape(clean(value), quote=True)


def _asset(name: str) -> str:
    return (resources.files("adaqat_hw.report") / "assets" / name).read_text(encoding="utf-8")


def _template(name: str) -> Template:
    return Template(_asset(name))

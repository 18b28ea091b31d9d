"""Deterministic SVG from matplotlib: same records, same bytes; no date, no network, no pyplot.

A figure is drawn for a light page. ``for_page`` turns its fixed colours into the page's CSS
variables, so that it follows the page's dark theme, and its ids into ones of its own.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

from adaqat_hw.report.text import clean

INK, MUTED, GRID = "#1c2430", "#647083", "#dfe4ea"
SERIES = ("#2463b8", "#c2571a", "#2c8a57", "#8a4bb0", "#b0354f", "#5b6b1f", "#1f8a9c", "#9c6a1f")
# From 1 to 8 bits.
BITS = (
    "#f3e9c9",
    "#f6d58a",
    "#f0b35c",
    "#de8a4e",
    "#bf6257",
    "#934a6b",
    "#623b76",
    "#38306b",
)
PAGE_COLOURS = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--line",
    **{colour: f"--s{i}" for i, colour in enumerate(SERIES, start=1)},
    **{colour: f"--b{i}" for i, colour in enumerate(BITS, start=1)},
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelsize": 9.5,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "none",
    "lines.linewidth": 1.6,
}


@contextmanager
def style(name: str) -> Iterator[None]:
    """Apply the figures' style; ``name`` salts the ids."""
    import matplotlib as mpl

    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        yield


def to_svg(figure: Any, titles: dict[str, str]) -> str:
    """Return a figure as SVG; ``titles`` maps an artist's gid to its hover text."""
    buffer = io.StringIO()
    none: dict[str, None] = dict.fromkeys(("Date", "Creator"))
    figure.savefig(buffer, format="svg", metadata=none, transparent=True)
    text = re.sub(
        r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.S
    )
    text = "\n".join(line for line in text.splitlines() if line.strip()) + "\n"
    for gid, title in titles.items():
        text = text.replace(
            f'<g id="{gid}">', f'<g id="{gid}">\n<title>{escape(clean(title))}</title>'
        )
    return text


def for_page(svg: str, name: str, label: str) -> str:
    """Return the SVG to stand inside a page: own ids, page colours, page font, a label."""
    text = re.sub(r'\bid="', f'id="{name}-', svg)
    text = re.sub(r'(xlink:href="|url\()#', rf"\g<1>#{name}-", text)
    for colour, variable in PAGE_COLOURS.items():
        text = re.sub(colour, f"var({variable})", text, flags=re.I)
    text = re.sub(r"font: ([^;\"]*?)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", text)
    text = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(clean(label))}" ', 1)

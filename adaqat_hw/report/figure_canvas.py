"""Canvas of all figures: a matplotlib figure of fixed width, hover texts, tick labels, legends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adaqat_hw.report.svg import to_svg
from adaqat_hw.report.text import clean, short

# Inches. All figures are equally wide, so that their type is equally large on the page.
WIDE = 9.4


@dataclass(frozen=True)
class Figure:
    """A drawn figure: file stem, what it shows, and its SVG.

    ``folded`` figures are drawn on the page and opened on demand.
    """

    key: str
    caption: str
    svg: str
    folded: bool = False


class FigureCanvas:
    """A matplotlib figure with hover texts, without pyplot's global state."""

    def __init__(
        self, width: float, height: float, columns: int = 1, rows: int = 1, **options: Any
    ) -> None:
        from matplotlib.figure import Figure as Canvas

        self.canvas = Canvas(figsize=(width, height), layout="constrained")
        axes = self.canvas.subplots(rows, columns, squeeze=False, **options)
        self.axes: list[Any] = [axis for row in axes for axis in row]
        self._titles: dict[str, str] = {}

    def tip(self, artist: Any, text: str) -> None:
        """Give an artist a hover text."""
        gid = f"tip{len(self._titles)}"
        artist.set_gid(gid)
        self._titles[gid] = text

    def svg(self) -> str:
        """Return the figure as SVG."""
        return to_svg(self.canvas, self._titles)


def short_name(name: str, longest: int = 18) -> str:
    """Return ``name`` cut to ``longest`` characters in its middle: both ends tell layers apart."""
    text = clean(name)
    if len(text) <= longest:
        return text
    head = (longest - 1) * 2 // 5
    return f"{text[:head]}…{text[head + 1 - longest :]}"


def layer_ticks(axis: Any, names: Sequence[str]) -> None:
    """Write layer names under the bars, tilted where they are many or long."""
    crowded = len(names) > 24
    shown = [short_name(name, 26 if crowded else 22) for name in names]
    tilt = 90 if crowded else 35 if len(names) > 8 or max(len(name) for name in shown) > 8 else 0
    axis.set_xticks(
        range(len(names)),
        shown,
        rotation=tilt,
        ha="right" if tilt == 35 else "center",
        fontsize=7 if crowded else 9,
    )
    # Names tilted by 35 degrees must end under their bar, not beside it.
    if tilt == 35:
        for label in axis.get_xticklabels():
            label.set_rotation_mode("anchor")


def room(axis: Any, n: int) -> None:
    """Leave margins beside few bars, so that the bars are not drawn too wide."""
    side = 0.6 + max(0.0, (6 - n) / 2)
    axis.set_xlim(-side, n - 1 + side)


def legend(axis: Any, entries: Sequence[tuple[str, str]]) -> None:
    """Write a legend of colour patches above the right end of the plot."""
    from matplotlib.patches import Patch

    axis.legend(
        handles=[Patch(color=colour, label=label) for label, colour in entries],
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=len(entries),
        handlelength=0.9,
        borderaxespad=0.2,
    )


def plain_axis(axis: Any, longest: int = 4) -> None:
    """Label one axis with ``short`` numbers at few round places."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(longest))
    axis.set_major_formatter(FuncFormatter(_tick))


def _tick(value: float, _: int) -> str:
    return short(value).replace(" ", "") if abs(value) >= 1000 else f"{value:.4g}"

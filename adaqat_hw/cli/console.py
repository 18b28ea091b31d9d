"""What the command line prints: results on stdout, progress and errors on stderr."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

# Wider than a terminal's default, so that tables in files and pipes keep their rows whole.
PIPE_WIDTH = 160

out = Console(soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_WIDTH)
err = Console(stderr=True, soft_wrap=True)


def error(message: str) -> None:
    """Print one error sentence on stderr."""
    err.print(f"[bold red]error:[/] {escape(message)}", highlight=False)


def print_json(value: Any) -> None:
    """Print one JSON object on stdout, nothing else."""
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")


def table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    """Return a plain table; cells may hold rich markup."""
    grid = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        grid.add_column(column, no_wrap=True)
    for row in rows:
        grid.add_row(*row)
    return grid


class Progress:
    """One line per task on stderr; on a terminal the line is live, else it is thinned out."""

    def __init__(self, *, quiet: bool = False, interval_s: float = 5.0) -> None:
        self._quiet = quiet
        self._live = err.is_terminal
        self._interval = interval_s
        self._last = 0.0
        self._title = ""
        self._start = time.monotonic()
        self._status: Any = None

    def start(self, title: str) -> None:
        """Begin a task."""
        self._title, self._start, self._last = title, time.monotonic(), time.monotonic()
        if self._quiet:
            return
        if self._live:
            self._status = err.status(f"[bold]{escape(title)}[/]")
            self._status.start()
        else:
            err.print(f"{escape(title)} ...", highlight=False)

    def note(self, text: str) -> None:
        """Show how far it is."""
        if self._quiet:
            return
        if self._live:
            self._status.update(f"[bold]{escape(self._title)}[/]  {escape(text)}")
        elif time.monotonic() - self._last >= self._interval:
            self._last = time.monotonic()
            err.print(f"  {escape(text)}", highlight=False)

    def say(self, text: str) -> None:
        """Print a line that stays, whatever else is shown."""
        if not self._quiet:
            err.print(f"  {escape(text)}", highlight=False)

    def done(self, result: str) -> None:
        """End it with its result."""
        self.stop()
        if not self._quiet:
            seconds = time.monotonic() - self._start
            line = f"[green]✓[/] [bold]{escape(self._title)}[/]  {escape(result)}"
            err.print(f"{line}  [dim]{seconds:.1f} s[/]", highlight=False)

    def skip(self, title: str, reason: str = "up to date") -> None:
        """Say that a task had nothing to do."""
        if not self._quiet:
            err.print(f"[green]✓[/] [bold]{escape(title)}[/]  {reason}", highlight=False)

    def stop(self) -> None:
        """Remove the live line."""
        if self._status is not None:
            self._status.stop()
            self._status = None

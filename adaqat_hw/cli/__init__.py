"""Command line: composes the stages, owns progress display and exit codes, no logic."""

from adaqat_hw.cli.main import main

__all__ = ["main"]

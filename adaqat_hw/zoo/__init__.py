"""Zoo: trained networks with the records of how they came about. Trains nothing, no torch.

An entry is a folder with what a run knows of one of its variants. It is listed, laid out as a run
that every later stage starts from, and made from a finished run; no number is typed in.
"""

from adaqat_hw.zoo.entry import Entry, checkpoint, list_entries, open_entry, survey
from adaqat_hw.zoo.new_entry import add
from adaqat_hw.zoo.run_layout import lay_out
from adaqat_hw.zoo.table import COLUMNS, readme, row

__all__ = [
    "COLUMNS",
    "Entry",
    "add",
    "checkpoint",
    "lay_out",
    "list_entries",
    "open_entry",
    "readme",
    "row",
    "survey",
]

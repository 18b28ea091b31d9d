"""adaqat-hw: learn bit-widths, export, build the accelerator, compare the resource bills.

``import adaqat_hw`` loads no torch; each public name is imported when it is first used.
"""

from __future__ import annotations


__version__ = "0.1.0"

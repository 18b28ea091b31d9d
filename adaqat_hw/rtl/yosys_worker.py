"""Run Yosys commands, one per line of a file: the child of ``adaqat_hw.rtl.yosys_process``.

A process of its own because Yosys ends the process it runs in when a command fails, and
because a design too large then takes nothing down with it. Must import nothing of this package.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Run the commands of the script named by the one argument."""
    from pyosys import libyosys

    design = libyosys.Design()
    for command in Path(arguments[0]).read_text(encoding="utf-8").splitlines():
        if command:
            libyosys.run_pass(command, design)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

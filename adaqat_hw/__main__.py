"""``python -m adaqat_hw``: the command line, in the form that torchrun starts."""

from adaqat_hw.cli import main

main()

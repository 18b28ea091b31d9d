"""Uniform widths as text: ``2/2 ends 2/3 input 3``, and as a variant's name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from adaqat_hw.schema.plan import parse_bits

_GRAMMAR = "must read WEIGHTS/ACTIVATIONS, such as 3/4, 2/2 ends 2/3 or 2/2 ends 2/3 input 3"
_TEXT = re.compile(r"(\S+)(?:\s+ends\s+(\S+))?(?:\s+input\s+(\S+))?")
_NAME = re.compile(r"w(\d{1,2})a(\d{1,2})(?:-ends(\d{1,2})-(\d{1,2}))?(?:-input(\d{1,2}))?")


@dataclass(frozen=True)
class UniformWidths:
    """The widths of a uniform plan.

    ``weights`` and ``acts`` are those of all layers; ``ends`` (weights, activations) those of the
    first and the last layer, ``input`` that of the network's input, each None where the
    configuration decides.
    """

    weights: int
    acts: int
    ends: tuple[int, int] | None = None
    input: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the widths of text such as ``2/2``, ``2/2 ends 2/3`` or ``2/2 input 3``.

        Raises:
            ValueError: other text, or a width outside 1 to 32.
        """
        match = _TEXT.fullmatch(text.strip())
        pairs = [part for part in (match[1], match[2]) if part] if match else []
        if match is None or not all(re.fullmatch(r"\d{1,2}/\d{1,2}", pair) for pair in pairs):
            raise ValueError(f"bit-widths {text!r} {_GRAMMAR}")
        weights, acts = parse_bits(match[1])
        ends = parse_bits(match[2]) if match[2] else None
        return cls(weights, acts, ends, _input_bits(match[3], text) if match[3] else None)

    @classmethod
    def from_name(cls, name: str) -> Self | None:
        """Return the widths that a variant's name stands for, None where it is no such name."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        weights, acts, first, second, at_input = (x and int(x) for x in match.groups())
        ends = (int(first), int(second)) if first and second else None
        widths = cls(int(weights or 0), int(acts or 0), ends, int(at_input) if at_input else None)
        return widths if widths.name == name else None

    @property
    def name(self) -> str:
        """The variant's name: ``w2a2``, ``w2a2-ends2-3-input3``."""
        ends = f"-ends{self.ends[0]}-{self.ends[1]}" if self.ends else ""
        return f"w{self.weights}a{self.acts}{ends}" + (f"-input{self.input}" if self.input else "")

    def __str__(self) -> str:
        ends = f" ends {self.ends[0]}/{self.ends[1]}" if self.ends else ""
        return f"{self.weights}/{self.acts}{ends}" + (f" input {self.input}" if self.input else "")


def _input_bits(word: str, text: str) -> int:
    if not re.fullmatch(r"\d{1,2}", word):
        raise ValueError(f"bit-widths {text!r} {_GRAMMAR}")
    bits = int(word)
    if not 1 <= bits <= 32:
        raise ValueError(f"bit-width {bits} in {text!r} must lie between 1 and 32")
    return bits

"""Quote values as Tcl words without substitution, and build Tcl commands from them."""

from __future__ import annotations

import re

from adaqat_hw.errors import ConfigError

_PLAIN = re.compile(r"[A-Za-z0-9_./:=+,@%-]+")
# What the parser takes as more than itself, inside a word or at its start.
_SPECIAL = re.compile(r'([\\$\[\]{}";#\s])')


class Raw(str):
    """Tcl that is meant to be evaluated: ``Raw("[get_ports ap_clk]")``. Never of a user's text."""


def word(text: object) -> str:
    r"""Return ``text`` as one Tcl word without any substitution.

    Raises:
        ConfigError: a control character, which no file or port name needs.

    >>> word("rtl/a.sv"), word("two words"), word("a$b[c]")
    ('rtl/a.sv', 'two\\ words', 'a\\$b\\[c\\]')
    """
    if isinstance(text, Raw):
        return str(text)
    plain = str(text)
    if any(ord(c) < 32 or ord(c) == 127 for c in plain):
        raise ConfigError(
            f"{plain!r} holds a control character and cannot go into a Tcl script; rename it."
        )
    if not plain:
        return "{}"
    return plain if _PLAIN.fullmatch(plain) else _SPECIAL.sub(r"\\\1", plain)


def command(*words: object) -> str:
    """Return one line: a command and its arguments, each one word."""
    return " ".join(word(argument) for argument in words) + "\n"


def listing(*items: object) -> Raw:
    """Return a Tcl list of ``items`` as an argument of :func:`command`."""
    return Raw("[list " + " ".join(word(element) for element in items) + "]")

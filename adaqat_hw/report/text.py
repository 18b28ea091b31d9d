"""Format numbers as text; a missing one is "n/r" (not reported), never 0."""

from __future__ import annotations

MISSING = "n/r"
MISSING_IN_WORDS = "not reported"
_STEPS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def count(value: float | None) -> str:
    """Return an integer with thousands separators."""
    return MISSING if value is None else f"{value:,.0f}"


def short(value: float | None) -> str:
    """Return three significant digits with a unit prefix: ``509648896`` is ``510 M``."""
    if value is None:
        return MISSING
    for size, prefix in _STEPS:
        if abs(value) >= 0.9995 * size:
            return f"{_three(value / size)} {prefix}"
    return _three(value)


def _three(value: float) -> str:
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(value: float | None, digits: int = 1) -> str:
    """Return a fraction in percent."""
    return MISSING if value is None else f"{100 * value:.{digits}f} %"


def times(value: float | None) -> str:
    """Return a ratio: ``2.50x``."""
    return MISSING if value is None else f"{_three(value)}x"


def amount(value: float | None, unit: str) -> str:
    """Return a number whose unit stands elsewhere; a ratio (unit ``x``) as ``2.50x``."""
    return times(value) if unit == "x" else short(value)


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits."""
    return MISSING if value is None else f"{value:.{digits}g}"


def ratio(above: float | None, below: float | None) -> float | None:
    """Return ``above / below``; None where either is missing or ``below`` is 0."""
    if above is None or below is None or below == 0:
        return None
    return above / below


def clean(text: str) -> str:
    """Return ``text`` without control characters, which no page and no terminal should meet."""
    return "".join(c if c.isprintable() else "�" for c in text)

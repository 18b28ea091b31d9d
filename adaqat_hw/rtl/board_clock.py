"""Clock and baud rate of a board: PLL dividers within the family's limits."""

from __future__ import annotations

from dataclasses import dataclass

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import PllLimits

_BAUDS = (1_000_000, 500_000, 250_000, 115_200, 57_600, 9_600)
_CLOCKS_MIN = 8  # per bit; fewer sample too coarsely
_BAUD_ERROR = 0.015  # of 5 % that a character bears, for both ends


@dataclass(frozen=True)
class Clocking:
    """How the accelerator is clocked.

    Attributes:
        mhz: its frequency.
        op_div: the PLL's VCO over the oscillator's frequency; 0 where there is no PLL.
        os_div: the PLL's VCO over the accelerator's frequency.
        baud: bits per second of the serial line.
        clocks_per_bit: what the line's divider is set to.
    """

    mhz: float
    op_div: int
    os_div: int
    baud: int
    clocks_per_bit: int


def choose_clock(clock_ns: float, oscillator_mhz: float, pll: PllLimits | None) -> Clocking:
    """Return the fastest clock that is not faster than ``clock_ns``, and a baud rate for it.

    Without a ``pll`` that is the oscillator's, or none.

    Raises:
        ConfigError: a clock that the PLL cannot make.

    >>> pll = PllLimits(detector_min_mhz=10, vco_min_mhz=400, vco_max_mhz=800, divider_max=128)
    >>> choose_clock(40.0, 25.0, pll)
    Clocking(mhz=25.0, op_div=0, os_div=1, baud=1000000, clocks_per_bit=25)
    >>> round(choose_clock(15.0, 25.0, pll).mhz, 3)
    66.667
    """
    limit_mhz = 1000 / clock_ns * (1 + 1e-6)  # 15 ns are 66.666... MHz
    choices = [(oscillator_mhz, 0, 1)] if oscillator_mhz <= limit_mhz else []
    if pll is not None and oscillator_mhz >= pll.detector_min_mhz:
        dividers = range(1, pll.divider_max + 1)
        for op_div in dividers:
            vco = oscillator_mhz * op_div
            if pll.vco_min_mhz <= vco <= pll.vco_max_mhz:
                choices += [(vco / d, op_div, d) for d in dividers if vco / d <= limit_mhz]
    if not choices:
        raise ConfigError(
            f"A clock of {clock_ns!r} ns cannot be made from the board's {oscillator_mhz:g} MHz; "
            f"the slowest is {_slowest_ns(oscillator_mhz, pll):.0f} ns."
        )
    # Without the PLL where that is as fast; then the smallest dividers.
    mhz, op_div, os_div = max(choices, key=lambda c: (round(c[0], 6), -c[1], -c[2]))
    baud, clocks = _baud(mhz)
    return Clocking(mhz, op_div, os_div, baud, clocks)


def _slowest_ns(oscillator_mhz: float, pll: PllLimits | None) -> float:
    if pll is None:
        return 1000 / oscillator_mhz
    return 1000 * pll.divider_max / max(pll.vco_min_mhz, oscillator_mhz)


def _baud(mhz: float) -> tuple[int, int]:
    for baud in _BAUDS:
        clocks = round(mhz * 1e6 / baud)
        if clocks >= _CLOCKS_MIN and abs(mhz * 1e6 / (clocks * baud) - 1) <= _BAUD_ERROR:
            return baud, clocks
    raise ConfigError(f"No baud rate of {_BAUDS!r} can be made from {mhz:g} MHz.")

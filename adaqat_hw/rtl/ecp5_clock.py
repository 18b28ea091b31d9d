"""Clock and baud rate of an ECP5 board: PLL dividers within the data sheet's limits."""

from __future__ import annotations

from dataclasses import dataclass

from adaqat_hw.errors import ConfigError

# FPGA-DS-02012, "sysCLOCK PLL timing": phase detector and VCO, MHz.
_DETECTOR_MIN, _VCO_MIN, _VCO_MAX = 10.0, 400.0, 800.0
_DIVIDERS = range(1, 129)
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


def choose_clock(clock_ns: float, oscillator_mhz: float) -> Clocking:
    """Return the fastest clock that is not faster than ``clock_ns``, and a baud rate for it.

    Raises:
        ConfigError: a clock that the PLL cannot make.

    >>> choose_clock(40.0, 25.0)
    Clocking(mhz=25.0, op_div=0, os_div=1, baud=1000000, clocks_per_bit=25)
    >>> round(choose_clock(15.0, 25.0).mhz, 3)
    66.667
    """
    wanted = 1000 / clock_ns
    slack = 1 + 1e-6  # 15 ns are 66.666... MHz
    choices = [(oscillator_mhz, 0, 1)] if oscillator_mhz <= wanted * slack else []
    if oscillator_mhz >= _DETECTOR_MIN:
        for op_div in _DIVIDERS:
            vco = oscillator_mhz * op_div
            if _VCO_MIN <= vco <= _VCO_MAX:
                choices += [(vco / d, op_div, d) for d in _DIVIDERS if vco / d <= wanted * slack]
    if not choices:
        raise ConfigError(
            f"A clock of {clock_ns!r} ns cannot be made from the board's {oscillator_mhz:g} MHz; "
            f"the slowest is {_slowest_ns(oscillator_mhz):.0f} ns."
        )
    # Without the PLL where that is as fast; then the smallest dividers.
    mhz, op_div, os_div = max(choices, key=lambda c: (round(c[0], 6), -c[1], -c[2]))
    baud, clocks = _baud(mhz)
    return Clocking(mhz, op_div, os_div, baud, clocks)


def _slowest_ns(oscillator_mhz: float) -> float:
    return 1000 * _DIVIDERS[-1] / max(_VCO_MIN, oscillator_mhz)


def _baud(mhz: float) -> tuple[int, int]:
    for baud in _BAUDS:
        clocks = round(mhz * 1e6 / baud)
        if clocks >= _CLOCKS_MIN and abs(mhz * 1e6 / (clocks * baud) - 1) <= _BAUD_ERROR:
            return baud, clocks
    raise ConfigError(f"No baud rate of {_BAUDS!r} can be made from {mhz:g} MHz.")

"""HardwareCost: the protocol of a cost that bit-widths are learned under."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Protocol

Bits = Mapping[str, float]


class HardwareCost(Protocol):
    """A cost that a plan's bit-widths decide: a price while they are learned, a limit, a report.

    ``bits`` maps the names of learned widths to integer or real widths; fixed widths belong to
    the cost itself (:class:`adaqat_hw.cost.layer_widths.LayerWidths` tells a layer's operands
    apart). :meth:`value` never falls where a width grows, so a plan's least value is that of its
    minimum widths. Subclass it: what has a body here is right for most costs.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The key below ``[adaqat.budget]`` that limits this cost, such as ``bitops``."""

    @property
    @abstractmethod
    def unit(self) -> str:
        """Unit of :meth:`reached` and :attr:`asked`: ``BitOPs``, ``LUT``; ``x`` for a ratio."""

    @property
    def title(self) -> str:
        """What is limited, as a heading."""
        return self.unit

    @property
    @abstractmethod
    def limit(self) -> float | None:
        """The value not to be exceeded; None where lambda alone sets the price."""

    @property
    def asked(self) -> float | None:
        """The limit as the user gave it, in ``unit``."""
        return self.limit

    @property
    @abstractmethod
    def fixed(self) -> float:
        """The part of every value that no learned width changes."""

    @abstractmethod
    def value(self, bits: Bits) -> float:
        """Return what ``bits`` cost, ``fixed`` included; smaller is better."""

    @abstractmethod
    def hard_loss(self, bits: Bits) -> float:
        """Return the hardware part of the loss, which lambda multiplies.

        It is ``value - fixed`` up to a constant factor, chosen so that lambda means about the same
        in every network.
        """

    def change(self, bits: Bits, width: str, step: float) -> float:
        """Return by how much the hard loss changes when one width changes by ``step`` bits."""
        return self.hard_loss({**bits, width: bits[width] + step}) - self.hard_loss(bits)

    @abstractmethod
    def depends_on(self, width: str) -> bool:
        """Tell whether the learned width ``width`` has any part in the cost."""

    def reached(self, bits: Bits) -> float:
        """Return what ``bits`` come to, in ``unit``: the value, unless people ask otherwise."""
        return self.value(bits)

    def describe(self, value: float) -> str:
        """Return a number in ``unit`` as text with its unit, for errors and reports."""
        return f"{value:,.0f} {self.unit}"

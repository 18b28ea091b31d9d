"""Variant: which of a run's trainings this is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import BitWidthPlan, UniformWidths

Mode = Literal["float", "adaqat", "uniform", "plan"]


@dataclass(frozen=True)
class Variant:
    """One training of a run.

    ``float`` trains in full precision, ``adaqat`` learns the widths, ``uniform`` trains at
    ``bits``, ``plan`` trains at the widths of ``plan``.

    Raises:
        ConfigError: ``bits`` or ``plan`` is missing where the mode needs it, or given where
            it does not.
    """

    name: str
    mode: Mode
    bits: UniformWidths | None = None
    plan: BitWidthPlan | None = None

    def __post_init__(self) -> None:
        for field, needed in (("bits", self.mode == "uniform"), ("plan", self.mode == "plan")):
            if (getattr(self, field) is not None) != needed:
                verb = "needs" if needed else "takes no"
                raise ConfigError(
                    f"Variant {self.name!r} of mode {self.mode!r} {verb} {field}; 'uniform' takes "
                    "bits, 'plan' takes a plan, 'float' and 'adaqat' take neither."
                )

    @classmethod
    def named(cls, name: str, plan: BitWidthPlan | None = None) -> Self:
        """Return the variant that ``name`` stands for.

        That is ``float``, ``learned``, a uniform plan's such as ``w4a4`` or
        ``w2a2-ends2-3-input3``, or any name where ``plan`` is given.

        Raises:
            ConfigError: ``name`` is none of these and ``plan`` is not given.
        """
        if plan is not None:
            return cls(name, "plan", plan=plan)
        if name == "float":
            return cls(name, "float")
        if name == "learned":
            return cls(name, "adaqat")
        widths = UniformWidths.from_name(name)
        if widths is None:
            raise ConfigError(
                f"Variant {name!r} must be 'float', 'learned' or uniform widths such as 'w4a4' or "
                "'w2a2-ends2-3-input3'; give a plan to train at widths of your own."
            )
        return cls(name, "uniform", bits=widths)

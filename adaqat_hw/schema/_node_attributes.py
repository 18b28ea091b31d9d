"""NodeAttributes: what FINN's attributes say about a node, by name and type, in one place."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema._stream import IntType, Stream
from adaqat_hw.schema.operators import Fold, Operator, find_operator, operator_names

_MAX_WEIGHT_BITS = 32


class NodeAttributes:
    """Typed view of a node's ``attributes``.

    Every property raises ConfigError, naming node and attribute, where the attribute is missing
    or is not what it must be.
    """

    if TYPE_CHECKING:  # fields of HardwareNode, which pydantic must not see twice
        name: str
        op: str
        inputs: tuple[Stream, ...]
        attributes: dict[str, int | str | tuple[int, ...]]

    @property
    def operator(self) -> Operator:
        """The operator's record."""
        found = find_operator(self.op)
        if found is None:
            raise ConfigError(
                f"Node {self.name!r} has the operator {self.op!r}, which this project does not "
                f"know; there are {operator_names()}."
            )
        return found

    def integer(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        """Return an integer attribute of at least ``least``, ``default`` where it is missing."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int) or value < least:
            what = "a positive integer" if least == 1 else f"an integer of at least {least}"
            raise ConfigError(
                f"Attribute {name!r} of node {self.name!r} is {value!r}; it must be {what}: build "
                "it again."
            )
        return value

    def flag(self, name: str) -> bool:
        """Return an attribute that is 0 or 1; a missing one is 0."""
        return bool(self.integer(name, 0, least=0))

    def sizes(self, name: str, count: int | None = None, *, least: int = 1) -> tuple[int, ...]:
        """Return an attribute of several integers, ``count`` of them where it is given."""
        value = self.attributes.get(name)
        wrong = not isinstance(value, tuple) or not value or min(value) < least
        if wrong or (count is not None and len(value) != count):  # type: ignore[arg-type]
            number = f"{count}" if count is not None else "some"
            raise ConfigError(
                f"Attribute {name!r} of node {self.name!r} is {value!r}; it must be {number} "
                f"integers of at least {least}: build it again."
            )
        assert isinstance(value, tuple)
        return value

    def pair(self, name: str) -> tuple[int, int]:
        """Return an attribute of height and width."""
        height, width = self.sizes(name, 2)
        return height, width

    @property
    def pe(self) -> int:
        """PE: outputs, or channels, in parallel."""
        return self.integer("PE")

    @property
    def simd(self) -> int:
        """SIMD: inputs, or channels, in parallel."""
        return self.integer("SIMD")

    @property
    def mw(self) -> int:
        """Matrix width: values of an input vector."""
        return self.integer("MW")

    @property
    def mh(self) -> int:
        """Matrix height: values of an output vector."""
        return self.integer("MH")

    @property
    def channels(self) -> int:
        """Channels of what the node works on."""
        if self.operator.channels is not None:
            return self.integer(self.operator.channels)
        shape = self.inputs[0].folded_shape
        return shape[-1] * (shape[-2] if len(shape) > 1 else 1)

    @property
    def kernel(self) -> tuple[int, ...]:
        """Height and width of the node's window."""
        assert self.operator.kernel is not None, f"{self.op} has no window"
        return self.sizes(self.operator.kernel)

    @property
    def taps(self) -> int:
        """Pixels of the node's window."""
        return math.prod(self.kernel)

    @property
    def weight_type(self) -> IntType:
        """Type of the weights."""
        bits, signed = (self.attributes.get(f"weight_{key}") for key in ("bits", "signed"))
        if not isinstance(bits, int) or not 1 <= bits <= _MAX_WEIGHT_BITS or signed not in (0, 1):
            raise ConfigError(
                f"'weight_bits' and 'weight_signed' of node {self.name!r} are {bits!r}, "
                f"{signed!r}; allowed are integers of 1..{_MAX_WEIGHT_BITS} bits, signed (1) or "
                "not (0)."
            )
        return IntType(bits=bits, signed=bool(signed))

    @property
    def parameter_count(self) -> int:
        """Values of the node's array of weights or thresholds."""
        parameters = self.operator.parameters
        return math.prod(map(self._total, parameters.shape)) if parameters is not None else 0

    @property
    def output_count(self) -> int:
        """Output streams that the node must have."""
        outputs = self.operator.outputs
        return outputs if isinstance(outputs, int) else self.integer(outputs)

    @property
    def makes_depthwise(self) -> bool:
        """Tell whether a sliding window sends its values channel group by channel group."""
        return self.operator.window == "makes" and self.flag("depthwise")

    @property
    def takes_depthwise(self) -> bool:
        """Tell whether the node reads its window channel group by channel group."""
        return self.operator.window == "takes" and self.taps > 1

    @property
    def dsp_refusal(self) -> str | None:
        """Why the node cannot be built in DSP blocks, where that is known."""
        value = self.attributes.get("dsp_refusal")
        return value if isinstance(value, str) else None

    def fold_total(self, fold: Fold) -> int:
        """Return the number that PE or SIMD must divide."""
        return self.channels if fold.divides is None else self._total(fold.divides)

    def _total(self, name: str) -> int:
        value = self.attributes.get(name)
        return math.prod(self.sizes(name)) if isinstance(value, tuple) else self.integer(name)

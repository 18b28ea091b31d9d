"""Lambda controlled along a target: from the initial hard loss down to a budget. Pure Python.

This project's extension of AdaQAT. The target ``C*`` falls geometrically over the learning phase,
``log C*(f) = log C_0 + (f / ARRIVAL) (log C_B - log C_0)``, is at the budget ``C_B`` at ``ARRIVAL``
and stays there. The widths obey ``dN_i = -lr_i (g_i + lambda h_i)`` per step, with task gradient
``g_i`` and the price ``h_i``, so the cost obeys

    d log C = -sum_i c_i lr_i (g_i + lambda h_i),    c_i = d log C / dN_i.

That is linear in lambda and is solved, with averaged ``g_i``, for the lambda that gives the
target's slope and corrects the error. The learning rates and the length of the training are part
of the equation, so nothing has to be tuned to them.

``C`` is the hard loss of the integers that the widths are expected to run at, half a bit above
their real values: it is smooth where the integers jump.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from adaqat_hw.cost import HardwareCost
from adaqat_hw.quant.controller import AdaQatController
from adaqat_hw.quant.widths import Width

ARRIVAL = 0.8  # fraction of the learning phase at which the target is at the budget
_CORRECTION = 0.06  # fraction of the phase in which an error decays
_SMOOTHING = 0.02  # fraction of the phase over which lambda is averaged
_ROUNDS = 2.0  # but in no fewer rounds of probes: a width answers once in a round
_DELTA = 1e-3  # of a bit, for the derivative of a cost that is linear between integers


@dataclass
class _State:
    """What a resumed training needs; ``fraction`` and ``step`` are of the last update."""

    fraction: float = 0.0
    first: tuple[float, int] | None = None
    last: tuple[float, int] | None = None


class LambdaController:
    """Compute lambda after each step of the widths.

    Lambda changes from the second update on, when the length of the learning phase is known.

    Args:
        widths: the learned widths.
        cost: what is limited; its hard loss is what lambda multiplies.
        initial: the initial integer widths.
    """

    def __init__(
        self, widths: Iterable[Width], cost: HardwareCost, initial: Mapping[str, int]
    ) -> None:
        assert cost.limit is not None
        self._widths = {w.name: w for w in widths}
        self._cost = cost
        start, value = cost.hard_loss(initial), cost.value(initial)
        # The limit without the fixed part, in the unit of the hard loss.
        goal = start * (1 - (value - cost.limit) / (value - cost.fixed))
        self._start, self._goal = math.log(start), math.log(goal)
        self._state = _State()

    @property
    def fraction(self) -> float:
        """How far the learning phase is, from 0 to 1."""
        return self._state.fraction

    @property
    def target(self) -> float:
        """The hard loss that the widths should have now."""
        return math.exp(self._target(self._state.fraction))

    def progress(self, fraction: float) -> None:
        """Take note of how far the learning phase is, 0 to 1."""
        self._state.fraction = min(max(fraction, 0.0), 1.0)

    def update(self, controller: AdaQatController, at_step: int, probed: int) -> float:
        """Return the lambda for the next step.

        Args:
            controller: after its step.
            at_step: the training step's number.
            probed: how many widths were probed in this step.
        """
        hardware_lambda, free = controller.hardware_lambda, controller.free
        state, point = self._state, (self._state.fraction, at_step)
        last, state.last = state.last, point
        first_answer = last is not None and last == state.first
        if state.first is None:
            state.first = point
        passed = state.fraction - last[0] if last else 0.0
        steps = at_step - state.first[1]
        if passed <= 0 or steps <= 0 or not free:
            return hardware_lambda
        a_round = passed * max(1.0, len(free) / max(1, probed))
        per_step = (state.fraction - state.first[0]) / steps
        error = math.log(self._expected_cost(controller.real)) - self._target(state.fraction)
        slope = (self._goal - self._start) / ARRIVAL if state.fraction < ARRIVAL else 0.0
        rate = (slope - error / max(_CORRECTION, _ROUNDS * a_round)) * per_step
        push, brake = self._response(controller, free)
        if push <= 0:
            return hardware_lambda
        exact = max(0.0, (brake - rate) / push)
        share = 1.0 if first_answer else min(1.0, passed / _SMOOTHING)
        return hardware_lambda + share * (exact - hardware_lambda)

    def state_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        return asdict(self._state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        pairs = {k: None if state[k] is None else tuple(state[k]) for k in ("first", "last")}
        self._state = _State(fraction=float(state["fraction"]), **pairs)

    def _target(self, fraction: float) -> float:
        share = min(1.0, fraction / ARRIVAL)
        return self._start + share * (self._goal - self._start)

    def _expected_cost(self, real: Mapping[str, float]) -> float:
        expected = {name: self._expected(name, value) for name, value in real.items()}
        return self._cost.hard_loss(expected)

    def _expected(self, name: str, real: float) -> float:
        """Return the integer that ``real`` runs at, averaged over where between two it may lie."""
        width = self._widths[name]
        inside = min(0.5, real - width.minimum, width.maximum - real)
        return real + max(0.0, inside)

    def _response(self, controller: AdaQatController, free: Iterable[str]) -> tuple[float, float]:
        """Return how fast, per step, log C falls with lambda, and rises by the task gradients."""
        push = brake = 0.0
        real, bits = controller.real, controller.bits
        worths = controller.sensitivity.fit()
        loss = self._cost.hard_loss(real)
        for name in free:
            width = self._widths[name]
            if real[name] <= width.minimum:
                continue
            slope = self._cost.change(real, name, -_DELTA) / -_DELTA
            step = -1 if bits[name] > width.minimum else 1
            price = self._cost.change(bits, name, step) / step
            worth = worths(name, max(bits[name], bits[name] + step))
            response = slope / loss * width.lr
            push += response * price
            brake += response * worth
        return push, brake

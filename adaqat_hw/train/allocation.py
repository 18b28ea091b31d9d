"""Rounds of the rule ``allocation`` in a training: score, choose, compare, move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from adaqat_hw.data import DataSource
from adaqat_hw.quant import (
    Binding,
    Neighbour,
    RoundOutcome,
    StepEvents,
    best_plan,
    calibrate_clips,
    changed_widths,
    judge,
    neighbours,
    plan_losses,
    reference_plan,
    round_steps,
)
from adaqat_hw.schema import RunConfig
from adaqat_hw.train.session import Session

Forward = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
_REFERENCE_BITS = 8


class Allocation:
    """The rounds of one training whose widths are allocated.

    Args:
        session: what is trained.
        config: the run's configuration.
        dataset: whose training split widths are scored on.
        forward: runs a pass that only measures.
        loss: the training loss of such a pass, from (inputs, targets, teacher's outputs).
        teacher: returns the teacher's outputs for inputs; None without one.
        classifies: whether the outputs are class logits; where not, the loss is the score, since
            a divergence of other outputs means nothing.
    """

    def __init__(
        self,
        session: Session,
        config: RunConfig,
        dataset: DataSource,
        forward: Forward,
        loss: Loss,
        teacher: Forward | None,
        *,
        classifies: bool = True,
    ) -> None:
        self._session, self._config, self._data = session, config, dataset
        self._forward, self._loss, self._teacher = forward, loss, teacher
        self._score = config.adaqat.allocation.score if classifies else "loss"
        schedule, rounds = session.schedule, config.adaqat.allocation.rounds
        self._steps = round_steps(schedule.warmup_steps, schedule.freeze_step, rounds)

    def run(self) -> tuple[StepEvents, dict[str, Any]] | None:
        """Do the round that begins at the present step; the network is not switched.

        Returns:
            What moved, and the record of the round for the log; None where no round begins.
        """
        binding, step = self._session.binding, self._session.step
        if binding is None or binding.allocation_start is None or binding.controller.done:
            return None
        if step not in self._steps:
            return None
        if step == self._steps[0]:
            # Until here, if there was a warm-up, the widths had the bit more of the reference plan.
            binding.controller.move_to(binding.allocation_start, step)
        self._refit(binding)
        outcome, scored = self._measure(binding)
        target = outcome.plan if outcome.taken else outcome.live
        record = {
            "event": "allocation",
            "step": step,
            "round": self._steps.index(step) + 1,
            "rounds": len(self._steps),
            "score": self._score,
            "scores": scored,
            **outcome.as_dict(binding.controller.cost),
        }
        return binding.move_to(target, step), record

    def _refit(self, binding: Binding) -> None:
        """Bring what clips are at other widths, relative to the present, up to date."""
        if not self._config.quant.calibrate:
            return
        for batch in self._data.calibration_batches(self._config.train.batch_size, 1):
            calibrate_clips(binding.network, batch, ratios_only=True)

    def _measure(self, binding: Binding) -> tuple[RoundOutcome, dict[str, dict[int, float]]]:
        controller = binding.controller
        live, near = controller.bits, neighbours(controller)
        base, scored = self._score_alone(binding, near)
        choice = best_plan(controller, base, scored)
        plan = choice.plan
        differences: list[float] = []
        if plan != live:
            new, present = changed_widths(controller, plan)
            # The batches that chose the plan would flatter it.
            fresh, again = self._score_alone(binding, [*new, *present], fresh=True)
            gains = [
                [
                    choice.factors[one[0]] * (a - b)
                    for a, b in zip(again[one], again[other], strict=True)
                ]
                for one, other in zip(new, present, strict=True)
            ]
            differences = [sum(row[index] for row in gains) for index in range(len(fresh))]
        table: dict[str, dict[int, float]] = {}
        for (name, bits), values in scored.items():
            gaps = [a - b for a, b in zip(values, base, strict=True)]
            table.setdefault(name, {})[bits] = sum(gaps) / len(gaps)
        return judge(live, plan, differences, exact=choice.exact), table

    def _score_alone(
        self, binding: Binding, widths: list[Neighbour], *, fresh: bool = False
    ) -> tuple[list[float], dict[Neighbour, list[float]]]:
        """Return the scores of the reference plan, and of it with each of ``widths`` alone."""
        reference = reference_plan(binding.controller)
        plans = [reference, *({**reference, name: bits} for name, bits in widths)]
        scores = self._scores(binding, fresh=fresh)
        base, *others = plan_losses(binding, scores, plans, mean=self._session.world.mean)
        return base, dict(zip(widths, others, strict=True))

    def _scores(self, binding: Binding, *, fresh: bool = False) -> Iterator[Callable[[], Tensor]]:
        """Yield what scores the network on one batch; lower is better."""
        settings, session = self._config.adaqat.allocation, self._session
        count = settings.batches
        batches = self._data.train_batches(
            self._config.train.batch_size,
            min(2 * count if fresh else count, session.schedule.steps_per_epoch),
            # Of its own: the training's batches must not depend on this.
            torch.Generator().manual_seed(_seed(self._config.seed, session.step, fresh)),
            rank=session.world.rank,
            world=session.world.size,
        )
        for x, y in batches:
            x, y = x[: settings.samples], y[: settings.samples]
            taught = None if self._teacher is None else self._teacher(x)
            if self._score == "loss":
                yield partial(self._loss, x, y, taught)
            else:
                reference = self._own_reference(binding, x) if taught is None else taught
                yield partial(self._divergence, x, reference)

    def _own_reference(self, binding: Binding, x: Tensor) -> Tensor:
        controller = binding.controller
        wide = {n: min(w.maximum, _REFERENCE_BITS) for n, w in controller.widths.items()}
        with binding.at({**controller.bits, **wide}):
            return self._forward(x)

    def _divergence(self, x: Tensor, reference: Tensor) -> Tensor:
        own = F.log_softmax(self._forward(x).float(), dim=1)
        wanted = F.log_softmax(reference.float(), dim=1)
        return F.kl_div(own, wanted, reduction="batchmean", log_target=True)


def _seed(seed: int, step: int, fresh: bool) -> int:
    """Return a seed that neither another round nor the comparison at the freeze has."""
    return (seed + 1) * 1_000_003 + 2 * step + int(fresh)

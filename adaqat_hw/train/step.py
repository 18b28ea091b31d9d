"""One training step: forward, backward, AdaQAT probes, optimizer update."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from adaqat_hw.data import DataSource
from adaqat_hw.quant import (
    Binding,
    BitWidth,
    Probes,
    StepEvents,
    calibrate_clips,
    compare_losses,
    draws_numbers,
    fit_weight_ranges,
    recalibrate_batch_norm,
    run_probes,
    tensor_float32,
)
from adaqat_hw.schema import ProbingConfig, RunConfig
from adaqat_hw.train.allocation import Allocation
from adaqat_hw.train.compute import Compute, lay_out
from adaqat_hw.train.loss import Teacher, training_loss
from adaqat_hw.train.meter import LossMeter, check_every
from adaqat_hw.train.own_loss import OwnLoss
from adaqat_hw.train.session import Session

_LOGGED_PROBES_PER_EPOCH = 20


class Stepper:
    """Do training steps of a session.

    On a GPU a step fetches nothing but the losses of its probes, in one transfer after all its
    work was handed over; ``meter`` keeps the training losses on the device.

    Args:
        session: what is trained.
        config: the run's configuration.
        stage: name for errors, such as ``"train/learned"``.
        dataset: read when batch norm is recalibrated.
        teacher: what is distilled from, or None.
        own: a loss of one's own in place of cross-entropy, or None.
    """

    def __init__(
        self,
        session: Session,
        config: RunConfig,
        stage: str,
        dataset: DataSource,
        teacher: Teacher | None = None,
        own: OwnLoss | None = None,
    ) -> None:
        self._session = session
        self._config = config
        self._data = dataset
        self._teacher = teacher
        self._own = own
        net, world = session.net, session.world
        lay_out(net, config.train)
        self._compute = Compute(net, world.share(net), config.train, world.device)
        self._random = draws_numbers(session.net)
        self._allocation = Allocation(
            session,
            config,
            dataset,
            self._compute.probe,
            self._loss,
            None if teacher is None else teacher.logits,
            # A teacher has been checked to give class logits.
            classifies=own is None or teacher is not None,
        )
        self._log_every = _log_every(session, config.adaqat.probing)
        every = check_every(session.world.device)
        self.meter = LossMeter(stage, config.train.lr, every)

    def step(self, x: Tensor, y: Tensor) -> list[dict[str, Any]]:
        """Do one step; return the width records to log.

        The probes reuse the training loss as the loss at the present widths: they run before its
        pass, at the same weights. New widths take effect after the update.

        Args:
            x: this process's part of the batch (n, ...).
            y: its labels (n,), or targets (n, ...) of a loss of one's own.

        Raises:
            StageFailed: the loss is not finite.
        """
        session = self._session
        session.optimizer.zero_grad(set_to_none=True)
        records = [*self._freeze_on_schedule(), *self._allocate()]
        lr = session.schedule.lr_at(session.step)
        for group in session.optimizer.param_groups:
            group["lr"] = lr
        taught = self._teacher.logits(x) if self._teacher is not None else None
        probes = self._probe(x, y, taught)
        outputs = self._compute.training(x)
        loss = training_loss(self._config.train, outputs, y, taught, self._own)
        self.meter.add(loss, session.step, lr)
        loss.backward()  # type: ignore[no-untyped-call]
        session.optimizer.step()
        moved = None if probes is None else self._move_widths(probes, loss)
        if session.average is not None:
            session.average.update()
        session.step += 1
        if moved is not None:
            records.extend(self._after_move(*moved, lr))
        return records

    def fit_ranges(self, widths: Iterable[BitWidth] | None = None) -> None:
        """Fit what the quantizers' largest integers stand for, at the present widths.

        Learned ranges of weights to the weights, clips to one batch of training data.

        Args:
            widths: of the quantizers to fit; all where None.
        """
        net = self._session.quantized
        if net is None:
            return
        chosen = [*net.weight_widths.values(), *net.act_widths.values()]
        chosen = chosen if widths is None else list(widths)
        fit_weight_ranges(chosen)
        acts = [width for width in chosen if not width.of_weight]
        if acts and self._config.quant.calibrate:
            batches = self._data.calibration_batches(self._config.train.batch_size, 1)
            for batch in batches:
                calibrate_clips(net, batch, acts)

    def facts(self) -> dict[str, Any]:
        """Return what the log says of the learned widths and their price, or nothing."""
        binding = self._session.binding
        return dict(binding.facts()) if binding is not None else {}

    def freeze_rest(self) -> list[dict[str, Any]]:
        """Freeze what is still moving at the end of the schedule."""
        binding = self._session.binding
        if binding is None or binding.controller.done:
            return []
        return self._freeze_all()

    def recalibrate(self, averaged: bool = False) -> bool:
        """Recompute batch-norm statistics at the present widths and weights.

        Args:
            averaged: the weights have become averages; then in full precision too.

        Returns:
            Whether there was anything to do: not in full precision, without batch norm, or with
            ``train.recalibrate_batches`` = 0.
        """
        session, count = self._session, self._config.train.recalibrate_batches
        full_precision = session.quantized is None and not averaged
        if not count or full_precision or not self._has_norms():
            return False
        batches = self._data.calibration_batches(self._config.train.batch_size, count)
        with tensor_float32(allowed=False):
            recalibrate_batch_norm(session.net, batches)
        session.world.share_norms(session.net)
        return True

    def _has_norms(self) -> bool:
        kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
        return any(isinstance(m, kinds) for m in self._session.net.modules())

    def _probe(self, x: Tensor, y: Tensor, taught: Tensor | None) -> Probes | None:
        """Measure the probes that are due in this step; None where none is."""
        session, schedule, binding = self._session, self._session.schedule, self._session.binding
        if binding is None or binding.controller.done:
            return None
        if not schedule.widths_may_move(session.step):
            return None
        binding.progress(schedule.learned_fraction(session.step))
        if session.step % self._config.adaqat.probing.every:
            return None
        names = binding.probe_names(session.step)
        if not names:
            return None
        count = self._probe_samples(len(x))
        # Dropout draws anew in every pass, other samples have another loss, and a pass with running
        # statistics too: then the probes need a live loss measured as they are.
        frozen = schedule.epochs - self._config.train.frozen_norm_epochs
        measure_live = count < len(x) or self._random or session.epoch >= frozen
        measure = partial(
            self._loss, x[:count], y[:count], None if taught is None else taught[:count]
        )
        return run_probes(binding, measure, names, measure_live=measure_live)

    def _move_widths(self, probes: Probes, loss: Tensor) -> tuple[StepEvents, dict[str, float]]:
        session, binding = self._session, self._session.binding
        assert binding is not None
        at, losses = probes.fetch(loss, session.world.mean)
        return binding.step(losses, at, at_step=session.step), {"live": at, **losses}

    def _loss(self, x: Tensor, y: Tensor, taught: Tensor | None) -> Tensor:
        return training_loss(self._config.train, self._compute.probe(x), y, taught, self._own)

    def _probe_samples(self, local: int) -> int:
        """Return how many of this process's samples the probes see; batch norm needs two."""
        samples = self._config.adaqat.probing.samples
        if samples is None:
            return local
        return min(local, max(2, samples // self._session.world.size))

    def _after_move(
        self, events: StepEvents, losses: dict[str, float], lr: float
    ) -> Iterable[dict[str, Any]]:
        binding = self._session.binding
        assert binding is not None
        changed = bool(events.flips or events.freezes)
        if changed:
            self._apply_widths(binding)
        if changed or events.step % self._log_every == 0:
            yield self._record(events, losses, lr)
        if events.freezes and binding.controller.done:
            self.recalibrate()

    def _allocate(self) -> Iterable[dict[str, Any]]:
        outcome = self._allocation.run()
        if outcome is None:
            return
        events, record = outcome
        yield record
        binding = self._session.binding
        assert binding is not None
        self._apply_widths(binding)
        yield self._record(events, {}, None)

    def _freeze_on_schedule(self) -> Iterable[dict[str, Any]]:
        session = self._session
        binding = session.binding
        due = session.step == session.schedule.freeze_step
        if binding is not None and due and not binding.controller.done:
            yield from self._freeze_all()
            self.recalibrate()

    def _freeze_all(self) -> list[dict[str, Any]]:
        binding, step = self._session.binding, self._session.step
        assert binding is not None
        events = binding.freeze_all(step, self._differences())
        self._apply_widths(binding)
        records = [self._record(events, {}, None)]
        if binding.freeze_choice is not None:
            choice = binding.freeze_choice.model_dump(mode="json")
            records.insert(0, {"event": "freeze_choice", **choice})
        return records

    def _apply_widths(self, binding: Binding) -> None:
        """Switch to the controller's widths and fit the ranges of the quantizers that change.

        Averaged weights begin anew then.
        """
        changed = binding.apply()
        self.fit_ranges(changed)
        if changed and self._session.average is not None:
            self._session.average.restart()

    def _differences(self) -> list[float] | None:
        """Return learned minus uniform loss on batches of the training split, measured as probes.

        None where nothing is to be compared.
        """
        binding, count = self._session.binding, self._config.adaqat.freeze.compare_batches
        proposal = binding.freeze_proposal() if binding is not None and count else None
        if binding is None or proposal is None:
            return None
        if not proposal.differs:
            return []
        plans = proposal.learned, proposal.uniform
        losses = self._compared_losses(count)
        return compare_losses(binding, losses, plans, mean=self._session.world.mean)

    def _compared_losses(self, count: int) -> Iterator[partial[Tensor]]:
        """Yield what measures the loss on one batch, for as many batches as one epoch has."""
        session = self._session
        batches = self._data.train_batches(
            self._config.train.batch_size,
            min(count, session.schedule.steps_per_epoch),
            # Of its own: the training's batches must not depend on this.
            torch.Generator().manual_seed(self._config.seed),
            rank=session.world.rank,
            world=session.world.size,
        )
        for x, y in batches:
            taught = self._teacher.logits(x) if self._teacher is not None else None
            yield partial(self._loss, x, y, taught)

    def _record(
        self, events: StepEvents, losses: dict[str, float], lr: float | None
    ) -> dict[str, Any]:
        record: dict[str, Any] = {"event": "widths", "step": events.step}
        record.update(self.facts())
        record.update(lr=lr, losses=losses)
        record.update({k: v for k, v in events.as_dict().items() if k != "step"})
        return record


def _log_every(session: Session, probing: ProbingConfig) -> int:
    """Return the steps between two logged probes: about twenty of them per epoch.

    Where a step probes only some widths, every width is logged at times: the probing steps
    between two records and those of a round over all widths have no common divisor.
    """
    probes = max(1, session.schedule.steps_per_epoch // probing.every)
    stride = max(1, probes // _LOGGED_PROBES_PER_EPOCH)
    if session.binding is not None and probing.per_step is not None:
        in_a_round = math.ceil(len(session.binding.controller.widths) / probing.per_step)
        while math.gcd(stride, in_a_round) > 1:
            stride += 1
    return stride * probing.every

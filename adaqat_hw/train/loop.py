"""Train one variant of a run, resumably."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adaqat_hw import __version__, data
from adaqat_hw.schema import BitWidthPlan, RunConfig, TrainResult
from adaqat_hw.tools import package_versions
from adaqat_hw.train.batches import accuracy, epoch_batches
from adaqat_hw.train.checkpoint import save
from adaqat_hw.train.session import Session, open_session, restore
from adaqat_hw.train.step import Stepper, width_facts
from adaqat_hw.train.trajectory import Trajectory
from adaqat_hw.train.variant import Variant, config_digest

Progress = Callable[[dict[str, Any]], None]
_LOGGER = logging.getLogger(__name__)
_TICKS_PER_EPOCH = 10
_EVALUATION_BATCH = 500


def train(
    config: RunConfig,
    variant: Variant,
    folder: Path,
    *,
    progress: Progress | None = None,
    init_checkpoint: Path | None = None,
) -> TrainResult:
    """Train one variant; resume from ``last.pt`` when the folder holds one of this training.

    Writes ``spec.json``, ``log.jsonl``, ``last.pt`` (every ``train.checkpoint_every`` epochs),
    ``checkpoint.pt`` (the final state_dict), ``plan.json`` (not in full precision) and, last,
    ``result.json``. On one machine with one thread count a resumed training ends with the same
    bits as one that was never stopped.

    Args:
        config: the run.
        variant: which of its trainings.
        folder: where the files go; made when missing.
        progress: called with each log record and, ten times per epoch, with
            ``{"event": "step", "epoch", "epochs", "step", "steps", "train_loss"}``. An exception
            from it ends the training; it can be resumed.
        init_checkpoint: ``checkpoint.pt`` of the full-precision training to fine-tune from; read
            at the start only, not on resume.

    Raises:
        ConfigError: configuration, data, checkpoint or ``last.pt`` do not fit.
        StageFailed: the loss became infinite or no number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]), _threads(config.train.threads):
        return _Training(config, variant, folder, progress, init_checkpoint).run()


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class _Final:
    before: float | None
    after: float


class _Training:
    def __init__(
        self,
        config: RunConfig,
        variant: Variant,
        folder: Path,
        progress: Progress | None,
        init_checkpoint: Path | None,
    ) -> None:
        self._config = config
        self._variant = variant
        self._folder = folder
        self._progress = progress or (lambda event: None)
        self._digest = config_digest(config, variant)
        self._started = time.monotonic()
        self._data = data.load(config.data, config.seed)
        self._last = folder / "last.pt"
        resumes = self._resumes()
        self._session = open_session(
            config, variant, self._data, None if resumes else init_checkpoint
        )
        if resumes:
            restore(self._session, config, self._last, self._digest)
            _LOGGER.info("resuming %s after epoch %d", folder, self._session.epoch)
        self._earlier = self._session.seconds
        self._stepper = Stepper(self._session, config, f"train/{variant.name}", self._data.train_x)

    def _resumes(self) -> bool:
        """Tell whether to go on from ``last.pt``.

        A finished training of another configuration may be replaced; an unfinished one is refused
        by ``restore``.
        """
        if not self._last.exists():
            return False
        result = self._folder / "result.json"
        if not result.exists():
            return True
        return TrainResult.read(result).config_digest == self._digest

    def run(self) -> TrainResult:
        session = self._session
        (self._folder / "result.json").unlink(missing_ok=True)
        session.spec.write(self._folder / "spec.json")
        with Trajectory(self._folder / "log.jsonl", keep=session.log_lines) as log:
            while session.epoch < session.schedule.epochs:
                self._epoch(session, log)
            final = self._finish(log)
        return self._write(final)

    def _epoch(self, session: Session, log: Trajectory) -> None:
        train, schedule = self._config.train, session.schedule
        session.net.train()
        lr = schedule.lr_at(session.step)
        tick = max(1, schedule.steps_per_epoch // _TICKS_PER_EPOCH)
        total = 0.0
        position = {"epoch": session.epoch + 1, "epochs": schedule.epochs}
        batches = epoch_batches(
            self._data.train_x,
            self._data.train_y,
            train.batch_size,
            schedule.steps_per_epoch,
            session.generator,
            self._data.augmenter,
        )
        for count, (x, y) in enumerate(batches, start=1):
            loss, records = self._stepper.step(x, y)
            total += loss
            for record in records:
                self._log(log, {**record, **position})
            if count % tick == 0:
                facts = {"step": session.step, "steps": schedule.steps}
                self._progress({"event": "step", **position, **facts, "train_loss": total / count})
        session.epoch += 1
        record = {"event": "epoch", **position, "step": session.step, "lr": lr}
        record["train_loss"] = total / schedule.steps_per_epoch
        record["accuracy"] = self._accuracy()
        self._log(log, {**record, **width_facts(session)})
        if session.epoch % train.checkpoint_every == 0 or session.epoch == schedule.epochs:
            session.log_lines = log.lines
            session.seconds = self._seconds()
            save(self._last, session.state(self._digest))

    def _finish(self, log: Trajectory) -> _Final:
        session = self._session
        for record in self._stepper.freeze_rest():
            self._log(log, record)
        before = self._accuracy()
        final = _Final(None, before)
        if self._stepper.recalibrate():
            final = _Final(before, self._accuracy())
        self._log(
            log,
            {
                "event": "final",
                "step": session.step,
                "accuracy": final.after,
                "accuracy_before_recalibration": final.before,
                **width_facts(session),
            },
        )
        return final

    def _write(self, final: _Final) -> TrainResult:
        session, folder = self._session, self._folder
        save(folder / "checkpoint.pt", dict(session.net.state_dict()))
        plan = self._plan()
        if plan is not None:
            plan.write(folder / "plan.json")
        result = TrainResult(
            network=session.spec.name,
            dataset=self._data.name,
            mode=self._variant.mode,
            config_digest=self._digest,
            seed=self._config.seed,
            epochs=session.epoch,
            steps=session.step,
            accuracy=final.after,
            accuracy_before_recalibration=final.before,
            test_samples=len(self._data.test_x),
            plan="plan.json" if plan is not None else None,
            plan_digest=plan.digest() if plan is not None else None,
            checkpoint="checkpoint.pt",
            log="log.jsonl",
            frozen_at=self._frozen_at(),
            seconds=self._seconds(),
            tool_versions={
                **package_versions("torch", "brevitas", "numpy"),
                "adaqat-hw": __version__,
            },
        )
        result.write(folder / "result.json")
        return result

    def _plan(self) -> BitWidthPlan | None:
        net = self._session.quantized
        if net is None:
            return None
        if self._variant.mode == "adaqat":
            return net.plan("adaqat")
        return net.plan("manual" if self._variant.plan is not None else "uniform")

    def _frozen_at(self) -> dict[str, int | None]:
        binding = self._session.binding
        if binding is None:
            return {}
        frozen, end = binding.controller.frozen, self._session.schedule.steps
        return {n: s if (s := frozen[n]) < end else None for n in binding.controller.widths}

    def _accuracy(self) -> float:
        return accuracy(self._session.net, self._data.test_x, self._data.test_y, _EVALUATION_BATCH)

    def _seconds(self) -> float:
        return self._earlier + time.monotonic() - self._started

    def _log(self, log: Trajectory, record: dict[str, Any]) -> None:
        log.write(record)
        self._progress(record)

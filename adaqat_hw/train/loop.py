"""Train one variant of a run, resumably."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adaqat_hw import data
from adaqat_hw.errors import ConfigError, StageFailed
from adaqat_hw.quant import use_running_statistics
from adaqat_hw.run import TrainFolder
from adaqat_hw.schema import RunConfig, TrainResult
from adaqat_hw.train.accuracy import Accuracy, accuracy
from adaqat_hw.train.checkpoint import save
from adaqat_hw.train.digest import training_digest
from adaqat_hw.train.loss import Teacher
from adaqat_hw.train.result import Final, write_result
from adaqat_hw.train.session import open_session, restore
from adaqat_hw.train.step import Stepper
from adaqat_hw.train.tensorboard import TensorboardWriter, require_tensorboard
from adaqat_hw.train.trajectory import Trajectory
from adaqat_hw.train.variant import Variant
from adaqat_hw.train.world import World, join_world

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
    teacher_checkpoint: Path | None = None,
    net: nn.Module | None = None,
    dataset: data.DataSource | None = None,
) -> TrainResult:
    """Train one variant; resume from ``last.pt`` when the folder holds one of this training.

    Writes ``spec.json``, ``log.jsonl``, ``last.pt`` (every ``train.checkpoint_every`` epochs),
    ``checkpoint.pt`` (the final state_dict), ``plan.json`` (not in full precision), with
    ``train.tensorboard`` also ``tensorboard/``, and, last, ``result.json``. On one machine with
    one thread count a resumed training ends with the same bits as one that was never stopped; it
    may resume on another device, then with other rounding.

    The final weights are kept, whatever the accuracy of earlier epochs was: choosing by the test
    split would flatter the result. That holds for a budget too: from ``adaqat.freeze.at`` on
    every epoch has the frozen plan, and the learning rate falls to 0 behind it.

    Under torchrun every process calls this; the first one writes, the others wait for it and
    return what it wrote.

    Args:
        config: the run.
        variant: which of its trainings.
        folder: where the files go; made when missing.
        progress: called with each log record and, ten times per epoch, with
            ``{"event": "step", "epoch", "epochs", "step", "steps", "train_loss"}``. An exception
            from it ends the training; it can be resumed.
        init_checkpoint: ``checkpoint.pt`` of the full-precision training to fine-tune from. A
            training resumes with the one that it began with.
        teacher_checkpoint: ``checkpoint.pt`` of the full-precision training to distil from, the
            same on resume. Needed where ``train.teacher`` is set; a full-precision training has
            no teacher.
        net: a network of one's own, with its weights, in place of the registered one;
            ``config.network`` then only names it.
        dataset: data of one's own in place of ``config.data``.

    Raises:
        ConfigError: configuration, data, checkpoint, device or ``last.pt`` do not fit.
        StageFailed: the loss became infinite or no number.
        ToolNotFound: ``train.tensorboard`` without the package.
    """
    if config.train.tensorboard:
        require_tensorboard()
    world = join_world(config.train.device)
    devices = [world.device] if world.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), _threads(config.train.threads):
        # Full precision has no teacher.
        teacher = None if variant.mode == "float" else teacher_checkpoint
        digest = training_digest(config, variant, init=init_checkpoint, teacher=teacher)
        training = _Training(config, variant, folder, world, digest, progress)
        source = data.load(config.data, config.seed) if dataset is None else dataset
        return training.open(source, init_checkpoint, teacher, net).run()


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)


class _Training:
    def __init__(
        self,
        config: RunConfig,
        variant: Variant,
        folder: Path,
        world: World,
        digest: str,
        progress: Progress | None,
    ) -> None:
        self._config = config
        self._variant = variant
        self._folder = TrainFolder(folder)
        self._world = world
        self._progress = progress or (lambda event: None)
        self._digest = digest
        self._started = time.monotonic()
        self._log: Trajectory | None = None
        self._tensorboard: TensorboardWriter | None = None

    def open(
        self,
        source: data.DataSource,
        init: Path | None,
        teacher: Path | None,
        own: nn.Module | None,
    ) -> _Training:
        """Make the network and, on resume, load its state."""
        config, world = self._config, self._world
        self._folder.path.mkdir(parents=True, exist_ok=True)
        resumes = self._resumes()
        self._data = source.to(world.device)
        taught = self._teacher(teacher)
        self._session = open_session(
            config, self._variant, self._data, None if resumes else init, world, own
        )
        if resumes:
            restore(self._session, config, self._folder.resume, self._digest)
            _LOGGER.info("resuming %s after epoch %d", self._folder.path, self._session.epoch)
        self._earlier = self._session.seconds
        stage = f"train/{self._variant.name}"
        self._stepper = Stepper(self._session, config, stage, self._data, taught)
        if not resumes:
            self._stepper.fit_ranges()
        world.wait()  # nothing may be written while another process still looks at the folder
        return self

    def _resumes(self) -> bool:
        """Tell whether to go on from ``last.pt``.

        A finished training of another configuration may be replaced; an unfinished one is refused
        by ``restore``.
        """
        if not self._folder.resume.exists():
            return False
        result = self._folder.result
        try:
            return TrainResult.read(result).config_digest == self._digest
        except ConfigError:  # none there, or of another release: ``restore`` judges
            return True

    def _teacher(self, path: Path | None) -> Teacher | None:
        train = self._config.train
        if train.teacher is None or self._variant.mode == "float":
            return None
        if path is None:
            raise ConfigError(
                f"train.teacher is {train.teacher!r}, and no teacher's checkpoint was given; pass "
                "teacher_checkpoint, or train by the command line, which finds it."
            )
        return Teacher(self._config.network, path, train, self._world.device)

    def run(self) -> TrainResult:
        """Train to the end, measure, write."""
        session, folder = self._session, self._folder
        with ExitStack() as stack:
            if self._world.leads:
                folder.result.unlink(missing_ok=True)
                session.spec.write(folder.spec)
                self._open_logs(stack)
            while session.epoch < session.schedule.epochs:
                self._epoch()
            final = self._finish()
        if self._world.leads:
            write_result(
                session,
                self._config,
                self._variant,
                folder,
                digest=self._digest,
                dataset=self._data.name,
                final=final,
                seconds=self._seconds(),
            )
        self._world.wait()
        return TrainResult.read(folder.result)

    def _open_logs(self, stack: ExitStack) -> None:
        session, folder = self._session, self._folder
        self._log = stack.enter_context(Trajectory(folder.log, keep=session.log_lines))
        if self._config.train.tensorboard:
            self._tensorboard = TensorboardWriter(folder.tensorboard, session.step)
            stack.callback(self._tensorboard.close)

    def _epoch(self) -> None:
        session, train, world = self._session, self._config.train, self._world
        schedule, meter = session.schedule, self._stepper.meter
        session.net.train()
        if session.epoch >= schedule.epochs - train.frozen_norm_epochs:
            if session.epoch == schedule.epochs - train.frozen_norm_epochs:
                self._stepper.recalibrate()
            use_running_statistics(session.net)
        meter.reset()
        lr = schedule.lr_at(session.step)
        tick = max(1, schedule.steps_per_epoch // _TICKS_PER_EPOCH)
        position = {"epoch": session.epoch + 1, "epochs": schedule.epochs}
        batches = self._data.train_batches(
            train.batch_size,
            schedule.steps_per_epoch,
            session.generator,
            rank=world.rank,
            world=world.size,
        )
        for count, (x, y) in enumerate(batches, start=1):
            for record in self._stepper.step(x, y):
                self._write({**record, **position})
            if count % tick == 0 and world.leads:
                facts = {"step": session.step, "steps": schedule.steps}
                self._tick({**position, **facts, "train_loss": float(meter.mean())})
        meter.check(session.step - 1, lr)
        session.epoch += 1
        self._check_alike()
        world.share_norms(session.net)
        reached = self._accuracy()
        record = {"event": "epoch", **position, "step": session.step, "lr": lr}
        record["train_loss"] = float(world.mean(meter.mean()))
        record.update(_fractions(reached))
        self._write({**record, **self._stepper.facts()})
        if session.epoch % train.checkpoint_every == 0 or session.epoch == schedule.epochs:
            self._checkpoint()

    def _checkpoint(self) -> None:
        session = self._session
        session.log_lines = self._log.lines if self._log else 0
        session.seconds = self._seconds()
        state = session.state(self._digest)
        if self._world.leads:
            save(self._folder.resume, state)

    def _check_alike(self) -> None:
        """Refuse to go on where processes that share a network have other widths."""
        binding = self._session.binding
        if binding is None or self._world.size == 1:
            return
        widths = self._world.gather(binding.controller.real)
        if any(other != widths[0] for other in widths):
            raise StageFailed(
                f"train/{self._variant.name}",
                f"the processes disagree on the widths at step {self._session.step}: {widths!r}; "
                "train in one process and report this",
            )

    def _finish(self) -> Final:
        froze = self._stepper.freeze_rest()
        for record in froze:
            self._write(record)
        binding = self._session.binding
        budget = binding.budget_result() if binding else None
        if budget is not None:
            _LOGGER.log(logging.INFO if budget.met else logging.WARNING, "%s", budget.sentence)
        after = self._accuracy()
        final = Final(None, after)
        # Where no width changed at the end, the running statistics have followed the network to
        # here, over more samples than a recalibration sees.
        if froze and self._stepper.recalibrate():
            final = Final(after, self._accuracy())
        record = {"event": "final", "step": self._session.step, **_fractions(final.after)}
        record["accuracy_before_recalibration"] = final.before.top1 if final.before else None
        if budget is not None:
            record["outcome"] = budget.model_dump()
        self._write({**record, **self._stepper.facts()})
        return final

    def _accuracy(self) -> Accuracy:
        return accuracy(self._session.net, self._data.test_batches(_EVALUATION_BATCH))

    def _seconds(self) -> float:
        return self._earlier + time.monotonic() - self._started

    def _write(self, record: dict[str, Any]) -> None:
        if self._log is None:
            return
        self._log.write(record)
        if self._tensorboard is not None:
            self._tensorboard.write(record)
        self._progress(record)

    def _tick(self, facts: dict[str, Any]) -> None:
        if self._tensorboard is not None:
            lr = self._session.schedule.lr_at(self._session.step - 1)
            self._tensorboard.write({**facts, "lr": lr})
        self._progress({"event": "step", **facts})


def _fractions(reached: Accuracy) -> dict[str, float]:
    both = {"accuracy": reached.top1, "accuracy_top5": reached.top5}
    return {name: value for name, value in both.items() if value is not None}

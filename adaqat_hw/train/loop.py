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
from adaqat_hw.quant import tensor_float32, use_running_statistics
from adaqat_hw.run import TrainFolder
from adaqat_hw.schema import RunConfig, TrainConfig, TrainResult
from adaqat_hw.train.checkpoint import save
from adaqat_hw.train.compute import records_graphs
from adaqat_hw.train.content import network_digest
from adaqat_hw.train.digest import training_digest
from adaqat_hw.train.evaluation import Evaluation
from adaqat_hw.train.loss import Teacher, teacher_of
from adaqat_hw.train.own_loss import OwnLoss
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
_GPU_TICK_SECONDS = 1.0  # a tick reads the loss, which makes a GPU wait
_CHECKPOINT_SECONDS = 60.0


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
    teacher: nn.Module | None = None,
    own_loss: OwnLoss | None = None,
) -> TrainResult:
    """Train one variant; resume from ``last.pt`` when the folder holds one of this training.

    Writes ``spec.json``, ``log.jsonl``, ``last.pt`` (as ``train.checkpoint_every`` says),
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
        progress: called with each log record and, up to ten times per epoch, with
            ``{"event": "step", "epoch", "epochs", "step", "steps", "train_loss"}``. An exception
            from it ends the training, which can be resumed: one at an epoch's record, in a
            training of one process, from that epoch on.
        init_checkpoint: ``checkpoint.pt`` of the full-precision training to fine-tune from. A
            training resumes with the one that it began with.
        teacher_checkpoint: ``checkpoint.pt`` of the full-precision training to distil from, the
            same on resume. Needed where ``train.teacher`` is set; a full-precision training has
            no teacher.
        net: a network of one's own, with its weights, in place of the registered one;
            ``config.network`` then only names it.
        dataset: data of one's own in place of ``config.data``.
        teacher: a network of one's own to distil from, in place of a checkpoint's.
        own_loss: loss and metric of one's own, in place of cross-entropy and top-1 accuracy.

    Raises:
        ConfigError: configuration, data, checkpoint, device or ``last.pt`` do not fit.
        StageFailed: the loss became infinite or no number.
        ToolNotFound: ``train.tensorboard`` without the package.
    """
    if variant.mode == "float":
        config = config.in_full_precision()
    if config.train.tensorboard:
        require_tensorboard()
    world = join_world(config.train.device)
    _refuse_shared_graphs(config.train, world)
    devices = [world.device] if world.device.type == "cuda" else []
    tf32 = tensor_float32(allowed=config.train.precision == "tf32")
    with torch.random.fork_rng(devices=devices), _threads(config.train.threads), tf32:
        # Full precision has no teacher.
        if variant.mode == "float":
            teacher = teacher_checkpoint = None
        own = {} if own_loss is None else {"loss": own_loss.name}
        if teacher is not None:
            own["teacher"] = network_digest(teacher)
        digest = training_digest(
            config, variant, init=init_checkpoint, teacher=teacher_checkpoint, own=own
        )
        own_loss = None if own_loss is None else own_loss.to(world.device)
        training = _Training(config, variant, folder, world, digest, progress, own_loss)
        source = data.load(config.data, config.seed) if dataset is None else dataset
        if teacher is None and variant.mode != "float":
            teacher = teacher_of(config, teacher_checkpoint)
        return training.open(source, init_checkpoint, teacher, net).run()


def _refuse_shared_graphs(train: TrainConfig, world: World) -> None:
    if records_graphs(train) and world.size > 1:
        raise ConfigError(
            f"train.compile_mode is {train.compile_mode!r} for {world.size} processes: CUDA graphs "
            "and the averaging of gradients between processes do not go together; set 'default' or "
            "train in one process."
        )


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
        own_loss: OwnLoss | None,
    ) -> None:
        self._config = config
        self._variant = variant
        self._folder = TrainFolder(folder)
        self._world = world
        self._progress = progress or (lambda event: None)
        self._digest = digest
        self._own_loss = own_loss
        self._started = self._ticked = self._saved = time.monotonic()
        self._log: Trajectory | None = None
        self._tensorboard: TensorboardWriter | None = None

    def open(
        self,
        source: data.DataSource,
        init: Path | None,
        teacher: nn.Module | None,
        own: nn.Module | None,
    ) -> _Training:
        """Make the network and, on resume, load its state."""
        config, world = self._config, self._world
        self._folder.path.mkdir(parents=True, exist_ok=True)
        resumes = self._resumes()
        self._data = source.to(world.device)
        taught = None if teacher is None else Teacher(teacher, config.train, world.device)
        self._session = open_session(
            config, self._variant, self._data, None if resumes else init, world, own
        )
        if self._session.quantized is not None and world.leads:
            for note in self._session.quantized.notes:
                _LOGGER.info("%s", note)
        if resumes:
            restore(self._session, config, self._folder.resume, self._digest)
            _LOGGER.info("resuming %s after epoch %d", self._folder.path, self._session.epoch)
        self._earlier = self._session.seconds
        every = config.train.eval_every
        self._evaluation = Evaluation(self._session, self._data, every, self._own_loss)
        if own is not None:
            self._evaluation.check(taught)
        stage = f"train/{self._variant.name}"
        self._stepper = Stepper(self._session, config, stage, self._data, taught, self._own_loss)
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
                own=self._own_loss,
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
        learned = self._learns()
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
            if count % tick == 0 and world.leads and self._may_tick():
                facts = {"step": session.step, "steps": schedule.steps}
                self._tick({**position, **facts, "train_loss": float(meter.mean())})
        meter.check(session.step - 1, lr)
        session.epoch += 1
        self._check_alike()
        world.share_norms(session.net)
        record = {"event": "epoch", **position, "step": session.step, "lr": lr}
        record["train_loss"] = float(world.mean(meter.mean()))
        record.update(self._evaluation.record(self._evaluation.epoch()))
        record.update(self._stepper.facts())
        self._log_record(record)
        due = self._keeps(froze=learned and not self._learns())
        if due:
            self._checkpoint()
        try:
            self._report(record)
        except BaseException:
            if not due and world.size == 1:
                self._checkpoint()
            raise

    def _may_tick(self) -> bool:
        """Tell whether progress may be reported within an epoch."""
        now = time.monotonic()
        if self._world.device.type != "cpu" and now - self._ticked < _GPU_TICK_SECONDS:
            return False
        self._ticked = now
        return True

    def _learns(self) -> bool:
        binding = self._session.binding
        return binding is not None and not binding.controller.done

    def _keeps(self, *, froze: bool) -> bool:
        """Tell whether this epoch's state is written. Collective."""
        session, every = self._session, self._config.train.checkpoint_every
        if session.epoch == session.schedule.epochs:
            return True
        if every is not None:
            return session.epoch % every == 0
        # Clocks of several processes differ: the first one decides.
        late = time.monotonic() - self._saved >= _CHECKPOINT_SECONDS
        return bool(self._world.gather(late or froze)[0])

    def _checkpoint(self) -> None:
        session = self._session
        self._saved = time.monotonic()
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
        average = self._session.average
        averaged = average.apply() if average else False
        after = self._evaluation.now()
        final = Final(None, after)
        # Where no width changed at the end, the running statistics have followed the network to
        # here, over more samples than a recalibration sees.
        if (froze or averaged) and self._stepper.recalibrate(averaged):
            final = Final(after, self._evaluation.now())
        record = {
            "event": "final",
            "step": self._session.step,
            **self._evaluation.record(final.after),
        }
        record["accuracy_before_recalibration"] = final.before.top1 if final.before else None
        if budget is not None:
            record["outcome"] = budget.model_dump()
        self._write({**record, **self._stepper.facts()})
        return final

    def _seconds(self) -> float:
        return self._earlier + time.monotonic() - self._started

    def _write(self, record: dict[str, Any]) -> None:
        self._log_record(record)
        self._report(record)

    def _log_record(self, record: dict[str, Any]) -> None:
        if self._log is not None:
            self._log.write(record)
        if self._tensorboard is not None:
            self._tensorboard.write(record)

    def _report(self, record: dict[str, Any]) -> None:
        if self._world.leads:
            self._progress(record)

    def _tick(self, facts: dict[str, Any]) -> None:
        if self._tensorboard is not None:
            lr = self._session.schedule.lr_at(self._session.step - 1)
            self._tensorboard.write({**facts, "lr": lr})
        self._progress({"event": "step", **facts})

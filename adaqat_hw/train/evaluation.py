"""When and how a training's network is measured on the test split."""

from __future__ import annotations

from contextlib import nullcontext

import torch

from adaqat_hw.data import DataSource
from adaqat_hw.train.accuracy import Measured, accuracy
from adaqat_hw.train.loss import Teacher
from adaqat_hw.train.own_loss import OwnLoss
from adaqat_hw.train.session import Session

_BATCH = 500
_CHECKED = 4  # samples that a loss of one's own is tried on


class Evaluation:
    """Measure the network of a session.

    Args:
        session: what is trained.
        dataset: with the test split.
        every: epochs between two measurements.
        own: a loss of one's own in place of cross-entropy, or None.
    """

    def __init__(
        self, session: Session, dataset: DataSource, every: int, own: OwnLoss | None
    ) -> None:
        self._session, self._data, self._every, self._own = session, dataset, every, own

    def check(self, teacher: Teacher | None) -> None:
        """Refuse a loss or a teacher of one's own that does not fit network and data.

        Raises:
            ConfigError: it does not.
        """
        x, y = next(iter(self._data.test_batches(_CHECKED, _CHECKED)))
        net = self._session.net
        training = net.training
        with torch.no_grad():
            outputs = net.eval()(x)
        net.train(training)
        if self._own is not None:
            self._own.check(outputs.detach().requires_grad_(), y)
        if teacher is not None:
            teacher.check(x, outputs, y)

    def now(self) -> Measured:
        """Measure the network as it is."""
        net, batches = self._session.net, self._data.test_batches(_BATCH)
        return accuracy(net, batches) if self._own is None else self._own.measure(net, batches)

    def epoch(self) -> Measured | None:
        """Measure the network, or its averaged weights, where the finished epoch is evaluated.

        Collective: each process has averaged its own statistics of batch norm.
        """
        session = self._session
        due = session.epoch % self._every == 0 or session.epoch == session.schedule.epochs
        with session.average.applied() if session.average else nullcontext():
            if session.average:
                session.world.share_norms(session.net)
            return self.now() if due else None

    def record(self, reached: Measured | None) -> dict[str, float | None]:
        """Return what a log record says of a measurement, None where there was none."""
        if reached is None:
            return {"accuracy" if self._own is None else "test_loss": None}
        every = {
            "accuracy": reached.top1,
            "accuracy_top5": reached.top5,
            "test_loss": reached.loss,
            "metric": reached.metric,
        }
        return {name: value for name, value in every.items() if value is not None}

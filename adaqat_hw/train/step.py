"""One optimizer step, with the AdaQAT probes in their place."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from adaqat_hw.errors import StageFailed
from adaqat_hw.quant import StepEvents, live_loss, probe_losses, recalibrate_batch_norm
from adaqat_hw.schema import RunConfig
from adaqat_hw.train.batches import ordered_batches
from adaqat_hw.train.session import Session

_LOGGED_PROBES_PER_EPOCH = 20
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d)


class Stepper:
    """Do training steps of a session.

    Args:
        session: what is trained.
        config: the run's configuration.
        stage: name for errors, such as ``"train/learned"``.
        train_x: training inputs (n, ...), read when batch norm is recalibrated.
    """

    def __init__(self, session: Session, config: RunConfig, stage: str, train_x: Tensor) -> None:
        self._session = session
        self._config = config
        self._stage = stage
        self._train_x = train_x
        self._random = any(isinstance(m, _DROPOUTS) and m.p > 0 for m in session.net.modules())
        probes = max(1, session.schedule.steps_per_epoch // config.adaqat.probe_every)
        self._log_every = max(1, probes // _LOGGED_PROBES_PER_EPOCH) * config.adaqat.probe_every

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the training loss (scalar) of ``logits`` (n, classes), ``labels`` (n,)."""
        smoothing = self._config.train.label_smoothing
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)

    def step(self, x: Tensor, y: Tensor) -> tuple[float, list[dict[str, Any]]]:
        """Do one step; return its loss and the width records to log.

        The probes reuse the training loss as the loss at the present widths, so they run between
        the backward pass and the optimizer's update: the weights are still the same. New widths
        take effect after the update.

        Raises:
            StageFailed: the loss is not finite.
        """
        session = self._session
        records = list(self._freeze_on_schedule())
        lr = session.schedule.lr_at(session.step)
        for group in session.optimizer.param_groups:
            group["lr"] = lr
        session.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(session.net(x), y)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise StageFailed(
                self._stage,
                f"the loss became {value!r} at step {session.step} with learning rate {lr:.4g}: "
                f"lower train.lr (now {self._config.train.lr!r})",
            )
        loss.backward()  # type: ignore[no-untyped-call]
        moved = self._move_widths(x, y, value)
        session.optimizer.step()
        session.step += 1
        if moved is not None:
            records.extend(self._after_move(*moved, lr))
        return value, records

    def freeze_rest(self) -> list[dict[str, Any]]:
        """Freeze what is still moving at the end of the schedule."""
        binding = self._session.binding
        if binding is None or binding.controller.done:
            return []
        return [self._freeze_all()]

    def recalibrate(self) -> bool:
        """Recompute batch-norm statistics at the present widths.

        Returns:
            Whether there was anything to do: not in full precision, without batch norm, or with
            ``train.recalibrate_batches`` = 0.
        """
        count = self._config.train.recalibrate_batches
        if not count or self._session.quantized is None or not self._has_norms():
            return False
        batch_size = self._config.train.batch_size
        recalibrate_batch_norm(self._session.net, ordered_batches(self._train_x, batch_size, count))
        return True

    def _has_norms(self) -> bool:
        kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
        return any(isinstance(m, kinds) for m in self._session.net.modules())

    def _move_widths(
        self, x: Tensor, y: Tensor, loss: float
    ) -> tuple[StepEvents, dict[str, float]] | None:
        session, every = self._session, self._config.adaqat.probe_every
        net, binding = session.quantized, session.binding
        if net is None or binding is None or binding.controller.done:
            return None
        if not session.schedule.widths_may_move(session.step) or session.step % every:
            return None
        # Dropout draws anew in every pass: then the probes need a loss drawn as they are.
        live = live_loss(net, self.loss, x, y) if self._random else loss
        probes = probe_losses(net, binding, self.loss, x, y)
        events = binding.controller.step(probes, live, scale=every, at_step=session.step)
        return events, {"live": live, **probes}

    def _after_move(
        self, events: StepEvents, losses: dict[str, float], lr: float
    ) -> Iterable[dict[str, Any]]:
        binding = self._session.binding
        assert binding is not None
        changed = bool(events.flips or events.freezes)
        if changed:
            binding.apply()
        if changed or events.step % self._log_every == 0:
            yield self._record(events, losses, lr)
        if events.freezes and binding.controller.done:
            self.recalibrate()

    def _freeze_on_schedule(self) -> Iterable[dict[str, Any]]:
        session = self._session
        binding = session.binding
        due = session.step == session.schedule.freeze_step
        if binding is not None and due and not binding.controller.done:
            yield self._freeze_all()
            self.recalibrate()

    def _freeze_all(self) -> dict[str, Any]:
        binding = self._session.binding
        assert binding is not None
        events = binding.controller.freeze_all(at_step=self._session.step)
        binding.apply()
        return self._record(events, {}, None)

    def _record(
        self, events: StepEvents, losses: dict[str, float], lr: float | None
    ) -> dict[str, Any]:
        record: dict[str, Any] = {"event": "widths", "step": events.step}
        record.update(width_facts(self._session))
        record.update(lr=lr, losses=losses)
        record.update({k: v for k, v in events.as_dict().items() if k != "step"})
        return record


def width_facts(session: Session) -> dict[str, Any]:
    """Return the learned widths (real-valued and integer) and their hardware loss, or nothing."""
    if session.binding is None:
        return {}
    controller = session.binding.controller
    bits = controller.bits
    return {"real": controller.real, "bits": bits, "hard_loss": controller.hard_cost(bits)}

"""Write the weights, plan and record of a finished training."""

from __future__ import annotations

from dataclasses import dataclass

from adaqat_hw import __version__
from adaqat_hw.run import TrainFolder
from adaqat_hw.schema import BitWidthPlan, RunConfig, TrainResult
from adaqat_hw.tools import package_versions
from adaqat_hw.train.accuracy import Measured
from adaqat_hw.train.checkpoint import save
from adaqat_hw.train.own_loss import OwnLoss
from adaqat_hw.train.session import Session
from adaqat_hw.train.variant import Variant


@dataclass(frozen=True)
class Final:
    """What was measured before (None: not) and after the last recalibration of batch norm."""

    before: Measured | None
    after: Measured


def write_result(
    session: Session,
    config: RunConfig,
    variant: Variant,
    folder: TrainFolder,
    *,
    digest: str,
    dataset: str,
    final: Final,
    seconds: float,
    own: OwnLoss | None = None,
) -> TrainResult:
    """Write ``checkpoint.pt``, ``plan.json`` (not in full precision) and ``result.json``."""
    save(folder.checkpoint, dict(session.net.state_dict()))
    plan = _plan(session, variant)
    if plan is not None:
        plan.write(folder.plan)
    result = TrainResult(
        network=session.spec.name,
        dataset=dataset,
        mode=variant.mode,
        config_digest=digest,
        seed=config.seed,
        epochs=session.epoch,
        steps=session.step,
        accuracy=final.after.top1,
        accuracy_before_recalibration=final.before.top1 if final.before else None,
        test_samples=final.after.samples,
        plan=folder.plan.name if plan is not None else None,
        plan_digest=plan.digest() if plan is not None else None,
        checkpoint=folder.checkpoint.name,
        log=folder.log.name,
        frozen_at=_frozen_at(session),
        seconds=seconds,
        tool_versions={**package_versions("torch", "brevitas", "numpy"), "adaqat-hw": __version__},
        accuracy_top5=final.after.top5,
        budget=session.binding.budget_result() if session.binding else None,
        freeze_choice=session.binding.freeze_choice if session.binding else None,
        device=session.world.device.type,
        processes=session.world.size,
        loss_name=own.name if own else None,
        test_loss=final.after.loss,
        metric_name=own.metric_name if own else None,
        metric=final.after.metric,
    )
    result.write(folder.result)
    return result


def _plan(session: Session, variant: Variant) -> BitWidthPlan | None:
    net = session.quantized
    if net is None:
        return None
    if variant.mode == "adaqat":
        return net.plan("adaqat")
    return net.plan("manual" if variant.plan is not None else "uniform")


def _frozen_at(session: Session) -> dict[str, int | None]:
    if session.binding is None:
        return {}
    controller, end = session.binding.controller, session.schedule.steps
    frozen = controller.frozen
    return {name: s if (s := frozen[name]) < end else None for name in controller.widths}

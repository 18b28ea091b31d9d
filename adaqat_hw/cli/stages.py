"""Run one stage of a run directory, or say that it is up to date. Composition only."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaqat_hw.cli.console import Progress
from adaqat_hw.errors import ConfigError, StageFailed
from adaqat_hw.run import (
    BuildFolder,
    RunDirectory,
    done_for,
    export_inputs,
    is_done,
    stage_lock,
    stamp,
)
from adaqat_hw.schema import (
    BitWidthPlan,
    Board,
    BuildConfig,
    BuildRequest,
    QonnxArtifact,
    RunConfig,
    TrainResult,
    UniformWidths,
    digest_of,
)

if TYPE_CHECKING:
    from adaqat_hw.compile import BuildTask


def variants(config: RunConfig) -> list[str]:
    """Return the run's variants: full precision, learned, and the uniform plans beside it."""
    uniform = (UniformWidths.parse(text).name for text in config.compare.uniform)
    return list(dict.fromkeys(("float", "learned", *uniform)))


def processes() -> int:
    """Return how many processes torchrun started for this command, 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Tell whether this process is the one of torchrun's that writes files and output."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def _leaders_lock(folder: Path) -> Iterator[None]:
    """Hold the stage's lock in the leading process; the others work under it."""
    if not leads():
        yield
        return
    with stage_lock(folder):
        yield


def ensure_train(
    config: RunConfig,
    run: RunDirectory,
    variant: str,
    progress: Progress,
    plan: BitWidthPlan | None = None,
) -> TrainResult:
    """Train one variant unless it is done for this configuration.

    Raises:
        StageFailed: the training has ended and its budget is not met; its files stay.
    """
    from adaqat_hw.train import Variant, training_inputs

    folder, spec = run.train(variant), Variant.named(variant, plan)
    init = _checkpoint(config.train.init, run, variant)
    teacher = _checkpoint(config.train.teacher, run, variant, teacher=True)
    inputs = training_inputs(config, spec, init=init, teacher=teacher)
    title = f"train {variant}"
    with _leaders_lock(folder.path):
        if is_done(folder.path, inputs):
            progress.skip(title)
            return _within_budget(TrainResult.read(folder.result), variant)
        _refuse_other(folder.path, digest_of(inputs))
        from adaqat_hw.train import train

        progress.start(title)
        result = train(
            config,
            spec,
            folder.path,
            progress=lambda event: _tell(event, progress),
            init_checkpoint=init,
            teacher_checkpoint=teacher,
        )
        files = [folder.result, folder.checkpoint, folder.spec, folder.log]
        if leads():
            plans = [result.plan] if result.plan else []
            stamp(folder.path, inputs, [*folder.relative(*files), *plans])
    if leads():
        run.note("train", variant=variant, accuracy=result.accuracy, seconds=result.seconds)
    progress.done(f"{result.reached} on {result.test_samples} test images")
    return _within_budget(result, variant)


def _within_budget(result: TrainResult, variant: str) -> TrainResult:
    if result.budget is not None and not result.budget.met:
        raise StageFailed(f"train/{variant}", result.budget.sentence.rstrip("."))
    return result


def _checkpoint(
    source: str | None, run: RunDirectory, variant: str, *, teacher: bool = False
) -> Path | None:
    """Return the checkpoint that ``train.init`` or ``train.teacher`` names.

    "float" is the run's own, ``zoo:NAME`` one of the zoo. The full-precision variant itself starts
    from scratch and has no teacher.
    """
    if source is None or variant == "float":
        return None
    if source.startswith("zoo:"):
        from adaqat_hw import zoo

        return zoo.checkpoint(source, teacher=teacher)
    return run.train("float").checkpoint if source == "float" else Path(source)


def _refuse_other(folder: Path, inputs: str) -> None:
    """Refuse to overwrite a finished training of another configuration."""
    finished = done_for(folder)
    if finished is not None and finished != inputs:
        raise ConfigError(
            f"{str(folder)!r} holds a finished training of another configuration (inputs "
            f"{finished}, now {inputs}); give the run another name or delete that folder."
        )


def _tell(event: dict[str, Any], progress: Progress) -> None:
    if event.get("event") == "freeze_choice":
        progress.say(str(event["sentence"]))
    else:
        progress.note(_train_text(event))


def _train_text(event: dict[str, Any]) -> str:
    parts = []
    if "epoch" in event:
        total = f"/{event['epochs']}" if "epochs" in event else ""
        parts.append(f"epoch {event['epoch']}{total}")
    for key, label in (("train_loss", "loss"), ("accuracy", "top-1")):
        if isinstance(event.get(key), float):
            parts.append(f"{label} {event[key]:.4f}")
    real = event.get("real")
    if isinstance(real, dict) and 0 < len(real) <= 4:
        parts.append(" ".join(f"{name} {value:.2f} bit" for name, value in real.items()))
    return "  ".join(parts) or str(event.get("event", ""))


def ensure_export(
    config: RunConfig, run: RunDirectory, variant: str, progress: Progress
) -> QonnxArtifact:
    """Export one trained variant unless that is done for its checkpoint and plan."""
    source, folder = run.train(variant), run.export(variant)
    result = TrainResult.read(source.result)
    inputs = export_inputs(result.plan_digest, source.path / result.checkpoint)
    title = f"export {variant}"
    with stage_lock(folder.path):
        if is_done(folder.path, inputs):
            progress.skip(title)
            return QonnxArtifact.read(folder.artifact)
        from adaqat_hw.export import export

        progress.start(title)
        artifact = export(
            config,
            source.path,
            folder.path,
            progress=lambda event: progress.note(str(event.get("text", ""))),
        )
        golden = [artifact.golden] if artifact.golden else []
        stamp(folder.path, inputs, [folder.artifact.name, artifact.file, *golden])
    run.note("export", variant=variant, sha256=artifact.sha256)
    progress.done(
        f"bits read back equal the plan; PyTorch against QONNX on {artifact.samples} images: "
        f"max error {_number(artifact.max_abs_error)}, "
        f"argmax agreement {_number(artifact.argmax_agreement)}"
    )
    return artifact


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3g}"


@dataclass(frozen=True)
class BuildJob:
    """A build that is folded and ready to run."""

    request: BuildRequest
    board: Board
    config: BuildConfig
    run: RunDirectory

    @property
    def folder(self) -> BuildFolder:
        """The build's folder."""
        return self.run.build(self.request)


def ensure_build(
    run: RunDirectory, variant: str, board: Board, config: BuildConfig, progress: Progress
) -> Path:
    """Build one exported variant for a board as ``config`` asks; return the build's folder."""
    return run_build(fold_export(run, variant, board, config, progress), progress)


def fold_export(
    run: RunDirectory, variant: str, board: Board, config: BuildConfig, progress: Progress
) -> BuildJob:
    """Return the build of an exported variant, folded as ``config`` asks."""
    from adaqat_hw.compile import request_from_artifact

    exported = run.export(variant)
    artifact = QonnxArtifact.read(exported.artifact)
    request = request_from_artifact(exported.path, artifact, variant, board, config)
    return fold(request, board, config, run, progress)


def fold(
    request: BuildRequest,
    board: Board,
    config: BuildConfig,
    run: RunDirectory,
    progress: Progress,
) -> BuildJob:
    """Return the build of a request, folded as it asks."""
    from adaqat_hw.compile import fold_request

    name = _label(request)

    def note(text: str) -> None:
        progress.start(f"fold {name}")
        progress.done(text)

    def run_tasks(folder: BuildFolder, tasks: Iterable[BuildTask]) -> None:
        _run_tasks(folder, tasks, name, progress)

    folded = fold_request(request, board, config, run, run_tasks, note)
    return BuildJob(folded, board, config, run)


def run_build(job: BuildJob, progress: Progress) -> Path:
    """Run the tasks of a build, each unless up to date; return the build's folder."""
    from adaqat_hw.compile import build_tasks

    request, folder = job.request, job.folder
    tasks = build_tasks(request, job.board, job.config, folder)
    _run_tasks(folder, tasks, _label(request), progress)
    job.run.note("build", variant=request.variant, folder=folder.path.name)
    return folder.path


def _label(request: BuildRequest) -> str:
    """Return what the progress lines call a build: its variant, or the file's name."""
    from adaqat_hw.compile import FOREIGN

    return request.network if request.variant == FOREIGN else request.variant


def _run_tasks(
    folder: BuildFolder, tasks: Iterable[BuildTask], name: str, progress: Progress
) -> None:
    with stage_lock(folder.path):
        for task in tasks:
            title = f"{task.name} {name}"
            if task.is_done():
                progress.skip(title)
                continue
            progress.start(title)
            progress.done(task.run(progress.note))

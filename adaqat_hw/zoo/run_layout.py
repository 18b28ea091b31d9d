"""Lay an entry of the zoo out as a run, so that every later stage starts from it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adaqat_hw.errors import ConfigError
from adaqat_hw.run import RunDirectory, done_for, export_inputs, stage_lock, stamp, stamp_as
from adaqat_hw.zoo.entry import Entry
from adaqat_hw.zoo.files import check_files


def lay_out(entry: Entry, runs: Path) -> RunDirectory:
    """Write the run directory ``runs/<name>``: trained and exported; return it.

    One that is there already and was made from the same entry is left as it is. It is written
    beside its place and renamed, so that a failure leaves nothing.

    Raises:
        ConfigError: there is another run of that name, ``runs`` cannot be a folder, or a file of
            the entry is gone or changed.
    """
    run = RunDirectory(runs / entry.name)
    if _is_there(entry, run):
        return run
    check_files(entry.folder, entry.record)
    with _scratch(runs) as scratch:
        staged = RunDirectory(scratch / entry.name)
        _fill(entry, staged)
        try:
            staged.root.rename(run.root)
        except OSError:
            # Another process was faster.
            if not _is_there(entry, run):
                raise
    return run


def _is_there(entry: Entry, run: RunDirectory) -> bool:
    trained = run.train(entry.record.variant)
    if done_for(trained.path) == entry.result.config_digest:
        return True
    if os.path.lexists(run.root):
        raise ConfigError(
            f"{str(run.root)!r} exists and is not laid out from the zoo's {entry.name!r}; give "
            "another folder with --to, or delete it."
        )
    return False


@contextmanager
def _scratch(runs: Path) -> Iterator[Path]:
    """Make a folder in ``runs`` that is gone afterwards, after a failure ``runs`` too if new."""
    above = (runs, *runs.absolute().parents)
    there = next(path for path in above if os.path.lexists(path))
    if not there.is_dir():
        raise ConfigError(
            f"--to {str(runs)!r} cannot be a folder, for {str(there)!r} is no folder; give another "
            "one."
        )
    made = above[: above.index(there)]
    try:
        runs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=runs, prefix=".new-") as scratch:
            yield Path(scratch)
    except BaseException:
        for path in made:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        raise


def _fill(entry: Entry, run: RunDirectory) -> None:
    variant, result, source = entry.record.variant, entry.result, entry.folder
    trained = run.train(variant)
    with stage_lock(trained.path):
        _export(entry, run)
        entry.config.write(run.config)
        files = [trained.result, trained.spec, trained.checkpoint, trained.log]
        files += [trained.plan] if entry.plan is not None else []
        for file in files:
            shutil.copyfile(source.path / file.name, file)
        # The digest that the training had: the data's path and its init are not known here.
        stamp_as(trained.path, result.config_digest, trained.relative(*files))
    run.note("zoo", name=entry.name, variant=variant)


def _export(entry: Entry, run: RunDirectory) -> None:
    if entry.artifact is None:
        return
    exported, source = run.export(entry.record.variant), entry.folder
    with stage_lock(exported.path):
        files = [exported.artifact, exported.model]
        files += [exported.golden] if entry.artifact.golden is not None else []
        for file in files:
            shutil.copyfile(source.path / file.name, file)
        inputs = export_inputs(entry.result.plan_digest, source.checkpoint)
        stamp(exported.path, inputs, exported.relative(*files))

"""Lay an entry of the zoo out as a run, so that every later stage starts from it."""

from __future__ import annotations

import shutil
from pathlib import Path

from adaqat_hw.errors import ConfigError
from adaqat_hw.run import RunDirectory, done_for, export_inputs, stage_lock, stamp, stamp_as
from adaqat_hw.zoo.entry import Entry


def lay_out(entry: Entry, runs: Path) -> RunDirectory:
    """Write the run directory ``runs/<name>``: trained and exported; return it.

    One that is there already and was made from the same entry is left as it is.

    Raises:
        ConfigError: there is another run of that name.
    """
    run = RunDirectory(runs / entry.name)
    variant, result, source = entry.record.variant, entry.result, entry.folder
    trained = run.train(variant)
    if done_for(trained.path) == result.config_digest:
        return run
    if run.root.exists():
        raise ConfigError(
            f"{str(run.root)!r} exists and is not laid out from the zoo's {entry.name!r}; give "
            "another folder with --to, or delete it."
        )
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
    return run


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

"""Make an entry of the zoo from a variant of a finished run."""

from __future__ import annotations

import io
import json
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np

from adaqat_hw import boards
from adaqat_hw.errors import ConfigError
from adaqat_hw.report import BuildReport, PlanReport, collect
from adaqat_hw.report.builds import cycles_per_frame, describe
from adaqat_hw.resources import zoo_dir
from adaqat_hw.run import RunDirectory, ZooFolder, ZooRoot, done_for, export_inputs, is_done
from adaqat_hw.schema import (
    GOLDEN_FRAMES,
    QonnxArtifact,
    RunConfig,
    TrainResult,
    ZooBill,
    ZooEntry,
    sha256_file,
    write_atomic,
)
from adaqat_hw.zoo.entry import PREFIX, Entry, list_entries, open_entry
from adaqat_hw.zoo.files import digests
from adaqat_hw.zoo.table import readme

MAX_FILE_BYTES = 2_000_000
_MAX_LOG_BYTES = 100_000
_FLOAT = "float"
# Frames of other data sets are not ours to hand on.
_BUNDLED_DATA = ("digits",)


def add(run: Path, variant: str, name: str, root: Path | None = None) -> Entry:
    """Make the entry ``name`` from a variant of a run, and write the zoo's table anew.

    The variant must be trained and, unless it is in full precision, exported as it stands. Its
    bill is that of the build which a report of the run uses. Paths of the machine that it was
    trained on are left out.

    Args:
        run: the run directory.
        variant: of the run, by its folder's name.
        name: of the entry, as a run may be called.
        root: the zoo's folder, None for the shipped one.

    Raises:
        ConfigError: the name is taken or no name, the run is not finished, another entry is
            damaged, or a file is larger than ``MAX_FILE_BYTES``.
    """
    home = zoo_dir() if root is None else root
    directory = RunDirectory(run)
    _check_home(home)
    _check_name(name, home)
    _check_finished(directory, variant)
    plan = collect(run).plan(variant)
    assert plan is not None  # its training is finished
    # Whatever is wrong with the others is said before anything is written.
    others = list_entries(home) if home.is_dir() else []
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".new-") as scratch:
        folder = ZooFolder(Path(scratch) / name)
        folder.path.mkdir()
        _fill(folder, directory, plan, name)
        _check_sizes(folder, name)
        folder.path.rename(home / name)
    try:
        entry = open_entry(name, home)
        listed = sorted([*others, entry], key=lambda x: x.name)
        write_atomic(ZooRoot(home).readme, readme(listed))
    except BaseException:
        shutil.rmtree(home / name)
        raise
    return entry


def _check_home(home: Path) -> None:
    """Refuse a zoo that is a file or lies below one; one that is not there is made."""
    there = next(path for path in (home, *home.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ConfigError(
            f"The zoo {str(home)!r} cannot be a folder, for {str(there)!r} is a file; give another "
            "folder with --zoo."
        )


def _check_name(name: str, home: Path) -> None:
    if name in ("add", "get") or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise ConfigError(
            f"--name {name!r} must be 1 to 64 letters, digits, '.', '_' or '-', start with a "
            "letter or digit, and be neither 'add' nor 'get'."
        )
    if (home / name).exists():
        raise ConfigError(
            f"The zoo has a network {name!r} already; give another name, or delete "
            f"{str(home / name)!r} first."
        )


def _check_finished(run: RunDirectory, variant: str) -> None:
    trained, exported = run.train(variant), run.export(variant)
    if done_for(trained.path) is None:
        raise ConfigError(
            f"The training {variant!r} of {str(run.root)!r} is not finished or was changed since; "
            "finish it with 'adaqat-hw train' first."
        )
    if variant == _FLOAT:
        return
    result = TrainResult.read(trained.result)
    weights = trained.path / result.checkpoint
    if not is_done(exported.path, export_inputs(result.plan_digest, weights)):
        raise ConfigError(
            f"Variant {variant!r} of {str(run.root)!r} is not exported as it is trained now; run "
            f"'adaqat-hw export {run.root} --variant {variant}' first."
        )


def _check_sizes(folder: ZooFolder, name: str) -> None:
    for path in sorted(folder.path.iterdir()):
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ConfigError(
                f"{path.name!r} of {name!r} has {size:,} bytes; a file of the zoo has at most "
                f"{MAX_FILE_BYTES:,}, so keep this network elsewhere."
            )


def _fill(folder: ZooFolder, run: RunDirectory, plan: PlanReport, name: str) -> None:
    trained = run.train(plan.variant)
    shutil.copyfile(trained.result, folder.result)
    shutil.copyfile(trained.spec, folder.spec)
    shutil.copyfile(trained.checkpoint, folder.checkpoint)
    trimmed = _write_log(trained.log, folder.log)
    config = _without_paths(RunConfig.read(run.config), name)
    config.write(folder.config)
    if plan.variant != _FLOAT:
        shutil.copyfile(trained.plan, folder.plan)
        _copy_export(folder, run, plan.variant, config)
    bill = _bill(folder, run, plan.build)
    record = ZooEntry(
        name=name,
        variant=plan.variant,
        bitops=plan.bitops.total if plan.bitops is not None else None,
        bill=bill,
        trimmed=trimmed,
        files=digests(folder),
    )
    record.write(folder.entry)


def _without_paths(config: RunConfig, name: str) -> RunConfig:
    """Return the configuration under its new name, without what lies on one machine only."""
    train = config.train.model_copy(
        update={key: _reference(getattr(config.train, key)) for key in ("init", "teacher")}
    )
    build = config.build
    if build is not None and build.board not in boards.names():
        build = None
    data = config.data.model_copy(update={"path": None})
    parts = {"name": name, "data": data, "train": train, "build": build}
    return config.model_copy(update=parts)


def _reference(source: str | None) -> str | None:
    """Return where weights came from: of a file, the name alone."""
    if source is None or source == _FLOAT or source.startswith(PREFIX):
        return source
    return Path(source).name


def _write_log(source: Path, target: Path) -> bool:
    """Copy a log; a large one without the records in which no width changed. Return if so."""
    if source.stat().st_size <= _MAX_LOG_BYTES:
        shutil.copyfile(source, target)
        return False
    lines = source.read_text(encoding="utf-8").splitlines()
    write_atomic(target, "".join(f"{line}\n" for line in lines if _tells(json.loads(line))))
    return True


def _tells(record: dict[str, object]) -> bool:
    return record.get("event") != "widths" or bool(record.get("flips") or record.get("freezes"))


def _copy_export(folder: ZooFolder, run: RunDirectory, variant: str, config: RunConfig) -> None:
    exported = run.export(variant)
    artifact = QonnxArtifact.read(exported.artifact)
    shutil.copyfile(exported.path / artifact.file, folder.model)
    golden, digest = None, None
    if artifact.golden is not None and config.data.name in _BUNDLED_DATA:
        _write_golden(exported.path / artifact.golden, folder.golden)
        golden, digest = folder.golden.name, sha256_file(folder.golden)
    files = {"file": folder.model.name, "golden": golden, "golden_sha256": digest}
    artifact.model_copy(update=files).write(folder.artifact)


def _write_golden(source: Path, target: Path) -> None:
    with np.load(source) as arrays:
        kept = {key: arrays[key][:GOLDEN_FRAMES] for key in arrays.files}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **kept)
    target.write_bytes(buffer.getvalue())


def _bill(folder: ZooFolder, run: RunDirectory, build: BuildReport | None) -> ZooBill | None:
    """Copy a build's resource reports; return what they are of, None where there are none."""
    if build is None or build.request is None or not build.resources:
        return None
    if build.result is None or build.result.status != "ok":
        return None
    for source in build.resources:
        name = folder.resources(source)
        shutil.copyfile(run.root / build.folder / name.name, name)
    return ZooBill(
        board=build.request.board,
        clock_ns=build.request.clock_ns,
        setting=describe(build),
        cycles_per_frame=cycles_per_frame(build),
    )

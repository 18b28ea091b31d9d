"""Train one variant of a run under several settings and seeds, and compare the accuracies.

Every case is the configuration with some keys changed; all cases of a seed share data order and,
where ``train.init`` or ``train.teacher`` is ``"float"``, one float training, that of the
configuration without the cases' keys. Paths and ``zoo:NAME`` are taken as the command line takes
them. Finished trainings are kept in the output folder, so a stopped comparison goes on where it
was; one of other settings is trained again.

    python benchmarks/compare_settings.py configs/cifar10-resnet8.toml --variant w2a2 \\
        --seeds 0 1 --case "absmax: quant.weight_range=absmax" --case "sigma:"

Prints a Markdown table: accuracy of every seed, mean, and the mean difference from the first case
with its standard error over seeds.
"""

from __future__ import annotations

import argparse
import math
import re
import shutil
import statistics
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from adaqat_hw import zoo
from adaqat_hw.cli.arguments import variant_name
from adaqat_hw.errors import AdaqatHwError, ConfigError
from adaqat_hw.run import TrainFolder
from adaqat_hw.schema import RunConfig, TrainResult, load_config
from adaqat_hw.train import Variant, train, training_digest


def main(arguments: list[str] | None = None) -> int:
    """Train what is missing, print the table, and return the exit status."""
    args = _parser().parse_args(arguments)
    try:
        _compare(args)
    except AdaqatHwError as exc:
        print(exc, file=sys.stderr)
        return exc.exit_code
    return 0


def _compare(args: argparse.Namespace) -> None:
    check_common(args.seeds, args.set, args.threads, args.out)
    variant = variant_of(args.variant)
    cases = _cases(args.case)
    shared = {seed: load_config(args.config, (*args.set, f"seed={seed}")) for seed in args.seeds}
    configs = {
        (name, seed): load_config(args.config, (*args.set, *sets, f"seed={seed}"))
        for name, sets in cases.items()
        for seed in args.seeds
    }
    for (name, seed), config in configs.items():
        _check_start(name, config, shared[seed], variant)
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", module="brevitas")
    accuracies: dict[str, list[float]] = {name: [] for name in cases}
    for (name, seed), config in configs.items():
        started = time.monotonic()
        folder = f"{variant.name}-{name}"
        result = train_once(config, variant, args.out, folder, shared=shared[seed])
        assert result.accuracy is not None
        accuracies[name].append(result.accuracy)
        seconds = time.monotonic() - started
        print(
            f"{name}, seed {seed}: {100 * result.accuracy:.2f} % ({seconds:.0f} s)",
            file=sys.stderr,
            flush=True,
        )
    _table(accuracies, args.seeds)


def check_common(seeds: Sequence[int], sets: Sequence[str], threads: int, out: Path) -> None:
    """Refuse seeds, ``--set``, threads and output folders that no study can work with.

    Raises:
        ConfigError: one of them.
    """
    for seed in seeds:
        if seed < 0:
            raise ConfigError(f"--seeds: {seed} must be at least 0; give another seed.")
        if seeds.count(seed) > 1:
            raise ConfigError(
                f"--seeds: {seed} is given {seeds.count(seed)} times and would count as often; "
                "give every seed once."
            )
    _refuse_seed("--set", sets)
    if threads < 1:
        raise ConfigError(f"--threads {threads} must be at least 1; give a number of threads.")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {str(out)!r} is a file; give a folder.")


def variant_of(text: str) -> Variant:
    """Return the variant of a name such as ``float``, ``learned`` or ``w2a2``, or of ``2/2``.

    Raises:
        ConfigError: it is none of these.
    """
    if text.startswith("plan-"):
        raise ConfigError(
            f"Variant {text!r} is a plan of one's own, and this script has no plan; give float, "
            "learned, or W/A such as 4/4."
        )
    return Variant.named(variant_name(text))


def train_once(
    config: RunConfig, variant: Variant, out: Path, folder: str, *, shared: RunConfig
) -> TrainResult:
    """Train a variant unless ``out`` has this very training, finished.

    Before it, where it starts from the float network or has it as its teacher, that one is
    trained in the same way, by the configuration ``shared``.

    Raises:
        AdaqatHwError: as of `train`, or ``train.init`` or ``train.teacher`` names no checkpoint.
    """
    base = out / f"seed{config.seed}"
    init, teacher = _starts(config, variant, base)
    if TrainFolder(base / "float").checkpoint in (init, teacher):
        _finished(shared, Variant.named("float"), base / "float", None, None)
    return _finished(config, variant, base / folder, init, teacher)


def _finished(
    config: RunConfig, variant: Variant, path: Path, init: Path | None, teacher: Path | None
) -> TrainResult:
    folder = TrainFolder(path)
    if folder.result.exists():
        digest = training_digest(config, variant, init=init, teacher=teacher)
        try:
            result = TrainResult.read(folder.result)
        except ConfigError:  # damaged or of another release
            result = None
        if result is not None and result.config_digest == digest and folder.checkpoint.exists():
            return result
        shutil.rmtree(path)
    return train(config, variant, path, init_checkpoint=init, teacher_checkpoint=teacher)


def _starts(config: RunConfig, variant: Variant, base: Path) -> tuple[Path | None, Path | None]:
    """Return the checkpoints that a training starts from and is distilled from."""
    if variant.mode == "float":
        return None, None
    own = TrainFolder(base / "float").checkpoint
    init, teacher = config.train.init, config.train.teacher
    return _checkpoint(init, own), _checkpoint(teacher, own, teacher=True)


def _checkpoint(source: str | None, own: Path, *, teacher: bool = False) -> Path | None:
    if source is None:
        return None
    if source.startswith("zoo:"):
        return zoo.checkpoint(source, teacher=teacher)
    return own if source == "float" else Path(source)


def _check_start(name: str, config: RunConfig, shared: RunConfig, variant: Variant) -> None:
    """Refuse checkpoints that do not exist and a network that the shared float one is not."""
    own = Path("float")
    init, teacher = _starts(config, variant, own)
    float_one = TrainFolder(own / "float").checkpoint
    if float_one in (init, teacher) and config.network != shared.network:
        raise ConfigError(
            f"Case {name!r} changes the network, and all cases share one float training; set the "
            "network by --set, or train.init and train.teacher to a checkpoint of that network."
        )
    training_digest(
        config,
        variant,
        init=None if init == float_one else init,
        teacher=None if teacher == float_one else teacher,
    )


def _cases(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    cases: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, _, keys = text.partition(":")
        if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
            raise ConfigError(
                f"--case {text!r}: the name {name!r} must be one or more letters, digits, '.', "
                "'_' or '-', with a colon and the keys behind it."
            )
        if name in cases:
            raise ConfigError(f"--case {text!r}: there are two cases {name!r}; rename one of them.")
        cases[name] = tuple(key.strip() for key in keys.split(";") if key.strip())
        _refuse_seed(f"--case {name!r}", cases[name])
    return cases


def _refuse_seed(option: str, sets: Sequence[str]) -> None:
    for text in sets:
        if text.partition("=")[0].strip() == "seed":
            raise ConfigError(f"{option}: {text!r} sets the seed; give seeds by --seeds.")


def _table(accuracies: dict[str, list[float]], seeds: list[int]) -> None:
    first = next(iter(accuracies.values()))
    print(f"| case | {' | '.join(f'seed {s}' for s in seeds)} | mean | against the first case |")
    print("|---|" + "---|" * (len(seeds) + 2))
    for name, values in accuracies.items():
        cells = [f"{100 * value:.2f}" for value in values]
        gaps = [100 * (a - b) for a, b in zip(values, first, strict=True)]
        error = statistics.stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else None
        gap = f"{statistics.mean(gaps):+.2f}" + ("" if error is None else f" +- {error:.2f}")
        print(f"| {name} | {' | '.join(cells)} | {100 * statistics.mean(values):.2f} | {gap} |")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--variant", default="w2a2")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--case", action="append", required=True, metavar="NAME:KEY=VALUE;...")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

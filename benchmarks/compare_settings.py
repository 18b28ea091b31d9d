"""Train one variant of a run under several settings and seeds, and compare the accuracies.

Every case is the configuration with some keys changed; all cases of a seed share data order and,
where ``train.init`` or ``train.teacher`` is ``"float"``, one float training. Finished trainings
are kept in the output folder, so a stopped comparison goes on where it was.

    python benchmarks/compare_settings.py configs/cifar10-resnet8.toml --variant w2a2 \\
        --seeds 0 1 --case "absmax: quant.weight_range=absmax" --case "sigma:"

Prints a Markdown table: accuracy of every seed, mean, and the mean difference from the first case
with its standard error over seeds.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
import warnings
from pathlib import Path

import torch

from adaqat_hw.schema import RunConfig, TrainResult, load_config
from adaqat_hw.train import Variant, train


def main(arguments: list[str] | None = None) -> int:
    """Train what is missing, print the table, and return the exit status."""
    args = _parser().parse_args(arguments)
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", module="brevitas")
    accuracies: dict[str, list[float]] = {}
    for case in args.case:
        name, _, keys = case.partition(":")
        sets = tuple(key.strip() for key in keys.split(";") if key.strip())
        accuracies[name] = []
        for seed in args.seeds:
            config = load_config(args.config, (*args.set, *sets, f"seed={seed}"))
            started = time.monotonic()
            result = train_once(config, args.variant, args.out, f"{args.variant}-{name}")
            assert result.accuracy is not None
            accuracies[name].append(result.accuracy)
            seconds = time.monotonic() - started
            print(
                f"{name}, seed {seed}: {100 * result.accuracy:.2f} % ({seconds:.0f} s)",
                file=sys.stderr,
                flush=True,
            )
    _table(accuracies, args.seeds)
    return 0


def train_once(config: RunConfig, variant: str, out: Path, folder: str) -> TrainResult:
    """Train a variant, after the float one that it needs, unless it lies in ``out`` already."""
    base = out / f"seed{config.seed}"
    init, teacher = config.train.init, config.train.teacher
    checkpoint = base / "float" / "checkpoint.pt"
    if variant == "float":
        init = teacher = None
    if "float" in (init, teacher) and not checkpoint.exists():
        train(config, Variant.named("float"), base / "float")
    target = base / folder
    if (target / "result.json").exists():
        return TrainResult.read(target / "result.json")
    return train(
        config,
        Variant.named(variant),
        target,
        init_checkpoint=checkpoint if init == "float" else None,
        teacher_checkpoint=checkpoint if teacher == "float" else None,
    )


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

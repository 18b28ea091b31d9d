"""Which measurement before a training ranks plans by their accuracy after it?

For every seed: a float training, a short quantized stretch from it at uniform widths, six random
plans of the same BitOPs as a uniform one. Each plan is scored on fixed training batches, then
trained from the float network and measured on the test split. A score is the cross-entropy or the
divergence (KL) from the float teacher's or from the present network's outputs; with the clips that
belong to each width or with those of the stretch; of the whole plan, or as the sum over its widths
changed one by one; after the stretch or before it, with the float network's weights.

    python benchmarks/plan_scores.py configs/cifar10-resnet8.toml --seeds 0 1 2 --out runs/scores

Finished trainings are kept in the output folder. Writes ``scores.json`` there and prints, for each
score, the rank correlation (Spearman) of lower scores with higher accuracies over a seed's plans:
every seed's, the mean and its standard error.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compare_settings import check_common, train_once, variant_of
from torch import Tensor, nn
from torch.nn import functional as F

from adaqat_hw import data, nets
from adaqat_hw.errors import AdaqatHwError, ConfigError
from adaqat_hw.quant import Binding, QuantizedNetwork, bind, calibrate_clips, probing, quantize
from adaqat_hw.schema import BitWidthPlan, RunConfig, load_config
from adaqat_hw.train import Variant, load_into, load_weights, train

_TOLERANCE = 0.01  # of the uniform plan's BitOPs
_BATCHES, _SAMPLES = 8, 128
_DRAWS = 200_000  # of random plans, before they are given up
Bits = dict[str, int]


def main(arguments: list[str] | None = None) -> int:
    """Train and measure what is missing, print the table, and return the exit status."""
    args = _parser().parse_args(arguments)
    try:
        _study(args)
    except AdaqatHwError as exc:
        print(exc, file=sys.stderr)
        return exc.exit_code
    return 0


def _study(args: argparse.Namespace) -> None:
    check_common(args.seeds, args.set, args.threads, args.out)
    _check_widths(args)
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", module="brevitas")
    seeds = [_Seed(args, seed) for seed in args.seeds]
    rows = [seed.measured() for seed in seeds]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "scores.json").write_text(json.dumps(rows, indent=1) + "\n")
    _table(rows)


def _check_widths(args: argparse.Namespace) -> None:
    for option in ("uniform", "stretch"):
        text = getattr(args, option)
        variant = variant_of(text)
        if variant.mode != "uniform":
            raise ConfigError(f"--{option} {text!r} must be uniform widths W/A such as 2/2.")
        setattr(args, option, variant)
    if args.plans < 2:
        raise ConfigError(
            f"--plans {args.plans} must be at least 2: a rank correlation needs several plans."
        )
    if min(args.widths) < 1 or max(args.widths) < 2:
        raise ConfigError(
            f"--widths {_listed(args.widths)} must be at least 1, and one of them at least 2, "
            "which weights need."
        )


class _Seed:
    """One seed's configurations and plans; made before anything is trained."""

    def __init__(self, args: argparse.Namespace, seed: int) -> None:
        self._args, self._seed = args, seed
        sets = (*args.set, f"seed={seed}")
        self._config = load_config(args.config, sets)
        for key in ("init", "teacher"):
            source = getattr(self._config.train, key)
            if source not in (None, "float"):
                raise ConfigError(
                    f"train.{key} is {source!r}, and plans are trained from the seed's own float "
                    f"network here; give --set train.{key}=float."
                )
        self._stretch = load_config(args.config, (*sets, "train.epochs=1", "train.init=float"))
        size = data.load(self._config.data, seed).train_size
        if size < _SAMPLES:
            raise ConfigError(
                f"The data set has {size} training samples, and plans are scored on batches of "
                f"{_SAMPLES}; raise data.limit_train or take a larger data set."
            )
        binding = _bound(_quantized(self._config, None, ""), self._config)
        draw = random.Random(seed)  # noqa: S311
        even = _uniform(binding, args.uniform)
        self._plans = random_plans(binding, even, args.plans, draw, args.widths)

    def measured(self) -> dict[str, Any]:
        """Train and score."""
        args, seed, config, plans = self._args, self._seed, self._config, self._plans
        train_once(config, Variant.named("float"), args.out, "float", shared=config)
        train_once(self._stretch, args.stretch, args.out, "stretch", shared=config)
        base = args.out / f"seed{seed}"
        network = _Measured(config, base, args.stretch, "stretch")
        scores = {f"{name}, after the stretch": x for name, x in network.scores(plans).items()}
        unstretched = _Measured(config, base, args.stretch, "float")
        scores |= {f"{name}, as float": x for name, x in unstretched.scores(plans).items()}
        accuracies = []
        for index, bits in enumerate(plans):
            accuracy = _train_plan(config, network.plan(bits), base, f"plan{index}")
            accuracies.append(accuracy)
            print(f"seed {seed}, plan {index}: {100 * accuracy:.2f} %", file=sys.stderr, flush=True)
        return {"seed": seed, "plans": plans, "accuracies": accuracies, "scores": scores}


def _train_plan(config: RunConfig, plan: BitWidthPlan, base: Path, name: str) -> float:
    checkpoint = base / "float" / "checkpoint.pt"
    result = train(
        config,
        Variant.named(name, plan),
        base / name,
        init_checkpoint=checkpoint,
        teacher_checkpoint=checkpoint,
    )
    assert result.accuracy is not None
    return result.accuracy


def _quantized(config: RunConfig, path: Path | None, start: str) -> QuantizedNetwork:
    """Return the quantized network with a checkpoint's weights, or with initial ones."""
    net: nn.Module = nets.build(config.network)
    if path is not None and start == "float":
        load_into(net, load_weights(path), path)
    info = nets.info(config.network)
    about: dict[str, Any] = {"name": info.name, "num_classes": info.num_classes}
    twin = quantize(net, config.quant, input_shape=info.input_shape, **about)
    if path is not None and start != "float":
        load_into(twin, load_weights(path), path)
    return twin.train()


def _bound(net: QuantizedNetwork, config: RunConfig) -> Binding:
    free = {"budget": type(config.adaqat.budget)(), "rule": "gradient"}
    return bind(net, config.adaqat.model_copy(update=free))


def _uniform(binding: Binding, variant: Variant) -> Bits:
    widths = variant.bits
    assert widths is not None
    return {n: widths.weights if n.startswith("weights") else widths.acts for n in binding.groups}


def random_plans(
    binding: Binding, even: Bits, count: int, draw: random.Random, widths: Sequence[int]
) -> list[Bits]:
    """Return the plan ``even`` and ``count`` random ones that cost the same within 1 %.

    Raises:
        ConfigError: too few were found.
    """
    cost = binding.controller.cost
    wanted = cost.value(even)
    plans = [even]
    for _ in range(_DRAWS):
        if len(plans) > count:
            return plans
        bits = {
            name: draw.choice([b for b in widths if b > 1 or name.startswith("acts")])
            for name in even
        }
        if bits not in plans and abs(cost.value(bits) / wanted - 1) <= _TOLERANCE:
            plans.append(bits)
    if len(plans) > count:
        return plans
    raise ConfigError(
        f"Of {_DRAWS} random plans of the widths {_listed(widths)}, {len(plans) - 1} differ and "
        f"have the BitOPs of the uniform one within {_TOLERANCE:.0%}, and {count} are needed; give "
        "other --widths or --uniform, fewer --plans, or adaqat.granularity = 'layer'."
    )


def _listed(widths: Sequence[int]) -> str:
    return " ".join(str(width) for width in widths)


class _Measured:
    """The network after the stretch or before it, and the batches it is measured on."""

    def __init__(self, config: RunConfig, base: Path, stretch: Variant, start: str) -> None:
        dataset = data.load(config.data, config.seed)
        self._net = _quantized(config, base / start / "checkpoint.pt", start)
        self._binding = _bound(self._net, config)
        self._live = _uniform(self._binding, stretch)
        self._teacher = nets.build(config.network)
        load_into(self._teacher, load_weights(base / "float" / "checkpoint.pt"), base)
        self._teacher.eval()
        generator = torch.Generator().manual_seed(config.seed)
        count = min(_BATCHES, dataset.train_size // _SAMPLES)
        self._batches = list(dataset.train_batches(_SAMPLES, count, generator))
        self._binding.apply_bits(self._live)
        calibrate_clips(self._net, self._batches[0][0])

    def plan(self, bits: Bits) -> BitWidthPlan:
        """Return the plan of integer widths by name."""
        with self._binding.at(bits):
            return self._net.plan("manual")

    def scores(self, plans: Sequence[Bits]) -> dict[str, list[float]]:
        """Return each score of all plans; lower is better."""
        table: dict[str, list[float]] = {}
        singles = {
            (name, bits[name]): {**self._live, name: bits[name]} for bits in plans for name in bits
        }
        for clips, context in (("fitted clips", _as_is), ("stale clips", _stale)):
            with context(self._net):
                live = self._losses(self._live)
                alone = {key: self._losses(bits) for key, bits in singles.items()}
                whole = [self._losses(bits) for bits in plans]
            for loss in live:
                table[f"{loss}, {clips}, whole plan"] = [x[loss] for x in whole]
                table[f"{loss}, {clips}, sum over widths"] = [
                    sum(alone[name, b][loss] - live[loss] for name, b in bits.items())
                    for bits in plans
                ]
        return table

    def _losses(self, bits: Mapping[str, int]) -> dict[str, float]:
        sums = {"CE": 0.0, "KL to the teacher": 0.0, "KL to the present network": 0.0}
        with probing(self._net):
            for x, y in self._batches:
                with self._binding.at(self._live):
                    present = self._net(x)
                with self._binding.at(bits):
                    logits = self._net(x)
                sums["CE"] += float(F.cross_entropy(logits, y))
                sums["KL to the teacher"] += _divergence(logits, self._teacher(x))
                sums["KL to the present network"] += _divergence(logits, present)
        return {name: total / len(self._batches) for name, total in sums.items()}


def _divergence(logits: Tensor, target: Tensor) -> float:
    own, wanted = F.log_softmax(logits, 1), F.log_softmax(target, 1)
    return float(F.kl_div(own, wanted, reduction="batchmean", log_target=True))


@contextmanager
def _as_is(net: QuantizedNetwork) -> Iterator[None]:
    yield


@contextmanager
def _stale(net: QuantizedNetwork) -> Iterator[None]:
    """Let every width have the clip of the present one."""
    scales = [s for w in net.act_widths.values() if (s := w.learned_range) is not None]
    before = [(scale, scale.table.tolist(), scale.value.detach().clone()) for scale in scales]
    for scale, _, value in before:
        scale.fit(None, value)
    yield
    for scale, table, value in before:
        scale.fit(table, value)


def _table(rows: list[dict[str, Any]]) -> None:
    print(f"| score | {' | '.join('seed ' + str(r['seed']) for r in rows)} | mean |")
    print("|---|" + "---|" * (len(rows) + 1))
    for score in rows[0]["scores"]:
        values = [_spearman(row["scores"][score], row["accuracies"]) for row in rows]
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
        mean = f"{statistics.mean(values):+.2f}" + ("" if error is None else f" +- {error:.2f}")
        print(f"| {score} | {' | '.join(f'{v:+.2f}' for v in values)} | {mean} |")


def _spearman(scores: Sequence[float], accuracies: Sequence[float]) -> float:
    """Return the rank correlation of low scores with high accuracies; ties share their rank."""
    rank: Callable[[Sequence[float]], Any] = lambda v: np.array(  # noqa: E731
        [sum(x < y for x in v) + (sum(x == y for x in v) - 1) / 2 for y in v]
    )
    return float(np.corrcoef(-rank(scores), rank(accuracies))[0, 1])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--plans", type=int, default=6)
    parser.add_argument("--uniform", default="w2a2", help="plan whose BitOPs the others have")
    parser.add_argument("--stretch", default="w3a3", help="widths at which plans are scored")
    parser.add_argument("--widths", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

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
from compare_settings import train_once
from torch import Tensor, nn
from torch.nn import functional as F

from adaqat_hw import data, nets
from adaqat_hw.quant import Binding, QuantizedNetwork, bind, calibrate_clips, probing, quantize
from adaqat_hw.schema import BitWidthPlan, RunConfig, load_config
from adaqat_hw.train import Variant, load_into, load_weights, train

_TOLERANCE = 0.01  # of the uniform plan's BitOPs
_BATCHES, _SAMPLES = 8, 128
Bits = dict[str, int]


def main(arguments: list[str] | None = None) -> int:
    """Train and measure what is missing, print the table, and return the exit status."""
    args = _parser().parse_args(arguments)
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", module="brevitas")
    rows = [_seed(args, seed) for seed in args.seeds]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "scores.json").write_text(json.dumps(rows, indent=1) + "\n")
    _table(rows)
    return 0


def _seed(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    config = load_config(args.config, (*args.set, f"seed={seed}"))
    train_once(config, "float", args.out, "float")
    stretch = load_config(args.config, (*args.set, f"seed={seed}", "train.epochs=1"))
    train_once(stretch, args.stretch, args.out, "stretch")
    base = args.out / f"seed{seed}"
    network = _Measured(config, base, args.stretch, args.uniform, "stretch")
    plans = network.random_plans(args.plans, random.Random(seed), args.widths)  # noqa: S311
    scores = {f"{name}, after the stretch": x for name, x in network.scores(plans).items()}
    unstretched = _Measured(config, base, args.stretch, args.uniform, "float")
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


class _Measured:
    """The network after the stretch or before it, and the batches it is measured on."""

    def __init__(
        self, config: RunConfig, base: Path, stretch: str, uniform: str, start: str
    ) -> None:
        dataset = data.load(config.data, config.seed)
        self._net = self._load(config, base / start / "checkpoint.pt", start)
        self._binding: Binding = bind(
            self._net, config.adaqat.model_copy(update={"budget": type(config.adaqat.budget)()})
        )
        self._live = self._uniform(stretch)
        self._even = self._uniform(uniform)
        self._teacher = nets.build(config.network)
        load_into(self._teacher, load_weights(base / "float" / "checkpoint.pt"), base)
        self._teacher.eval()
        generator = torch.Generator().manual_seed(config.seed)
        count = min(_BATCHES, dataset.train_size // _SAMPLES)
        self._batches = list(dataset.train_batches(_SAMPLES, count, generator))
        self._binding.apply_bits(self._live)
        calibrate_clips(self._net, self._batches[0][0])

    @staticmethod
    def _load(config: RunConfig, path: Path, start: str) -> QuantizedNetwork:
        net: nn.Module = nets.build(config.network)
        if start == "float":
            load_into(net, load_weights(path), path)
        info = nets.info(config.network)
        about: dict[str, Any] = {"name": info.name, "num_classes": info.num_classes}
        twin = quantize(net, config.quant, input_shape=info.input_shape, **about)
        if start != "float":
            load_into(twin, load_weights(path), path)
        return twin.train()

    def _uniform(self, name: str) -> Bits:
        widths = Variant.named(name).bits
        assert widths is not None
        return {
            n: widths.weights if n.startswith("weights") else widths.acts
            for n in self._binding.groups
        }

    def plan(self, bits: Bits) -> BitWidthPlan:
        """Return the plan of integer widths by name."""
        with self._binding.at(bits):
            return self._net.plan("manual")

    def random_plans(self, count: int, draw: random.Random, widths: Sequence[int]) -> list[Bits]:
        """Return the uniform plan and ``count`` random ones that cost the same within 1 %."""
        cost = self._binding.controller.cost
        wanted = cost.value(self._even)
        plans = [self._even]
        while len(plans) <= count:
            bits = {
                name: draw.choice([b for b in widths if b > 1 or name.startswith("acts")])
                for name in self._even
            }
            if abs(cost.value(bits) / wanted - 1) <= _TOLERANCE and bits not in plans:
                plans.append(bits)
        return plans

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

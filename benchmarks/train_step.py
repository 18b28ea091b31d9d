"""Time one training step: plain PyTorch, stock Brevitas at fixed widths, and complete AdaQAT.

All three train the same network on the same random batch. Rounds alternate between them, so that
a busy machine slows all of them down, and the ratios are medians over the rounds. An AdaQAT step is
the training stage's own, with its probes: a round does ``probe_every`` steps, one of which probes
every width, and divides by their number. ``--precision`` applies to all three, ``--compile`` to
float and AdaQAT: stock Brevitas cannot be compiled whole. Then the eager float step is timed too.

Beside the ratios the script compares fused with stock arithmetic on the same weights: outputs bit
for bit, gradients as the largest relative difference of a parameter's gradient, in float32 and,
on a few samples, in float64.

It also counts what one step launches on a GPU: operator calls that compute something, each of which
costs the host some microseconds whatever it computes. Eager, the same on every device, and of one
step each: float, quantized without probes, and with them.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from adaqat_hw import __version__, nets
from adaqat_hw.data import Dataset
from adaqat_hw.quant import QuantizedNetwork, quantize
from adaqat_hw.schema import QuantConfig, RunConfig, TrainConfig
from adaqat_hw.tools import package_versions
from adaqat_hw.train.compute import Compute
from adaqat_hw.train.session import open_session
from adaqat_hw.train.step import Stepper
from adaqat_hw.train.variant import Variant
from adaqat_hw.train.world import World, join_world

_QUANT = QuantConfig(input_range=4.0)
_EXACT_SAMPLES = 16
_COUNTED_SAMPLES = 4
# Operators that give another view of memory or only reserve it.
_VIEWS = frozenset(
    (
        *("_record_function_enter_new", "_record_function_exit", "_reshape_alias", "_unsafe_view"),
        *("alias", "as_strided", "detach", "empty", "empty_like", "empty_strided", "expand"),
        *("is_same_size", "lift_fresh", "new_empty", "new_empty_strided", "permute", "reshape"),
        *("select", "slice", "split", "squeeze", "t", "transpose", "unbind", "unsqueeze", "view"),
    )
)


class Launches(TorchDispatchMode):
    """Count operator calls that compute something; ``seen`` has them by name."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count one call, then do it."""
        name = func.overloadpacket.__name__
        if name not in _VIEWS:
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a table or JSON, and return the exit status."""
    args = _parser().parse_args(arguments)
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", module="brevitas")
    world = join_world(args.device)
    result = _measure(args, world)
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        _table(result)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="resnet20", choices=nets.names())
    parser.add_argument("--batch", type=_positive, default=128)
    parser.add_argument("--bits", type=int, default=4, choices=range(2, 9))
    parser.add_argument("--granularity", default="network", choices=("network", "layer"))
    parser.add_argument("--probe-every", type=_positive, default=8)
    parser.add_argument("--probes-per-step", type=_positive)
    parser.add_argument("--rounds", type=_positive, default=5)
    parser.add_argument("--threads", type=_positive, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--json", action="store_true")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be at least 1")
    return value


def _measure(args: argparse.Namespace, world: World) -> dict[str, Any]:
    config = _config(args)
    info = nets.info(config.network)
    x, y = _batch(args.batch, info)
    torch.manual_seed(0)
    reference = nets.build(config.network)
    names: dict[str, Any] = {
        "input_shape": info.input_shape,
        "name": info.name,
        "num_classes": info.num_classes,
        "weight_bits": args.bits,
        "act_bits": args.bits,
    }
    fused = quantize(reference, _QUANT, **names)
    stock = quantize(reference, _QUANT, **names, fused=False)
    identity, exact = _identity(fused, stock, x, y), _exact(fused, stock, x, y)
    eager = config.train.model_copy(update={"compile": False})
    steps: dict[str, Callable[[], None]] = {
        "float": _plain(copy.deepcopy(reference), config.train, x, y, world),
        "stock": _plain(stock, eager, x, y, world),
        "adaqat": _adaqat(config, x, y, world),
    }
    if args.compile:
        steps["float_eager"] = _plain(copy.deepcopy(reference), eager, x, y, world)
    counts = {**dict.fromkeys(steps, 1), "adaqat": args.probe_every}
    for _ in range(2):  # the first steps compile and allocate
        for step in steps.values():
            step()
    rounds: list[dict[str, float]] = []
    for _ in range(args.rounds):
        rounds.append({name: _timed(step, counts[name], world) for name, step in steps.items()})
    return {
        "adaqat_over_stock": _ratio(rounds, "adaqat", "stock"),
        "adaqat_over_float": _ratio(rounds, "adaqat", "float"),
        "stock_over_float": _ratio(rounds, "stock", "float"),
        "adaqat_over_float_eager": _ratio(
            rounds, "adaqat", "float_eager" if args.compile else "float"
        ),
        "spread_adaqat_over_stock": _spread(rounds, "adaqat", "stock"),
        "spread_adaqat_over_float": _spread(rounds, "adaqat", "float"),
        "step_ms": {
            name: round(1e3 * statistics.median(r[name] for r in rounds), 1) for name in steps
        },
        **identity,
        "largest_relative_gradient_difference_float64": exact,
        "launches": launches(config),
        "clock": _clock_name(world),
        "settings": {k: v for k, v in vars(args).items() if k != "json"},
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cpus": os.cpu_count(),
        },
        "versions": {
            **package_versions("torch", "brevitas", "numpy"),
            "python": platform.python_version(),
            "adaqat-hw": __version__,
        },
    }


def _config(args: argparse.Namespace) -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": "train-step",
            "network": {"name": args.network},
            "data": {"name": "random"},
            "train": {
                "epochs": 1_000_000,  # the learning rate and the learning phase stay where they are
                "batch_size": args.batch,
                "lr": 0.01,
                "precision": args.precision,
                "compile": args.compile,
                "device": args.device,
            },
            "quant": _QUANT.model_dump(),
            "adaqat": {
                "granularity": args.granularity,
                "initial_bits": args.bits,
                "lr_weights": 1e-9,  # the widths must not move while they are timed
                "lr_acts": 1e-9,
                "probing": {"every": args.probe_every, "per_step": args.probes_per_step},
            },
        }
    )


def _batch(size: int, info: nets.NetworkInfo) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(0, info.num_classes, (size,), generator=generator)
    vocabulary = info.options.get("vocabulary")
    if vocabulary is not None:
        return torch.randint(1, vocabulary, (size, *info.input_shape), generator=generator), y
    return torch.randn(size, *info.input_shape, generator=generator), y


def _plain(
    net: nn.Module, train: TrainConfig, x: Tensor, y: Tensor, world: World
) -> Callable[[], None]:
    """Return the step of a bare loop: forward, loss, backward, SGD with momentum."""
    net = net.to(world.device).train()
    compute = Compute(net, net, train, world.device)
    optimizer = torch.optim.SGD(
        net.parameters(),
        lr=train.lr,
        momentum=train.momentum,
        weight_decay=train.weight_decay,
        foreach=True,  # as training does
    )
    x, y = x.to(world.device), y.to(world.device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(compute.training(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _dataset(config: RunConfig, x: Tensor, y: Tensor) -> Dataset:
    return Dataset(
        name="random",
        layout="random",
        train_x=x,
        train_y=y,
        test_x=x,
        test_y=y,
        num_classes=nets.info(config.network).num_classes,
        input_shape=tuple(x.shape[1:]),
    )


def _adaqat(config: RunConfig, x: Tensor, y: Tensor, world: World) -> Callable[[], None]:
    """Return ``probe_every`` steps of the training stage, of which one probes the widths."""
    data = _dataset(config, x, y)
    session = open_session(config, Variant.named("learned"), data, None, world)
    stepper = Stepper(session, config, "train_step", data)
    x, y = x.to(world.device), y.to(world.device)

    def steps() -> None:
        for _ in range(config.adaqat.probing.every):
            stepper.step(x, y)

    return steps


def launches(config: RunConfig) -> dict[str, int]:
    """Return the operator calls of one step: float, quantized, and quantized with its probes.

    The steps are the training stage's own, with SGD's momentum there, on the CPU.
    """
    train = config.train.model_copy(update={"compile": False, "compile_mode": None})
    adaqat = config.adaqat.model_copy(
        update={"probing": config.adaqat.probing.model_copy(update={"every": 2})}
    )
    eager = config.model_copy(update={"train": train, "adaqat": adaqat})
    world = World(torch.device("cpu"))
    x, y = _batch(_COUNTED_SAMPLES, nets.info(config.network))
    counts = {}
    for variant, names in (("float", ("float",)), ("learned", ("quantized", "probing"))):
        data = _dataset(eager, x, y)
        session = open_session(eager, Variant.named(variant), data, None, world)
        stepper = Stepper(session, eager, "train_step", data)
        stepper.step(x, y)  # step 0 makes the momentum
        for name in names:  # then step 1, and step 2, which probes
            with Launches() as mode:
                stepper.step(x, y)
            counts[name] = mode.seen.total()
    return counts


def _identity(
    fused: QuantizedNetwork, stock: QuantizedNetwork, x: Tensor, y: Tensor
) -> dict[str, Any]:
    """Compare one pass of both on the CPU, batch norm in evaluation mode."""
    outputs, gradients = [], []
    for net in (fused, stock):
        net.eval()
        logits = net(x)
        F.cross_entropy(logits, y).backward()  # type: ignore[no-untyped-call]
        outputs.append(logits.detach())
        gradients.append({n: p.grad for n, p in net.named_parameters() if p.grad is not None})
        net.zero_grad()
    worst = max(
        float((gradients[0][name] - grad).norm() / grad.norm().clamp_min(1e-30))
        for name, grad in gradients[1].items()
    )
    return {
        "outputs_bit_identical": torch.equal(*outputs),
        "same_gradients_present": gradients[0].keys() == gradients[1].keys(),
        "largest_relative_gradient_difference": worst,
    }


def _exact(fused: QuantizedNetwork, stock: QuantizedNetwork, x: Tensor, y: Tensor) -> float:
    """Return the largest relative gradient difference in float64, where sums lose nothing."""
    few = x[:_EXACT_SAMPLES]
    x64 = few.double() if few.is_floating_point() else few
    fused64, stock64 = copy.deepcopy(fused).double(), copy.deepcopy(stock).double()
    comparison = _identity(fused64, stock64, x64, y[:_EXACT_SAMPLES])
    return float(comparison["largest_relative_gradient_difference"])


def _timed(step: Callable[[], None], count: int, world: World) -> float:
    """Return seconds per step: process time on a CPU, which a busy machine disturbs less."""
    if world.device.type == "cuda":
        torch.cuda.synchronize()
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / count
    start = time.process_time()
    step()
    return (time.process_time() - start) / count


def _clock_name(world: World) -> str:
    return "wall" if world.device.type == "cuda" else "process"


def _ratio(rounds: list[dict[str, float]], a: str, b: str) -> float:
    return round(statistics.median(r[a] / r[b] for r in rounds), 3)


def _spread(rounds: list[dict[str, float]], a: str, b: str) -> list[float]:
    ratios = [r[a] / r[b] for r in rounds]
    return [round(min(ratios), 3), round(max(ratios), 3)]


def _table(result: dict[str, Any]) -> None:
    for name, milliseconds in result["step_ms"].items():
        print(f"{name:12} {milliseconds:9.1f} ms per step ({result['clock']} time)")
    for key in (k for k in result if "_over_" in k and not k.startswith("spread")):
        print(f"{key:24} {result[key]:6.3f}")
    counts = ", ".join(f"{name} {count:,}" for name, count in result["launches"].items())
    print(f"launches of a step: {counts}")
    print(f"outputs bit-identical to stock Brevitas: {result['outputs_bit_identical']}")
    worst = result["largest_relative_gradient_difference"]
    exact = result["largest_relative_gradient_difference_float64"]
    print(f"largest relative difference of a gradient: {worst:.2g}, in float64 {exact:.2g}")


if __name__ == "__main__":
    sys.exit(main())

"""ResNet20 on CIFAR-10 on one GPU: float, uniform 3/4 and per-layer learned, one after the other.

The quantized trainings start from the float network, with it as their teacher; the learned one has
the BitOPs of the uniform one. Every training is the package's own:

    python benchmarks/gpu_resnet20.py --data FOLDER --out RESULT

Run again, it goes on where it stopped: with ``--time-limit SECONDS`` it stops by itself at the end
of an epoch, writes a checkpoint, and exits with status 75. ``RESULT`` then holds all that the next
piece needs, a few MB: log.jsonl (one record per epoch, with times), a folder per training with its
checkpoints and plan, and, at the end, summary.md, made from the log.

On a machine that has torch and numpy only, and no network, the other packages travel as wheels:

    python benchmarks/gpu_resnet20.py --pack PACK --python 3.12        (here, with pip)
    python benchmarks/gpu_resnet20.py --site PACK --data FOLDER --out RESULT        (there)

``--data`` is what the data set 'cifar10' reads, or a tar archive of that, or the word 'random': a
few made-up images, to try the command where no GPU is (``--device cpu --epochs 1 --limit 64``).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaqat_hw.data import DataSource
    from adaqat_hw.schema import RunConfig

_ROOT = Path(__file__).resolve().parents[1]
_STOPPED = 75  # EX_TEMPFAIL: run it again
_BITOPS = 509_648_896  # of uniform 3/4 with ends at 8/8
_TRAININGS = ("float", "w3a4", "learned")
# What training imports beside torch and numpy, and what that needs.
_PACKAGES = (
    *("brevitas", "dependencies", "unfoldNd", "setuptools", "packaging"),
    *("onnx", "ml_dtypes", "protobuf", "pillow", "typing_extensions"),
    *("pydantic", "pydantic_core", "annotated-types", "typing-inspection"),
)
_PLATFORMS = tuple(f"manylinux_2_{minor}_x86_64" for minor in (17, 24, 26, 27, 28))
_MOST = 64 * 2**20  # bytes of wheels and data together


class _TimeUp(Exception):
    """The piece's time is over; the training has been checkpointed."""


def main(arguments: list[str] | None = None) -> int:
    """Pack, or train what is left and write the summary; return the exit status."""
    args = _parser().parse_args(arguments)
    if args.pack is not None:
        return _pack(args.pack, args.python, args.data)
    if args.out is None or args.data is None:
        print("error: --out and --data are needed (or --pack alone)", file=sys.stderr)
        return 2
    started = time.monotonic()
    sys.path.insert(0, str(_ROOT))
    with tempfile.TemporaryDirectory() as scratch:
        if args.site is not None:
            _unpack_wheels(args.site, Path(scratch) / "site")
        from adaqat_hw.errors import AdaqatHwError

        try:
            _Runner(args, started).run(Path(scratch))
        except _TimeUp as exc:
            print(f"stopped {exc}; run the same command again to go on", file=sys.stderr)
            return _STOPPED
        except AdaqatHwError as exc:
            print(f"error: {exc}", file=sys.stderr)
            return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="results and checkpoints")
    parser.add_argument("--data", help="CIFAR-10: a folder or a tar archive; or 'random'")
    parser.add_argument("--site", type=Path, help="folder of wheels that --pack filled")
    parser.add_argument("--pack", type=Path, help="collect wheels into this folder, and end")
    parser.add_argument("--python", default="3.12", help="Python that --pack collects for")
    parser.add_argument("--time-limit", type=float, help="seconds after which this piece stops")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--quantized-epochs", type=int, help="as --epochs where not given")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--limit", type=int, help="training and test images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=None)
    return parser


class _Runner:
    """Do the three trainings, each where the last piece left it."""

    def __init__(self, args: argparse.Namespace, started: float) -> None:
        self._args = args
        self._started = started
        self._out: Path = args.out
        self._last = started  # when the last epoch ended
        self._steps = 1

    def run(self, scratch: Path) -> None:
        """Train, then write and print the summary."""
        args = self._args
        data = _load(args, scratch)
        self._out.mkdir(parents=True, exist_ok=True)
        self._write("start", **_environment(args))
        self._steps = max(1, data.train_size // args.batch)
        for name in _TRAININGS:
            if name not in _finished(self._records()):
                self._train(name, data)
        text = summary(self._records())
        (self._out / "summary.md").write_text(text, encoding="utf-8")
        print(text)

    def _train(self, name: str, data: DataSource) -> None:
        import torch

        from adaqat_hw.cost import bitops
        from adaqat_hw.quant import format_plan
        from adaqat_hw.schema import BitWidthPlan, NetworkSpec
        from adaqat_hw.train import Variant, train

        config, folder = _config(self._args, name), self._out / name
        origin = None if name == "float" else self._out / "float" / "checkpoint.pt"
        self._last = time.monotonic()
        result = train(
            config,
            Variant.named(name),
            folder,
            progress=lambda event: self._progress(name, event),
            init_checkpoint=origin,
            teacher_checkpoint=origin,
            dataset=data,
        )
        facts: dict[str, Any] = {"accuracy": result.accuracy, "seconds": result.seconds}
        facts.update(epochs=result.epochs, samples=result.test_samples, data=result.dataset)
        if result.plan is not None:
            plan = BitWidthPlan.read(folder / result.plan)
            spec = NetworkSpec.read(folder / "spec.json")
            facts.update(bitops=bitops(spec, plan).total, plan=format_plan(plan))
        self._write("done", training=name, **facts)
        torch.compiler.reset()  # graphs and their memory belong to one training
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _progress(self, name: str, event: dict[str, Any]) -> None:
        if event["event"] != "epoch":
            return
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        self._write(
            "epoch",
            training=name,
            epoch=event["epoch"],
            seconds=round(seconds, 4),
            ms_per_step=round(1e3 * seconds / self._steps, 3),
            train_loss=event["train_loss"],
            accuracy=event["accuracy"],
        )
        if event["accuracy"] is not None:
            done = f"{event['epoch']}/{event['epochs']}"
            print(f"{name} epoch {done}: top-1 {100 * event['accuracy']:.2f} %", flush=True)
        limit = self._args.time_limit
        if limit is not None and now - self._started >= limit:
            raise _TimeUp(f"in training {name!r} after epoch {event['epoch']}")

    def _write(self, event: str, **facts: Any) -> None:
        elapsed = round(time.monotonic() - self._started, 3)
        with (self._out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps({"event": event, "elapsed": elapsed, **facts}) + "\n")

    def _records(self) -> list[dict[str, Any]]:
        lines = (self._out / "log.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]


def summary(records: list[dict[str, Any]]) -> str:
    """Return the results as a Markdown table, from the records of the log alone."""
    start = [r for r in records if r["event"] == "start"][-1]
    done = _finished(records)
    rows = [
        "| training | epochs | BitOPs | top-1 | against float | ms per step | minutes |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, result in done.items():
        # The first epochs of a piece compile, and some evaluate: the median is of the others.
        plain = [r for r in _epochs(records, name) if r["accuracy"] is None]
        step = statistics.median(r["ms_per_step"] for r in plain or _epochs(records, name))
        points = 100 * (result["accuracy"] - done["float"]["accuracy"])
        bitops = f"{result['bitops']:,}" if "bitops" in result else "-"
        rows.append(
            f"| {name} | {result['epochs']} | {bitops} | {100 * result['accuracy']:.2f} % | "
            f"{'-' if name == 'float' else f'{points:+.2f}'} | {step:.2f} | "
            f"{result['seconds'] / 60:.1f} |"
        )
    first = next(iter(done.values()))
    facts = ", ".join(f"{key} {value}" for key, value in start["versions"].items())
    rows += [
        "",
        f"{first['data']}, n = {first['samples']:,} test images, one seed "
        f"({start['settings']['seed']}), batch {start['settings']['batch']}; {start['device']}; "
        f"{facts}. Minutes include compiling and evaluations.",
    ]
    return "\n".join(rows) + "\n"


def _finished(records: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {r["training"]: r for r in records if r["event"] == "done"}


def _epochs(records: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return one record per epoch: the last, where a killed piece was done again."""
    own = [r for r in records if r["event"] == "epoch" and r["training"] == name]
    return list({r["epoch"]: r for r in own}.values())


def _config(args: argparse.Namespace, name: str) -> RunConfig:
    from adaqat_hw.schema import parse_config

    floating = name == "float"
    epochs = args.epochs if floating else args.quantized_epochs or args.epochs
    compiles = args.device != "cpu" if args.compile is None else args.compile
    train: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": args.batch,
        # In proportion to the batch: 0.1 and 0.04 at 128.
        "lr": (0.1 if floating else 0.04) * args.batch / 128,
        "lr_warmup_epochs": min(5, epochs / 10),
        "nesterov": True,
        "weight_decay": 5e-4 if floating else 1e-4,
        "eval_every": max(1, epochs // 30),
        "device": args.device,
        "precision": "bfloat16",
        "compile": compiles,
        "compile_mode": "reduce-overhead" if compiles else None,
    }
    if not floating:
        train |= {"init": "float", "teacher": "float"}
        train |= {"distill_weight": 0.7, "distill_temperature": 4.0}
    body = {
        "name": f"gpu-resnet20-{name}",
        "seed": args.seed,
        "network": {"name": "resnet20"},
        "data": {"name": "cifar10", "augment": True, "limit_train": args.limit},
        "train": train,
        "quant": {"input_range": 2.2},  # normalised pixels reach 2.13
        "adaqat": {
            "granularity": "layer",
            "initial_bits": 4.5,
            "budget": {"bitops": _BITOPS},
            "freeze": {"at": 0.35},
        },
    }
    return parse_config(body, "benchmarks/gpu_resnet20.py")


def _load(args: argparse.Namespace, scratch: Path) -> DataSource:
    from adaqat_hw import data
    from adaqat_hw.schema import DataConfig

    if args.data == "random":
        return _random(args.limit or 512)
    root = Path(args.data)
    if root.is_file():
        root = scratch / "data"
        with tarfile.open(args.data) as archive:
            archive.extractall(root, filter="data")
        if len(children := list(root.iterdir())) == 1:
            root = children[0]
    limits: dict[str, Any] = {"limit_train": args.limit, "limit_test": args.limit}
    return data.load(DataConfig(name="cifar10", path=str(root), augment=True, **limits), args.seed)


def _random(count: int) -> DataSource:
    import torch

    from adaqat_hw.data import Dataset
    from adaqat_hw.data._augment import CropAndFlip

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 3, 32, 32, generator=generator)
    y = torch.arange(count) % 10
    shape = (3, 32, 32)
    return Dataset("random", "made up", x, y, x, y, 10, shape, augmenter=CropAndFlip())


def _environment(args: argparse.Namespace) -> dict[str, Any]:
    import platform

    import torch

    from adaqat_hw import __version__

    gpu = torch.cuda.is_available() and args.device != "cpu"
    return {
        "device": torch.cuda.get_device_name()
        if gpu
        else f"CPU, {torch.get_num_threads()} threads",
        "versions": {
            "torch": torch.__version__,
            "python": platform.python_version(),
            "adaqat-hw": __version__,
        },
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()},
    }


def _pack(folder: Path, python: str, data: str | None) -> int:
    """Download the wheels of the versions that are installed here; tell their size."""
    folder.mkdir(parents=True, exist_ok=True)
    pins = [f"{name}=={version(name)}" for name in _PACKAGES]
    platforms = [part for name in _PLATFORMS for part in ("--platform", name)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    status = subprocess.run([*command, *platforms, "-d", str(folder), *pins], check=False)
    if status.returncode:
        print(f"error: pip found no wheel for Python {python}; see above", file=sys.stderr)
        return 1
    size = sum(wheel.stat().st_size for wheel in folder.glob("*.whl"))
    archive = Path(data) if data is not None else None
    if archive is not None and archive.is_file():
        size += archive.stat().st_size
    print(f"{folder}: {len(pins)} wheels for Python {python}, with the data {size / 2**20:.1f} MiB")
    if size > _MOST:
        print(f"error: more than {_MOST >> 20} MiB to carry", file=sys.stderr)
        return 1
    return 0


def _unpack_wheels(folder: Path, site: Path) -> None:
    """Put the wheels of a folder in front of what is installed: they fit each other."""
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)  # noqa: S202  # wheels that --pack fetched
    sys.path.insert(0, str(site))


if __name__ == "__main__":
    sys.exit(main())

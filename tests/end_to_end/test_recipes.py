"""Every shipped configuration is trained, by the commands of its own header, on a small setting.

The data are made on the spot in the real layout; networks are cut down by their own options, and
a budget in proportion. A configuration without a small setting fails.
"""

from __future__ import annotations

import json
import pickle
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from adaqat_hw import data, nets
from adaqat_hw.cli import main
from adaqat_hw.cli.arguments import variant_name
from adaqat_hw.cost import bitops
from adaqat_hw.export.source import load_trained
from adaqat_hw.quant import quantize
from adaqat_hw.schema import (
    BitWidthPlan,
    NetworkSpec,
    RunConfig,
    TrainResult,
    load_config,
)
from adaqat_hw.train.accuracy import accuracy
from adaqat_hw.train.checkpoint import load_weights

ROOT = Path(__file__).resolve().parents[2]
RECIPES = {path.stem: path for path in sorted((ROOT / "configs").glob("*.toml"))}
IMAGES = 40


def cifar10(root: Path) -> tuple[str, ...]:
    folder = root / "data" / "cifar10" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        pixels = rng.integers(0, 256, (IMAGES // 5, 3072), dtype=np.uint8)
        pixels[0, ::2], pixels[0, 1::2] = 0, 255
        batch = {b"data": pixels, b"labels": [i % 10 for i in range(len(pixels))]}
        (folder / name).write_bytes(pickle.dumps(batch))
    return ()


def image_folders(root: Path) -> tuple[str, ...]:
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 1)):
        for label in range(12):
            folder = root / "data" / "imagenet" / split / f"class{label:02}"
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.choice(np.array([0, 255], dtype=np.uint8), (20, 20, 3))
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return ("data.options.size=16", "data.workers=0", "adaqat.probing.samples=4")


def fashion_mnist(root: Path) -> tuple[str, ...]:
    rng = np.random.default_rng(0)
    for prefix, count in (("train", IMAGES), ("t10k", 10)):
        pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (root / f"{prefix}-{kind}-ubyte").write_bytes(head + array.tobytes())
    return (f"data.path={str(root)!r}",)


def vowels(root: Path) -> tuple[str, ...]:
    rng = np.random.default_rng(0)
    for name, count in (("ae.train", 270), ("ae.test", 370)):
        frames = rng.normal(size=(count, 7, 12)).round(2)
        blocks = ("\n".join(" ".join(map(str, row)) for row in rows) for rows in frames)
        (root / name).write_text("\n\n".join(blocks) + "\n")
    limits = (f"data.limit_train={IMAGES}", "data.limit_test=18")
    return (f"data.path={str(root)!r}", *limits)


def words(root: Path) -> tuple[str, ...]:
    rng = np.random.default_rng(0)
    languages = ("american-english", "french", "ngerman", "spanish", "italian")
    for letters, language in zip(("abcd", "efgh", "ijkl", "mnop", "qrst"), languages, strict=True):
        listed = {"".join(rng.choice(list(letters), 6)) for _ in range(100)}
        (root / language).write_text("\n".join(sorted(listed)) + "\n")
    limits = (f"data.limit_train={IMAGES}", "data.limit_test=20")
    return (f"data.path={str(root)!r}", *limits)


def bundled(root: Path) -> tuple[str, ...]:
    return (f"data.limit_train={IMAGES}", "data.limit_test=20")


@dataclass(frozen=True)
class Small:
    """Small data, network options that replace the recipe's, and other keys to set."""

    make: Callable[[Path], tuple[str, ...]]
    options: dict[str, object] = field(default_factory=dict)
    sets: tuple[str, ...] = ()


RESNET20 = Small(cifar10, {"channels": [2, 4, 4]})
MOBILE = {"input_shape": [3, 32, 32], "num_classes": 10, "strides": "cifar", "width": 0.1}
SMALL = {
    "demo": Small(bundled, {"channels": [2, 4]}),
    "cifar10-float": RESNET20,
    "cifar10-single-layer": RESNET20,
    "cifar10-resnet20": RESNET20,
    "cifar10-resnet20-finetune": RESNET20,
    "cifar10-resnet20-lambda": RESNET20,
    "cifar10-resnet20-layers": RESNET20,
    "cifar10-resnet8": Small(cifar10, {"channels": [2, 4, 4], "blocks": 1}),
    "cifar10-mobilenet-v1": Small(cifar10, {**MOBILE, "repeats": [1, 1, 1, 1, 1]}),
    "cifar10-mobilenet-v2": Small(
        cifar10, {**MOBILE, "repeats": [1, 1, 2, 1, 1, 1, 1], "head_channels": 8}
    ),
    "cifar10-cnv": Small(cifar10, {"channels": [2, 4, 4], "hidden": [8, 8]}),
    "cifar10-vit": Small(cifar10, {"dim": 8, "depth": 2, "heads": 2, "patch": 8}),
    "imagenet-resnet18": Small(
        image_folders,
        {
            "input_shape": [3, 16, 16],
            "num_classes": 12,
            "channels": [2, 4, 4, 4],
            "stem": "cifar",
        },
    ),
    "words-text-encoder": Small(words, {"dim": 8, "heads": 2}),
    "vowels-speech-cnn": Small(vowels, {"channels": [4, 4, 4]}),
    "fashion-mlp": Small(fashion_mnist, {"input_shape": [1, 28, 28], "hidden": [8, 8]}),
}
EVERYWHERE = (
    "train.epochs=1",
    "train.batch_size=8",
    "train.lr_warmup_epochs=0",
    "train.frozen_norm_epochs=0",
    "train.recalibrate_batches=2",
    "train.device='cpu'",
    "train.threads=1",
    "adaqat.warmup_epochs=0",
    "adaqat.probing.every=1",
)


def header_of(name: str) -> str:
    return RECIPES[name].read_text().split("\nname = ")[0]


def commands(name: str) -> list[list[str]]:
    """The adaqat-hw commands of a recipe's header."""
    found = re.findall(r"^#   adaqat-hw (.*)$", header_of(name), re.M)
    return [line.split() for line in found]


def work(config: RunConfig, bits: int) -> int:
    """BitOPs of the configured network with every learned width at ``bits``."""
    info = nets.info(config.network)
    quantized = quantize(
        nets.build(config.network),
        config.quant,
        input_shape=info.input_shape,
        name=info.name,
        num_classes=info.num_classes,
    )
    return bitops(quantized.spec, quantized.uniform_plan(weight_bits=bits, act_bits=bits)).total


def small_sets(name: str) -> list[str]:
    """What turns the recipe into a small training; a budget keeps its share of the range."""
    recipe, small = load_config(RECIPES[name]), SMALL[name]
    listed = ", ".join(f"{key} = {json.dumps(value)}" for key, value in small.options.items())
    sets = [*EVERYWHERE, *small.sets, f"network.options={{ {listed} }}"]
    if recipe.float_train is not None:
        sets.append("float_train={ epochs = 1, batch_size = 8, device = 'cpu', threads = 1 }")
    if recipe.adaqat.budget.bitops is not None:
        little = load_config(RECIPES[name], tuple(sets))
        low, high = work(recipe, 2), work(recipe, 8)
        share = (recipe.adaqat.budget.bitops - low) / (high - low)
        budget = work(little, 2) + share * (work(little, 8) - work(little, 2))
        sets.append(f"adaqat.budget.bitops={budget:.0f}")
    return sets


@pytest.fixture
def call(capfd, monkeypatch, tmp_path):
    """Run a command in an empty folder with the data in it; it must succeed."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(list(argv))
        captured = capfd.readouterr()
        assert not stopped.value.code, f"{' '.join(argv)}\n{captured.out}{captured.err}"
        return captured.out

    return run


def test_every_recipe_has_a_small_setting():
    assert sorted(SMALL) == sorted(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains(name, call, tmp_path):
    assert name in SMALL, f"configs/{name}.toml has no small setting in SMALL"
    sets = [*small_sets(name), *SMALL[name].make(tmp_path)]
    options = [part for item in sets for part in ("--set", item)]
    listed = commands(name) or [["train", name]]
    for argv in listed:
        if argv[0] == "train":
            assert argv[1] == name
            call(*argv, "--quiet", *options)
        elif argv[0] == "report":
            assert json.loads(call(*argv, "--json"))["name"] == name
        else:
            call(*argv, "--quiet")
    run = tmp_path / "runs" / name
    config = RunConfig.read(run / "config.json")
    trained = [argv for argv in listed if argv[0] == "train"]
    asked = {a[a.index("--variant") + 1] if "--variant" in a else "learned" for a in trained}
    asked |= {"float"} if config.train.init == "float" else set()
    wanted = {variant_name(variant) for variant in asked}
    assert {path.name for path in (run / "train").iterdir()} == wanted
    for variant in wanted:
        check(run / "train" / variant, variant, config)


def trained_network(folder: Path, variant: str, config: RunConfig) -> nn.Module:
    """Rebuild what a training ended with from its records and weights."""
    if variant != "float":
        return load_trained(config, folder).net
    net = nets.build(config.network)
    net.load_state_dict(load_weights(folder / "checkpoint.pt"))
    return net


def check(folder: Path, variant: str, config: RunConfig) -> None:
    result = TrainResult.read(folder / "result.json")
    samples = data.load(config.data, config.seed)
    if samples.input_shape != (shape := nets.info(config.network).input_shape):
        samples = samples.reshaped(shape)
    steps = samples.train_size // config.train.batch_size
    assert (result.epochs, result.steps) == (1, steps)
    measured = accuracy(trained_network(folder, variant, config), samples.test_batches(8))
    assert (result.accuracy, result.test_samples) == (measured.top1, samples.test_size)
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert (rows[-1]["event"], rows[-1]["accuracy"]) == ("final", result.accuracy)
    if variant == "float":
        assert result.plan is None
        return
    spec, plan = NetworkSpec.read(folder / "spec.json"), BitWidthPlan.read(folder / "plan.json")
    counted = bitops(spec, plan)
    assert plan.digest() == result.plan_digest
    if variant != "learned":
        return
    assert plan.source == "adaqat"
    moves = [row for row in rows if row["event"] == "widths"]
    probed = {gradient["name"] for row in moves for gradient in row["gradients"]}
    if config.adaqat.allocates:
        probed = {name for row in rows if row["event"] == "allocation" for name in row["scores"]}
    assert probed
    assert probed <= set(result.frozen_at)
    assert all(row["hardware_lambda"] >= 0 and row["bitops"] > 0 for row in moves)
    if config.adaqat.budget.bitops is not None:
        assert result.budget is not None
        assert result.budget.met
        assert counted.total == result.budget.reached <= config.adaqat.budget.bitops
    if config.adaqat.learn != ("*",):
        others = [row for row in plan.layers if row.layer not in config.adaqat.learn]
        assert others
        assert {row.weight_bits for row in others} == {8}


@pytest.mark.parametrize("name", RECIPES)
def test_a_header_says_what_it_is_for_what_it_costs_and_what_it_needs(name):
    header = header_of(name)
    assert all(line.startswith("#") for line in header.splitlines())
    assert load_config(RECIPES[name]).name == name
    if name != "demo":
        assert "\n# Cost: " in header
        assert "Needs: " in header
        assert commands(name)


def budgeted() -> list[str]:
    return [n for n in RECIPES if load_config(RECIPES[n]).adaqat.budget.bitops is not None]


@pytest.mark.parametrize("name", budgeted())
def test_a_budget_lies_between_the_smallest_plan_and_the_first(name):
    config = load_config(RECIPES[name])
    assert config.adaqat.budget.bitops is not None
    assert work(config, 2) < config.adaqat.budget.bitops < work(config, 8)


EXTREMES = (cifar10, image_folders, fashion_mnist, bundled)


@pytest.mark.parametrize("name", [n for n, small in SMALL.items() if small.make in EXTREMES])
def test_the_input_quantizer_covers_the_data(name, tmp_path, monkeypatch):
    """Made images hold black and white pixels, the extremes of any image."""
    monkeypatch.chdir(tmp_path)
    sets = SMALL[name].make(tmp_path)
    config = load_config(RECIPES[name], tuple(s for s in sets if s.startswith("data.")))
    inputs = [x for x, _ in data.load(config.data, 0).test_batches(1000)]
    largest = max(float(x.abs().max()) for x in inputs)
    assert 0.95 * config.quant.input_range <= largest <= config.quant.input_range
    assert config.quant.input_signed == any(float(x.min()) < 0 for x in inputs)


def test_the_page_of_recipes_names_each_with_its_commands():
    page = (ROOT / "docs" / "recipes.md").read_text()
    for name in RECIPES:
        row = next((line for line in page.splitlines() if f"[`{name}`]" in line), None)
        assert row is not None, f"docs/recipes.md lacks {name}"
        assert f"(../configs/{name}.toml)" in row
        assert load_config(RECIPES[name]).network.name in row

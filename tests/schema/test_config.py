from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaqat_hw.errors import ConfigError
from adaqat_hw.resources import configs_dir
from adaqat_hw.schema import (
    AdaqatConfig,
    RunConfig,
    ThroughputRequest,
    load_config,
    parse_bits,
    parse_config,
)

MINIMAL = 'name = "r"\n[network]\nname = "mlp"\n[data]\nname = "digits"\n'


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(MINIMAL)
    return path


@pytest.mark.parametrize("path", sorted(configs_dir().glob("*.toml")), ids=lambda p: p.name)
def test_every_shipped_configuration_loads(path):
    assert load_config(path).name == path.stem


def test_defaults_are_the_papers(config_file):
    config = load_config(config_file)
    assert config.adaqat.granularity == "network"
    assert (config.quant.ends, config.quant.end_weight_bits, config.quant.end_act_bits) == (
        "fixed",
        8,
        8,
    )
    assert config.adaqat.freeze.oscillations == 10


def test_overrides_take_toml_values(config_file):
    config = load_config(
        config_file, ("train.epochs=3", "data.augment=true", "train.init=float", "name='x'")
    )
    assert (config.train.epochs, config.data.augment) == (3, True)
    assert (config.train.init, config.name) == ("float", "x")


TRAIN_KEYS = (
    "batch_size, checkpoint_every, compile, compile_mode, decay, device, "
    "distill_temperature, distill_weight, ema_decay, epochs, eval_every, frozen_norm_epochs, init, "
    "label_smoothing, lr, lr_warmup_epochs, momentum, nesterov, optimizer, precision, "
    "recalibrate_batches, restart_at, restart_lr, teacher, tensorboard, "
    "threads, weight_decay"
)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs=0", "train.epochs = 0: Input should be greater than 0."),
        (
            "train.compile_mode=reduce-overhead",
            "train: compile_mode = 'reduce-overhead' with compile = false: it says how "
            "torch.compile works; set compile = true or leave compile_mode out.",
        ),
        ("train.epoch=3", f"unknown key 'train.epoch'; allowed here: {TRAIN_KEYS}."),
        (
            "trian.epochs=3",
            "unknown key 'trian'; allowed here: adaqat, build, compare, data, float_train, name, "
            "network, "
            "quant, seed, train.",
        ),
        (
            "adaqat.freeze.oscilations=3",
            "unknown key 'adaqat.freeze.oscilations'; "
            "allowed here: at, compare_batches, dwell, oscillations, to.",
        ),
        (
            "adaqat.granularity='group'",
            "adaqat: granularity 'group' with groups []: groups belong "
            "to granularity 'group', and it needs at least one.",
        ),
        (
            "adaqat.granularity='model'",
            "adaqat.granularity = 'model': Input should be 'network', 'layer' or 'group'.",
        ),
        (
            "train.device='tpu'",
            r"train.device = 'tpu': String should match pattern '^(auto|cpu|cuda(:\d+)?)$'.",
        ),
        (
            "adaqat.other_bits='8'",
            "adaqat.other_bits = '8': bit-widths '8' must read WEIGHTS/ACTIVATIONS, such as 3/4.",
        ),
        (
            "adaqat.initial_bits=9.0",
            "adaqat.initial_bits = 9.0: Input should be less than or equal to 8.",
        ),
        (
            "adaqat.min_weight_bits=1",
            "adaqat.min_weight_bits = 1: Input should be greater than or equal to 2.",
        ),
        (
            "adaqat.max_bits=3",
            "adaqat: initial_bits 8.0 must not exceed max_bits 3.",
        ),
        (
            "adaqat={max_bits=3, min_weight_bits=4}",
            "adaqat: min_weight_bits 4 and min_act_bits 2 must not exceed max_bits 3.",
        ),
        (
            "adaqat.budget={bitops=5.0, compression=6.0}",
            "adaqat.budget: bitops = 5.0 and compression = "
            "6.0 exclude each other; give one of them.",
        ),
        (
            "compare.uniform=['8-8']",
            "compare.uniform = ['8-8']: bit-widths '8-8' must read WEIGHTS/ACTIVATIONS, such as "
            "3/4, 2/2 ends 2/3 or 2/2 ends 2/3 input 3.",
        ),
        (
            "name='../escape'",
            "name = '../escape': a run's name is 1 to 64 letters, digits, '.', '_' or '-', and "
            "starts with a letter or digit.",
        ),
    ],
)
def test_bad_values_are_refused_in_one_sentence(config_file, override, message):
    with pytest.raises(ConfigError) as caught:
        load_config(config_file, (override,))
    assert str(caught.value) == f"{config_file}: {message}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs", "--set 'epochs' must read key=value, such as train.epochs=30."),
        ("name.x=3", "--set 'name.x=3': 'name' is not a table of the configuration."),
    ],
)
def test_a_malformed_override_is_refused(config_file, override, message):
    with pytest.raises(ConfigError) as caught:
        load_config(config_file, (override,))
    assert str(caught.value) == message


MOVED = {
    "probe_every = 4": "adaqat.probe_every is now adaqat.probing.every.",
    "probes_per_step = 4": "adaqat.probes_per_step is now adaqat.probing.per_step.",
    "probe_samples = 4": "adaqat.probe_samples is now adaqat.probing.samples.",
    "gradient_ema = 0.5": "adaqat.gradient_ema is now adaqat.probing.gradient_ema.",
    "freeze_at = 0.5": "adaqat.freeze_at is now adaqat.freeze.at.",
    "oscillations = 3": "adaqat.oscillations is now adaqat.freeze.oscillations.",
    "dwell = 3": "adaqat.dwell is now adaqat.freeze.dwell.",
    "budget_bitops = 3e6": "adaqat.budget_bitops is now adaqat.budget.bitops.",
    "budget_compression = 8": "adaqat.budget_compression is now adaqat.budget.compression.",
    "freeze = 'larger'": "adaqat.freeze = 'larger' is now adaqat.freeze.to = 'larger'.",
    "freeze = 'marginal'": "adaqat.freeze = 'marginal' is now adaqat.freeze.to = 'better'.",
    "freeze.to = 'marginal'": "adaqat.freeze.to = 'marginal' is now 'better'.",
    "dwell = 3\nfreeze_at = 0.5": (
        "adaqat.freeze_at is now adaqat.freeze.at; adaqat.dwell is now adaqat.freeze.dwell."
    ),
}


@pytest.mark.parametrize("lines", MOVED)
def test_keys_of_the_release_before_are_refused_with_their_new_names(config_file, lines):
    """In the file, in an override, and in Python, in the same words."""
    config_file.write_text(f"{MINIMAL}[adaqat]\n{lines}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(config_file)
    assert str(caught.value) == f"{config_file}: {MOVED[lines]}"
    with pytest.raises(ConfigError) as caught:
        AdaqatConfig(**tomllib.loads(lines))
    assert str(caught.value) == MOVED[lines]
    config_file.write_text(MINIMAL)
    with pytest.raises(ConfigError) as caught:
        load_config(config_file, tuple(f"adaqat.{line}" for line in lines.splitlines()))
    assert str(caught.value) == f"{config_file}: {MOVED[lines]}"


def test_an_override_of_todays_table_in_a_file_of_the_release_before_is_refused(config_file):
    config_file.write_text(f"{MINIMAL}[adaqat]\nfreeze = 'larger'\n")
    with pytest.raises(ConfigError) as caught:
        load_config(config_file, ("adaqat.freeze.at=0.5",))
    moved = MOVED["freeze = 'larger'"]
    assert str(caught.value) == f"{config_file}: {moved}"


def test_a_run_of_the_release_before_is_refused(tmp_path):
    path = tmp_path / "config.json"
    body = {"record": "RunConfig", "schema_version": 1, "name": "old"}
    path.write_text(json.dumps(body))
    with pytest.raises(ConfigError) as caught:
        RunConfig.read(path)
    assert str(caught.value) == (
        f"{str(path)!r} has RunConfig version 1; this release reads version 2: another "
        "release made the run; start it again with 'adaqat-hw run CONFIG' under another name, "
        "or delete its folder first."
    )


def test_a_missing_or_broken_file_is_refused(tmp_path):
    absent, broken = tmp_path / "absent.toml", tmp_path / "broken.toml"
    with pytest.raises(ConfigError) as caught:
        load_config(absent)
    assert str(caught.value) == (
        f"Configuration {str(absent)!r} does not exist; the shipped ones lie in configs/."
    )
    broken.write_text("name = ")
    with pytest.raises(ConfigError) as caught:
        load_config(broken)
    assert str(caught.value) == (
        f"Configuration {str(broken)!r} is not valid TOML: Invalid value (at end of document)."
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("build.target_fps=100",),
            "'build.target_fps' = 100 is named 'fps' now: the cheapest folding of so many frames "
            "per second, by measured costs.",
        ),
        (
            ("build.fps=100", "build.fit=true"),
            "build: fps and fit are 2 throughputs; give one of them.",
        ),
        (
            ("build.fps=100", "build.folding={a = {PE = 2}}", "build.unfolded=true"),
            "build: fps and folding and unfolded are 3 throughputs; give one of them.",
        ),
        (
            ("build.fill=0.5",),
            "build: fill 0.5 says how much of the board fps or fit may take; give one.",
        ),
        (
            ("build.fill=0.5", "build.unfolded=true"),
            "build: fill 0.5 says how much of the board fps or fit may take; give one.",
        ),
        (("build.fps=0",), "build.fps = 0: Input should be greater than 0."),
    ],
)
def test_a_throughput_is_asked_for_once(config_file, overrides, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{config_file}: {message}')}$"):
        load_config(config_file, ("build.board='pynq-z1'", *overrides))


@pytest.mark.parametrize(
    ("overrides", "asked"),
    [
        ((), ThroughputRequest()),
        (("build.fps=100",), ThroughputRequest(kind="fps", fps=100, fill=1.0)),
        (("build.fps=100", "build.fill=0.5"), ThroughputRequest(kind="fps", fps=100, fill=0.5)),
        (("build.fit=true",), ThroughputRequest(kind="fit", fill=0.7)),
        (("build.folding={a = {PE = 2}}",), ThroughputRequest(kind="folding")),
        (("build.unfolded=true",), ThroughputRequest(kind="unfolded")),
    ],
)
def test_what_is_asked_of_the_throughput_is_one_record(config_file, overrides, asked):
    build = load_config(config_file, ("build.board='pynq-z1'", *overrides)).build
    assert build is not None
    assert build.throughput == asked


@given(st.integers(1, 32), st.integers(1, 32))
def test_bits_round_trip(weights, acts):
    assert parse_bits(f"{weights}/{acts}") == (weights, acts)


@pytest.mark.parametrize("text", ["", "3", "3/", "/4", "3/4/5", "-3/4", "3.5/4", "a/b"])
def test_nonsense_bits_are_refused(text):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the whole text follows
        parse_bits(text)
    assert str(caught.value) == (f"bit-widths {text!r} must read WEIGHTS/ACTIVATIONS, such as 3/4")


@pytest.mark.parametrize(("text", "bits"), [("0/4", 0), ("3/33", 33)])
def test_bits_out_of_range_are_refused(text, bits):
    with pytest.raises(
        ValueError, match=f"^bit-width {bits} in '{text}' must lie between 1 and 32$"
    ):
        parse_bits(text)


def tables(model, name):
    """Yield the tables of a record and of those below it: heading, keys with their fields."""
    keys = {}
    for key, field in model.model_fields.items():
        kinds = (field.annotation, *getattr(field.annotation, "__args__", ()))
        inner = next((kind for kind in kinds if hasattr(kind, "model_fields")), None)
        if inner is None:
            keys[key] = field
        elif key != "float_train":  # it has the keys of [train]
            yield from tables(inner, f"{name}.{key}" if name else key)
    yield f"[{name}]" if name else "(top level)", keys


TABLES = dict(tables(RunConfig, ""))


def test_every_table_of_the_configuration_is_known():
    assert {"[adaqat]", "[adaqat.probing]", "[adaqat.freeze]", "[adaqat.budget]"} <= set(TABLES)


@pytest.mark.parametrize("heading", TABLES)
def test_the_configuration_page_has_every_key_and_default(heading):
    page = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text()
    section = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| .* \|$", section, re.M)
    shown = dict(rows)
    keys = TABLES[heading]
    assert set(keys) <= set(shown)
    for key, field in keys.items():
        if field.is_required():
            assert shown[key] == "required", key
        elif field.default is None:
            assert shown[key] == "none", key
        else:
            text = f'"{field.default}"' if isinstance(field.default, str) else repr(field.default)
            assert shown[key] == f"`{text}`", key


@pytest.mark.parametrize(
    ("section", "keys", "text"),
    [
        (
            "train",
            {"restart_at": 0.3},
            "restart_at = 0.3 with restart_lr = None: a restart needs both; give the other one or "
            "leave this one out.",
        ),
        (
            "train",
            {"epochs": 2, "frozen_norm_epochs": 2},
            "frozen_norm_epochs = 2 takes all of 2 epochs, so batch norm would never see its "
            "statistics; lower it or raise epochs.",
        ),
        (
            "quant",
            {"join_bits": 9},
            "quant.join_bits = 9: must be an integer from 2 to 8, or 'acts' for the width of the "
            "activations.",
        ),
        (
            "float_train",
            {"init": "float"},
            "float_train.init = 'float': full precision is trained from scratch and without a "
            "teacher; leave the key out.",
        ),
        (
            "adaqat",
            {"rule": "allocation"},
            "rule 'allocation' spends a budget, and there is none; set one key of adaqat.budget, "
            "or rule = 'gradient'.",
        ),
    ],
)
def test_keys_that_do_not_go_together_are_refused(section, keys, text):
    body = {"name": "x", "network": {"name": "mlp"}, "data": {"name": "digits"}, section: keys}
    with pytest.raises(ConfigError) as caught:
        parse_config(body, "x.toml")
    assert str(caught.value).endswith(text)


@pytest.mark.parametrize(
    ("keys", "allocates"),
    [
        ({}, False),
        ({"granularity": "layer"}, False),
        ({"budget": {"bitops": 1e6}}, False),
        ({"granularity": "layer", "budget": {"bitops": 1e6}}, True),
        ({"granularity": "layer", "budget": {"bitops": 1e6}, "rule": "gradient"}, False),
        ({"budget": {"compression": 4.0}, "rule": "allocation"}, True),
    ],
)
def test_widths_of_layers_under_a_budget_are_allocated(keys, allocates):
    body = {"name": "x", "network": {"name": "mlp"}, "data": {"name": "digits"}, "adaqat": keys}
    assert parse_config(body, "x.toml").adaqat.allocates == allocates


@pytest.mark.parametrize(("optimizer", "momentum"), [("adamw", 0.9), ("sgd", 0.0)])
def test_nesterov_without_momentum_to_look_ahead_along_is_refused(optimizer, momentum):
    train = {"optimizer": optimizer, "momentum": momentum, "nesterov": True}
    body = {"name": "x", "network": {"name": "mlp"}, "data": {"name": "digits"}, "train": train}
    with pytest.raises(ConfigError) as caught:
        parse_config(body, "x.toml")
    assert str(caught.value).endswith(
        f"nesterov = true with optimizer {optimizer!r} and momentum {momentum!r}: it belongs to "
        "optimizer 'sgd' with a momentum above 0; change one of them."
    )

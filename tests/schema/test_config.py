from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaqat_hw.errors import ConfigError
from adaqat_hw.resources import configs_dir
from adaqat_hw.schema import ThroughputRequest, load_config, parse_bits
from adaqat_hw.schema.config import parse_config

MINIMAL = 'name = "r"\n[network]\nname = "mlp"\n[data]\nname = "digits"\n'


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(MINIMAL)
    return path


@pytest.mark.parametrize("path", sorted(configs_dir().glob("*.toml")), ids=lambda p: p.name)
def test_every_shipped_configuration_loads(path):
    assert load_config(path).name


def test_defaults_are_the_papers(config_file):
    config = load_config(config_file)
    assert config.adaqat.granularity == "network"
    assert (config.quant.ends, config.quant.end_weight_bits, config.quant.end_act_bits) == (
        "fixed",
        8,
        8,
    )
    assert config.adaqat.oscillations == 10


def test_overrides_take_toml_values(config_file):
    config = load_config(
        config_file, ("train.epochs=3", "data.augment=true", "train.init=float", "name='x'")
    )
    assert (config.train.epochs, config.data.augment) == (3, True)
    assert (config.train.init, config.name) == ("float", "x")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs=0", r"train.epochs = 0: Input should be greater than 0"),
        ("train.epoch=3", r"unknown key 'train.epoch'; allowed here: .*epochs"),
        ("trian.epochs=3", r"unknown key 'trian'; allowed here: .*train"),
        ("adaqat.granularity='group'", r"granularity 'group' with groups \[\]: .* at least one"),
        ("adaqat.granularity='model'", r"adaqat.granularity = 'model'"),
        ("train.device='tpu'", r"train.device = 'tpu'"),
        ("adaqat.other_bits='8'", r"'8' must read WEIGHTS/ACTIVATIONS"),
        ("adaqat.initial_bits=9.0", r"adaqat.initial_bits = 9.0"),
        ("adaqat.min_weight_bits=1", r"min_weight_bits = 1"),
        ("compare.uniform=['8-8']", r"'8-8' must read WEIGHTS/ACTIVATIONS"),
        ("name='../escape'", r"a run's name is 1 to 64 letters"),
        ("epochs", r"--set 'epochs' must read key=value"),
        ("name.x=3", r"'name' is not a table"),
    ],
)
def test_bad_values_are_refused_in_one_sentence(config_file, override, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(config_file, (override,))
    assert "\n" not in str(caught.value)


def test_widths_must_be_in_order(config_file):
    with pytest.raises(ConfigError, match="must not exceed max_bits 3"):
        load_config(config_file, ("adaqat.max_bits=3", "adaqat.min_weight_bits=4"))


def test_a_missing_or_broken_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="does not exist; the shipped ones lie in configs/"):
        load_config(tmp_path / "absent.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        load_config(broken)


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


@pytest.mark.parametrize(
    "text", ["", "3", "3/", "/4", "3/4/5", "0/4", "3/33", "-3/4", "3.5/4", "a/b"]
)
def test_nonsense_bits_are_refused(text):
    with pytest.raises(ValueError, match="must"):
        parse_bits(text)


def test_the_configuration_page_has_every_key_and_default():
    from pathlib import Path

    from adaqat_hw.schema import RunConfig

    page = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text()
    for name, field in RunConfig.model_fields.items():
        model = next(
            (
                kind
                for kind in (field.annotation, *getattr(field.annotation, "__args__", ()))
                if hasattr(kind, "model_fields")
            ),
            None,
        )
        if model is None:
            assert f"| `{name}` |" in page
            continue
        section = page.split(f"## [{name}]")[1].split("\n## ")[0]
        for key, inner in model.model_fields.items():
            row = next((x for x in section.splitlines() if x.startswith(f"| `{key}` |")), None)
            assert row is not None, f"[{name}] {key} is not on the page"
            if not inner.is_required() and inner.default not in (None, {}):
                shown = inner.default if isinstance(inner.default, str) else repr(inner.default)
                assert str(shown) in row, row


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

from __future__ import annotations

from typing import Any

import pytest

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import BitWidthPlan, LayerBits, RunConfig, parse_config
from adaqat_hw.train.variant import Variant, config_digest


def _config(**changes: Any) -> RunConfig:
    body = {"name": "a", "network": {"name": "mlp"}, "data": {"name": "digits"}, **changes}
    return parse_config(body, "test")


def test_bits_and_plan_belong_to_their_modes() -> None:
    plan = BitWidthPlan(
        network="mlp",
        source="manual",
        layers=(LayerBits(layer="fc", weight_bits=4, act_bits=4),),
    )
    Variant("w4a4", "uniform", bits=(4, 4))
    Variant("mine", "plan", plan=plan)
    with pytest.raises(ConfigError, match=r"'u' of mode 'uniform' needs bits"):
        Variant("u", "uniform")
    with pytest.raises(ConfigError, match=r"'f' of mode 'float' takes no bits"):
        Variant("f", "float", bits=(4, 4))
    with pytest.raises(ConfigError, match=r"'p' of mode 'plan' needs plan"):
        Variant("p", "plan")


def test_the_digest_ignores_what_training_does_not_read() -> None:
    learned, uniform = Variant("l", "adaqat"), Variant("u", "uniform", bits=(4, 4))
    base = _config()
    renamed = _config(name="b", compare={"uniform": ["4/4"]}, build={"board": "PYNQ-Z1"})
    assert config_digest(base, learned) == config_digest(renamed, learned)
    other_lambda = _config(adaqat={"hardware_lambda": 0.9})
    assert config_digest(base, uniform) == config_digest(other_lambda, uniform)
    assert config_digest(base, learned) != config_digest(other_lambda, learned)
    elsewhere = _config(
        train={"device": "cpu", "tensorboard": True}, data={"name": "digits", "workers": 2}
    )
    assert config_digest(base, learned) == config_digest(elsewhere, learned)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"train": {"epochs": 3}},
        {"train": {"precision": "bfloat16"}},
        {"train": {"teacher": "float"}},
        {"quant": {"ends": "learned"}},
        {"data": {"name": "x"}},
    ],
)
def test_the_digest_follows_what_training_reads(change: dict[str, Any]) -> None:
    variant = Variant("u", "uniform", bits=(4, 4))
    assert config_digest(_config(), variant) != config_digest(_config(**change), variant)
    assert config_digest(_config(), variant) != config_digest(
        _config(), Variant("u", "uniform", bits=(4, 3))
    )


def test_names_stand_for_variants() -> None:
    assert Variant.named("float").mode == "float"
    assert Variant.named("learned").mode == "adaqat"
    assert Variant.named("w3a4").bits == (3, 4)
    for name in ("w3", "4/4", "w100a1", "Learned"):
        with pytest.raises(ConfigError, match=rf"Variant '{name}' must be 'float', 'learned' or"):
            Variant.named(name)

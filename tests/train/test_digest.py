"""Which trainings are the same: one set of inputs for the stamp, the checkpoints and the result."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import BitWidthPlan, LayerBits, RunConfig, UniformWidths, parse_config
from adaqat_hw.train import Variant, training_digest, training_inputs

LEARNED, UNIFORM = Variant("l", "adaqat"), Variant("u", "uniform", bits=UniformWidths(4, 4))
FLOAT = Variant("f", "float")


def _config(**changes: Any) -> RunConfig:
    body = {"name": "a", "network": {"name": "mlp"}, "data": {"name": "digits"}, **changes}
    return parse_config(body, "test")


@pytest.mark.parametrize(
    "change",
    [
        {"name": "b"},
        {"compare": {"uniform": ["4/4"]}},
        {"build": {"board": "PYNQ-Z1"}},
        {"train": {"device": "cpu", "tensorboard": True}},
        {"data": {"name": "digits", "workers": 2}},
        {"train": {"distill_weight": 0.9, "distill_temperature": 2.0}},
    ],
)
def test_what_training_does_not_read_changes_nothing(change: dict[str, Any]) -> None:
    for variant in (LEARNED, UNIFORM, FLOAT):
        assert training_digest(_config(), variant) == training_digest(_config(**change), variant)


def test_sections_count_for_the_variants_that_read_them() -> None:
    for change, readers in (
        ({"adaqat": {"hardware_lambda": 0.9}}, {LEARNED}),
        ({"adaqat": {"freeze": {"at": 0.5}}}, {LEARNED}),
        ({"quant": {"ends": "learned"}}, {LEARNED, UNIFORM}),
        ({"train": {"epochs": 3}}, {LEARNED, UNIFORM, FLOAT}),
    ):
        for variant in (LEARNED, UNIFORM, FLOAT):
            same = training_digest(_config(), variant) == training_digest(
                _config(**change), variant
            )
            assert same == (variant not in readers), (change, variant)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"train": {"epochs": 3}},
        {"train": {"precision": "bfloat16"}},
        {"quant": {"ends": "learned"}},
        {"data": {"name": "x"}},
    ],
)
def test_the_digest_follows_what_training_reads(change: dict[str, Any]) -> None:
    assert training_digest(_config(), UNIFORM) != training_digest(_config(**change), UNIFORM)


def test_the_digest_follows_the_widths() -> None:
    rows = [
        BitWidthPlan(
            network="mlp",
            source="manual",
            layers=(LayerBits(layer="fc", weight_bits=bits, act_bits=4),),
        )
        for bits in (4, 5)
    ]
    variants = [
        UNIFORM,
        Variant("u", "uniform", bits=UniformWidths(4, 3)),
        Variant("u", "uniform", bits=UniformWidths(4, 4, ends=(2, 3))),
        Variant("u", "uniform", bits=UniformWidths(4, 4, input=3)),
        *(Variant("mine", "plan", plan=plan) for plan in rows),
        LEARNED,
        FLOAT,
    ]
    digests = [training_digest(_config(), variant) for variant in variants]
    assert len(set(digests)) == len(variants)
    assert digests[0] == training_digest(
        _config(), Variant("other", "uniform", bits=UniformWidths(4, 4))
    )


@pytest.mark.parametrize("key", ["init", "teacher"])
def test_checkpoints_count_by_their_content(tmp_path: Path, key: str) -> None:
    first, second = tmp_path / "a.pt", tmp_path / "b.pt"
    first.write_bytes(b"weights")
    second.write_bytes(b"weights")
    named = _config(train={key: "a.pt"})
    none = training_digest(named, UNIFORM)
    one = training_digest(named, UNIFORM, **{key: first})
    assert one != none == training_digest(_config(), UNIFORM)
    assert one == training_digest(_config(train={key: "b.pt"}), UNIFORM, **{key: second})
    second.write_bytes(b"other weights")
    assert one != training_digest(named, UNIFORM, **{key: second})


def test_distillation_counts_with_a_teacher(tmp_path: Path) -> None:
    (tmp_path / "t.pt").write_bytes(b"weights")
    warm = _config(train={"distill_temperature": 2.0})
    digests = [training_digest(c, UNIFORM, teacher=tmp_path / "t.pt") for c in (_config(), warm)]
    assert digests[0] != digests[1]


@pytest.mark.parametrize("key", ["init", "teacher"])
def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path, key: str) -> None:
    gone = tmp_path / "gone.pt"
    text = (
        f"The checkpoint of train.{key}, {str(gone)!r}, does not exist; train the full-precision "
        "variant first or give the path of another checkpoint."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        training_inputs(_config(), UNIFORM, **{key: gone})


def test_an_up_to_date_training_is_recognised_without_torch() -> None:
    code = "import sys, adaqat_hw.train as t; t.training_inputs; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

from __future__ import annotations

import re

import pytest

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import BitWidthPlan, LayerBits, UniformWidths
from adaqat_hw.train.variant import Variant


def test_bits_and_plan_belong_to_their_modes() -> None:
    plan = BitWidthPlan(
        network="mlp",
        source="manual",
        layers=(LayerBits(layer="fc", weight_bits=4, act_bits=4),),
    )
    bits = UniformWidths(4, 4)
    Variant("w4a4", "uniform", bits=bits)
    Variant("mine", "plan", plan=plan)
    rest = "; 'uniform' takes bits, 'plan' takes a plan, 'float' and 'adaqat' take neither\\.$"
    with pytest.raises(ConfigError, match=rf"^Variant 'u' of mode 'uniform' needs bits{rest}"):
        Variant("u", "uniform")
    with pytest.raises(ConfigError, match=rf"^Variant 'f' of mode 'float' takes no bits{rest}"):
        Variant("f", "float", bits=bits)
    with pytest.raises(ConfigError, match=rf"^Variant 'p' of mode 'plan' needs plan{rest}"):
        Variant("p", "plan")


def test_names_stand_for_variants() -> None:
    assert Variant.named("float").mode == "float"
    assert Variant.named("learned").mode == "adaqat"
    assert Variant.named("w3a4").bits == UniformWidths(3, 4)
    ends = Variant.named("w2a2-ends2-3-input3")
    assert (ends.mode, ends.bits) == ("uniform", UniformWidths(2, 2, (2, 3), 3))
    for name in ("w3", "4/4", "w100a1", "Learned", "w2a2-input3-ends2-3"):
        text = (
            f"Variant {name!r} must be 'float', 'learned' or uniform widths such as 'w4a4' or "
            "'w2a2-ends2-3-input3'; give a plan to train at widths of your own."
        )
        with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
            Variant.named(name)

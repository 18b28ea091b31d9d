"""What a network takes must be what the data set gives."""

from __future__ import annotations

import re

import pytest
import torch

from adaqat_hw.data import Dataset
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import RunConfig
from adaqat_hw.train.session import open_session
from adaqat_hw.train.variant import Variant
from adaqat_hw.train.world import World


def words(vocabulary: int) -> Dataset:
    x, y = torch.randint(1, vocabulary, (8, 16)), torch.arange(8) % 5
    return Dataset("words", "made up", x, y, x, y, 5, (16,), vocabulary=vocabulary)


def opened(vocabulary: int) -> None:
    config = RunConfig.model_validate(
        {"name": "fit", "network": {"name": "text-encoder"}, "data": {"name": "words"}}
    )
    world = World(torch.device("cpu"))
    open_session(config, Variant.named("float"), words(vocabulary), None, world)


def test_tokens_must_lie_within_the_vocabulary():
    opened(64)
    text = (
        "Network 'text-encoder' has a vocabulary of 64, data set 'words' one of 65; set "
        "network.options.vocabulary to at least that."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$") as caught:
        opened(65)
    assert "network.options.vocabulary" in str(caught.value)

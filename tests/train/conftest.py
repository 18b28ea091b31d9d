from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from adaqat_hw.schema import RunConfig, parse_config

_ADAQAT = {"lr_weights": 0.1, "lr_acts": 0.05, "warmup_epochs": 1, "freeze": {"at": 0.8}}
_TRAIN = {
    "epochs": 4,
    "batch_size": 32,
    "lr": 0.05,
    "threads": 1,
    "recalibrate_batches": 3,
    "checkpoint_every": 1,
}


@pytest.fixture
def make_config() -> Callable[..., RunConfig]:
    """A small run on the digits; keywords replace keys of a section or whole sections."""

    def make(
        network: str = "mlp", options: dict[str, Any] | None = None, **sections: Any
    ) -> RunConfig:
        body: dict[str, Any] = {
            "name": "tiny",
            "seed": 3,
            "network": {"name": network},
            "data": {"name": "digits", "limit_train": 200, "limit_test": 100},
            "train": dict(_TRAIN),
            "adaqat": dict(_ADAQAT),
        }
        narrow = {"hidden": [16, 16, 16]} if network == "mlp" else {}
        body["network"]["options"] = {**narrow, **(options or {})}
        for name, value in sections.items():
            if isinstance(value, dict):
                body[name] = {**body.get(name, {}), **value}
            else:
                body[name] = value
        return parse_config(body, "test")

    return make

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from adaqat_hw import nets
from adaqat_hw.quant import QuantizedNetwork, quantize
from adaqat_hw.schema import NetworkConfig, QuantConfig, RunConfig, parse_config


@pytest.fixture(scope="session")
def run_config() -> Callable[..., RunConfig]:
    """A one-epoch run on a part of the digits."""

    def make(
        network: str = "mlp", options: dict[str, Any] | None = None, **sections: Any
    ) -> RunConfig:
        body: dict[str, Any] = {
            "name": "tiny",
            "network": {"name": network, "options": options or {}},
            "data": {"name": "digits", "limit_train": 400},
            "train": {"epochs": 2, "batch_size": 32, "lr": 0.05, "threads": 1},
            "adaqat": {"lr_weights": 0.2, "lr_acts": 0.1},
            **sections,
        }
        return parse_config(body, "test")

    return make


@pytest.fixture(scope="session")
def make_net() -> Callable[..., QuantizedNetwork]:
    """A quantized network with drawn weights and settled batch-norm statistics."""

    def make(
        network: str,
        weights: int = 3,
        acts: int = 4,
        quant: QuantConfig | None = None,
        **options: Any,
    ) -> QuantizedNetwork:
        torch.manual_seed(0)
        config = NetworkConfig(name=network, options=options)
        info = nets.info(config)
        net = quantize(
            nets.build(config),
            quant or QuantConfig(),
            input_shape=info.input_shape,
            name=network,
            num_classes=info.num_classes,
        )
        net.apply_plan(net.uniform_plan(weights, acts))
        net.train()
        for _ in range(5):
            net(torch.rand(16, *info.input_shape))
        return net.eval()

    return make

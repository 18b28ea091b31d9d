"""Small variants of all networks, for tests that need no real size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from adaqat_hw import nets
from adaqat_hw.quant import QuantizedNetwork, quantize
from adaqat_hw.schema import NetworkConfig, QuantConfig

_IMAGE = {"input_shape": (3, 16, 16), "num_classes": 10}
_SMALL: dict[str, dict[str, Any]] = {
    "cnv": {"channels": (4, 4, 4), "hidden": (8, 8)},
    "resnet18": {**_IMAGE, "channels": (4, 6, 8, 8)},
    "resnet20": {**_IMAGE, "channels": (4, 6, 8)},
    "mobilenet-v1": {**_IMAGE, "width": 0.125, "repeats": (1,) * 5, "strides": "cifar"},
    "mobilenet-v2": {
        **_IMAGE,
        **{"width": 0.5, "repeats": (1, 2, 1, 1, 1, 1, 1), "head_channels": 32},
        "strides": "cifar",
    },
    "speech-cnn": {"channels": (8, 12, 12)},
    "vit": {"input_shape": (3, 16, 16), "dim": 16, "depth": 2},
    "text-encoder": {"dim": 16},
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small() -> Callable[..., QuantizedNetwork]:
    """Quantize the small variant of a network; defaults where it has none."""

    def make(
        name: str, quant: QuantConfig | None = None, bits: int = 8, **options: Any
    ) -> QuantizedNetwork:
        config = NetworkConfig(name=name, options={**_SMALL.get(name, {}), **options})
        info = nets.info(config)
        return quantize(
            nets.build(config),
            quant or QuantConfig(),
            input_shape=info.input_shape,
            name=info.name,
            num_classes=info.num_classes,
            weight_bits=bits,
            act_bits=bits,
        )

    return make


@pytest.fixture(scope="session")
def samples() -> Callable[[QuantizedNetwork, int], tuple[Tensor, Tensor]]:
    """Draw inputs that fit a network, integers where it takes tokens, and targets."""

    def draw(network: QuantizedNetwork, count: int) -> tuple[Tensor, Tensor]:
        shape = (count, *network.spec.input_shape)
        vocabulary = nets.info(network.spec.name).options.get("vocabulary")
        x = torch.randn(shape) if vocabulary is None else torch.randint(0, vocabulary, shape)
        return x, torch.randint(0, network.spec.num_classes, (count,))

    return draw

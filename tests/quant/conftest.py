"""Small networks for the tests of ``adaqat_hw.quant``."""

from __future__ import annotations

import pytest
import torch
from torch import nn


class Residual(nn.Module):
    """Stem, identity block with a functional ReLU, global pooling, classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.bn0 = nn.BatchNorm2d(4)
        self.relu0 = nn.ReLU()
        self.body = nn.Sequential(
            nn.Conv2d(4, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu0(self.bn0(self.conv0(x)))
        x = torch.relu(self.body(x) + x)
        return self.fc(self.pool(x).flatten(1))


def _mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 16, bias=False),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Linear(16, 12, bias=False),
        nn.BatchNorm1d(12),
        nn.ReLU(),
        nn.Linear(12, 3),
    )


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture
def mlp() -> nn.Module:
    return _mlp()


@pytest.fixture
def residual() -> nn.Module:
    net = Residual()
    net.train()
    for _ in range(3):  # running statistics other than 0 and 1
        net(torch.randn(8, 1, 8, 8))
    return net


@pytest.fixture
def shape() -> dict[str, object]:
    """Return the keyword arguments that describe both networks."""
    return {"input_shape": (1, 8, 8), "name": "tiny", "num_classes": 3}

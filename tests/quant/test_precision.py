"""TensorFloat-32 is off where it must be, and the process's own settings come back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from adaqat_hw.quant import tensor_float32
from adaqat_hw.train.accuracy import accuracy

_BACKENDS: Any = torch.backends
_PARTS = (_BACKENDS.cuda.matmul, _BACKENDS.cudnn.conv, _BACKENDS.cudnn.rnn)


def _precisions() -> list[str]:
    return [part.fp32_precision for part in _PARTS]


@pytest.fixture(autouse=True)
def _defaults() -> Iterator[None]:
    yield
    for part in _PARTS:
        part.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    _BACKENDS.cudnn.allow_tf32 = True


def test_convolutions_may_use_it_unless_told_otherwise() -> None:
    assert _BACKENDS.cudnn.conv.fp32_precision == "tf32"  # why this is needed at all
    with tensor_float32(allowed=False):
        assert "tf32" not in _precisions()
        assert torch.get_float32_matmul_precision() == "highest"
        assert not _BACKENDS.cudnn.allow_tf32
    assert _BACKENDS.cudnn.allow_tf32


def test_it_can_be_asked_for() -> None:
    with tensor_float32(allowed=True):
        assert _precisions() == ["tf32"] * 3
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("raises", [False, True])
def test_settings_of_the_old_interface_come_back(raises: bool) -> None:
    torch.set_float32_matmul_precision("medium")
    _BACKENDS.cudnn.allow_tf32 = False
    with pytest.raises(RuntimeError) if raises else tensor_float32(allowed=True):
        if raises:
            with tensor_float32(allowed=True):
                raise RuntimeError
    assert torch.get_float32_matmul_precision() == "medium"
    assert not _BACKENDS.cudnn.allow_tf32


def test_settings_of_the_new_interface_come_back() -> None:
    for part in _PARTS:
        part.fp32_precision = "tf32"
    with pytest.raises(RuntimeError, match="mix of the legacy and new APIs"):
        torch.get_float32_matmul_precision()
    with tensor_float32(allowed=False):
        assert _precisions() == ["ieee"] * 3
    assert _precisions() == ["tf32"] * 3


def test_accuracies_are_measured_without_it() -> None:
    class Watch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(_precisions())
            return x

    seen: list[list[str]] = []
    torch.set_float32_matmul_precision("high")
    accuracy(Watch(), [(torch.eye(3), torch.arange(3))])
    assert len(seen) == 1
    assert "tf32" not in seen[0]
    assert torch.get_float32_matmul_precision() == "high"

"""TensorFloat-32: off wherever a number is said to be measured in float32.

A GPU rounds the inputs of float32 convolutions to 10 bits of mantissa unless it is told not to:
PyTorch allows that by default.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def tensor_float32(allowed: bool) -> Iterator[None]:
    """Allow or forbid TensorFloat-32 for a while, in convolutions and matrix products.

    The process's own settings come back afterwards, in whichever of PyTorch's two interfaces they
    were made: PyTorch refuses to read one where the other has said something else.
    """
    backends: Any = torch.backends
    try:
        before = torch.get_float32_matmul_precision(), backends.cudnn.allow_tf32
    except RuntimeError:
        parts = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
        settings = [part.fp32_precision for part in parts]
        _set_parts(parts, ["tf32" if allowed else "ieee"] * len(parts))
        try:
            yield
        finally:
            _set_parts(parts, settings)
        return
    # This interface where it can be had: torch.compile reads it, in some releases no other.
    _set_whole("high" if allowed else "highest", allowed)
    try:
        yield
    finally:
        _set_whole(*before)


def _set_parts(parts: tuple[Any, ...], precisions: list[str]) -> None:
    for part, precision in zip(parts, precisions, strict=True):
        part.fp32_precision = precision


def _set_whole(matmul: str, convolution: bool) -> None:
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = convolution

"""Read CIFAR-10's official pickles without letting a pickle run code."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaqat_hw.errors import ConfigError


def read(folder: Path, names: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images (n, 3, 32, 32) and labels (n,) of the batches ``names``, in order.

    Raises:
        ConfigError: a batch is missing, truncated or holds something else.
    """
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ConfigError(
            f"CIFAR-10: {str(folder)!r} lacks {', '.join(missing)}; unpack the whole archive."
        )
    parts = [_read_batch(folder / name) for name in names]
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def _read_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        with path.open("rb") as handle:
            batch = _ArraysOnly(handle, encoding="bytes").load()
    except _Refused as exc:
        raise ConfigError(
            f"{str(path)!r} asks for {exc}, which is no part of CIFAR-10; nothing of it was run: "
            "use the official archive."
        ) from exc
    except Exception as exc:  # a damaged pickle raises nearly anything
        raise ConfigError(
            f"{str(path)!r} cannot be read ({exc or type(exc).__name__}); it is truncated or "
            "damaged: unpack the archive again."
        ) from exc
    pixels = batch.get(b"data") if isinstance(batch, dict) else None
    labels = batch.get(b"labels") if isinstance(batch, dict) else None
    if not isinstance(pixels, np.ndarray) or not isinstance(labels, list):
        raise ConfigError(
            f"{str(path)!r} is no CIFAR-10 batch: it must be a dictionary with an array 'data' "
            "and a list 'labels'; use the archive 'CIFAR-10 python version'."
        )
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 3072:
        raise ConfigError(
            f"{str(path)!r} has 'data' of shape {pixels.shape!r} and type {pixels.dtype}; "
            "CIFAR-10 has (n, 3072) of uint8."
        )
    if len(labels) != len(pixels) or not labels or not all(_is_label(v) for v in labels):
        raise ConfigError(
            f"{str(path)!r} has {len(labels)} labels for {len(pixels)} images; CIFAR-10 has one "
            "integer from 0 to 9 for each."
        )
    return pixels.reshape(-1, 3, 32, 32), np.array(labels, dtype=np.int64)


def _is_label(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 9


class _Refused(Exception):
    """A pickle asked for a function or class that arrays do not need."""


def _latin1(text: str, encoding: str) -> bytes:
    """Do what pickles of bytes ask ``_codecs.encode`` for, and nothing else it can do."""
    if encoding != "latin1":
        raise _Refused(f"the text encoding {encoding!r}")
    return text.encode("latin1")


_RECONSTRUCT = np.ndarray(0).__reduce__()[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("_codecs", "encode"): _latin1,
}


class _ArraysOnly(pickle.Unpickler):
    """Unpickler that knows plain containers and NumPy arrays."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _Refused(f"'{module}.{name}'") from None

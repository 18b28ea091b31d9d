"""Read the two text formats in which the Japanese vowels are distributed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adaqat_hw.errors import ConfigError

COEFFICIENTS = 12
SHORTEST, LONGEST = 7, 29
SPEAKERS = 9
TRAIN_BLOCKS = (30,) * SPEAKERS
"""Utterances of each speaker in ``ae.train`` (UCI's ``size_ae.train``)."""
TEST_BLOCKS = (31, 35, 88, 44, 29, 24, 40, 50, 29)
"""Utterances of each speaker in ``ae.test`` (UCI's ``size_ae.test``)."""

Utterances = list[tuple[NDArray[np.float32], int]]
"""(coefficients (12, frames), speaker from 0) of each utterance."""


def read_uci(path: Path, sizes: tuple[int, ...]) -> Utterances:
    """Return the utterances of ``ae.train`` or ``ae.test``.

    A line is one frame of 12 numbers; blank lines separate utterances. Speakers follow one
    another, with ``sizes`` utterances each.

    Raises:
        ConfigError: unreadable, another number of utterances, frames or coefficients.
    """
    blocks: list[list[list[float]]] = [[]]
    for number, line in enumerate(_lines(path), start=1):
        row = _numbers(line.split(), path, number)
        if not row:
            blocks.append([])
            continue
        if len(row) != COEFFICIENTS:
            raise ConfigError(
                f"{str(path)!r}, line {number}, has {len(row)} numbers; a frame has "
                f"{COEFFICIENTS}: copy the file again."
            )
        blocks[-1].append(row)
    labels = [speaker for speaker, size in enumerate(sizes) for _ in range(size)]
    blocks = [block for block in blocks if block]
    _require_count(path, len(blocks), len(labels))
    utterances = [np.array(block, dtype=np.float32).T for block in blocks]
    return _checked(path, list(zip(utterances, labels, strict=True)))


def read_ts(path: Path, count: int) -> Utterances:
    """Return the utterances of a ``.ts`` file of aeon or sktime.

    After ``@data`` a line is one utterance: its 12 dimensions separated by colons, each a list
    of numbers separated by commas, and the speaker from 1 to 9.

    Raises:
        ConfigError: unreadable, or not ``count`` utterances of 12 dimensions of one length.
    """
    lines = _lines(path)
    start = next((i for i, t in enumerate(lines) if t.strip().lower() == "@data"), None)
    if start is None:
        raise ConfigError(f"{str(path)!r} has no line '@data' and is no .ts file: copy it again.")
    utterances: Utterances = []
    for number, line in enumerate(lines[start + 1 :], start=start + 2):
        if not line.strip():
            continue
        *dimensions, label = line.strip().split(":")
        rows = [_numbers(part.split(","), path, number) for part in dimensions]
        if len(rows) != COEFFICIENTS or len({len(row) for row in rows}) != 1:
            raise ConfigError(
                f"{str(path)!r}, line {number}, holds {len(rows)} dimensions of the lengths "
                f"{sorted({len(row) for row in rows})!r}; an utterance has {COEFFICIENTS} of one "
                "length: copy the file again."
            )
        if label not in {str(speaker) for speaker in range(1, SPEAKERS + 1)}:
            raise ConfigError(
                f"{str(path)!r}, line {number}, ends with the label {label!r}; speakers are 1 to "
                f"{SPEAKERS}: copy the file again."
            )
        utterances.append((np.array(rows, dtype=np.float32), int(label) - 1))
    _require_count(path, len(utterances), count)
    return _checked(path, utterances)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{str(path)!r} cannot be read ({exc}); copy it again.") from exc


def _numbers(parts: list[str], path: Path, line: int) -> list[float]:
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = [math.nan]
    if all(math.isfinite(number) for number in numbers):
        return numbers
    raise ConfigError(
        f"{str(path)!r}, line {line}, holds something else than finite numbers; copy the file "
        "again."
    )


def _require_count(path: Path, count: int, expected: int) -> None:
    if count != expected:
        raise ConfigError(
            f"{str(path)!r} holds {count} utterances; the archive has {expected}: it is truncated "
            "or another data set, copy it again."
        )


def _checked(path: Path, utterances: Utterances) -> Utterances:
    for number, (frames, _) in enumerate(utterances, start=1):
        if not SHORTEST <= frames.shape[1] <= LONGEST:
            raise ConfigError(
                f"{str(path)!r}: utterance {number} has {frames.shape[1]} frames; the archive has "
                f"{SHORTEST} to {LONGEST}: copy the file again."
            )
    return utterances

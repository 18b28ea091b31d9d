"""Words of several languages as letter tokens, from word lists; the class is the language."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from adaqat_hw.data._dataset import Dataset
from adaqat_hw.data._options import integer, refuse_augment, refuse_options, texts
from adaqat_hw.data._subset import balanced_subset
from adaqat_hw.data._word_lists import ALPHABET, SYSTEM_FOLDER, place_of, read_lists
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import DataConfig

LANGUAGES = ("american-english", "french", "ngerman", "spanish", "italian")
_TEST_SHARE = 10
_TOKEN_OF = {letter: place for place, letter in enumerate(ALPHABET, start=1)}


def load(config: DataConfig, seed: int) -> Dataset:
    """Return words as (n, length) int64 tokens, 0 after the last letter; classes are languages.

    Options: ``languages``, names of files in ``config.path`` or in Debian's folder of word lists
    (the classes, in this order); ``length``, the longest word kept (16); ``per_language``, how
    many words of each language are used at most (20,000). Every language has equally many.

    A hash of the word alone puts a tenth of all words into the test split and orders both
    splits, so the split is the same on every machine, for every seed and for every choice of
    other words, and no word is in both. Inflected forms of one word are different words here:
    some of a test word's forms are trained on, so the accuracy is that for words of known
    vocabularies, not of unseen stems.

    Raises:
        ConfigError: lists are missing, not UTF-8 or too small, or options are wrong.
    """
    refuse_options(config, ("languages", "length", "per_language"))
    refuse_augment(config)
    languages = texts(config, "languages", LANGUAGES)
    length = integer(config, "length", 16, 3, 64)
    limit = integer(config, "per_language", 20_000, 2 * _TEST_SHARE, 10_000_000)
    folder = Path(config.path).expanduser() if config.path is not None else SYSTEM_FOLDER
    splits = _split(read_lists(folder, languages, length))
    tests = limit // _TEST_SHARE
    train_x, train_y = _tokens([train for train, _ in splits], limit - tests, length)
    test_x, test_y = _tokens([test for _, test in splits], tests, length)
    if not len(train_y) or not len(test_y):
        sizes = {name: len(a) + len(b) for name, (a, b) in zip(languages, splits, strict=True)}
        raise ConfigError(
            f"The word lists in {str(folder)!r} leave too few words for a train and a test split "
            f"({sizes!r}); each language needs some 50: choose larger lists."
        )
    chosen = balanced_subset(train_y, config.limit_train, seed)
    subset = balanced_subset(test_y, config.limit_test, 0)
    return Dataset(
        name="words",
        layout=f"word lists {', '.join(languages)}",
        train_x=torch.from_numpy(train_x[chosen]),
        train_y=torch.from_numpy(train_y[chosen]),
        test_x=torch.from_numpy(test_x[subset]),
        test_y=torch.from_numpy(test_y[subset]),
        num_classes=len(languages),
        input_shape=(length,),
        vocabulary=len(ALPHABET) + 1,
    )


_Placed = list[tuple[int, str]]


def _split(lists: list[list[str]]) -> list[tuple[_Placed, _Placed]]:
    """Return (train, test) of each language, in the order of the words' hashes."""
    splits = []
    for words in lists:
        placed = sorted((place_of(word), word) for word in words)
        train = [(place, word) for place, word in placed if place % _TEST_SHARE]
        splits.append((train, [(p, word) for p, word in placed if p % _TEST_SHARE == 0]))
    return splits


def _tokens(
    languages: list[_Placed], limit: int, length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return tokens (n, length) and labels (n,), equally many of each language, mixed."""
    count = min(limit, *(len(words) for words in languages))
    mixed = sorted(
        (*placed, label) for label, words in enumerate(languages) for placed in words[:count]
    )
    x = np.zeros((len(mixed), length), dtype=np.int64)
    for row, (_, word, _) in zip(x, mixed, strict=True):
        row[: len(word)] = [_TOKEN_OF[letter] for letter in word]
    return x, np.array([label for _, _, label in mixed], dtype=np.int64)

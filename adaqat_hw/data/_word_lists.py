"""Read word lists and keep the words that tell languages apart."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from adaqat_hw.errors import ConfigError

ALPHABET = "abcdefghijklmnopqrstuvwxyzßàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿœ"
"""The letters of the western European languages; a letter's token is its place plus 1."""

SHORTEST = 3
SYSTEM_FOLDER = Path("/usr/share/dict")
"""Where Debian's word lists lie."""
PACKAGES = {
    "american-english": "wamerican",
    "british-english": "wbritish",
    "french": "wfrench",
    "italian": "witalian",
    "ngerman": "wngerman",
    "spanish": "wspanish",
}
"""Debian's package of a list."""


def read_lists(folder: Path, languages: Sequence[str], longest: int) -> list[list[str]]:
    """Return the words of each language that no other of the languages has.

    A list is the file ``folder/<language>`` or ``folder/<language>.txt``, UTF-8, one word per
    line. Words are lower-cased; one with a character outside ALPHABET (apostrophe, hyphen,
    digit), with fewer than SHORTEST or with more than ``longest`` letters is left out whole, as
    a shortened word could be another word's copy.

    Raises:
        ConfigError: a list is missing, not UTF-8, or no word of it is left.
    """
    letters = frozenset(ALPHABET)
    lists = [_words(_find(folder, language), letters, longest) for language in languages]
    occurrences = Counter(word for words in lists for word in words)
    unambiguous = [[word for word in words if occurrences[word] == 1] for words in lists]
    for language, words in zip(languages, unambiguous, strict=True):
        if not words:
            raise ConfigError(
                f"No word of the list {language!r} in {str(folder)!r} is left: words need "
                f"{SHORTEST} to {longest} letters from a to z or accented ones, and may be in no "
                "other list; choose other lists or raise data.options.length."
            )
    return unambiguous


def place_of(word: str) -> int:
    """Return a number from 0 to 2**64 - 1 that depends on nothing but the word."""
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")


def _find(folder: Path, language: str) -> Path:
    if Path(language).name != language:
        raise ConfigError(
            f"data.options.languages holds {language!r}, which is no plain file name; give the "
            "names of files in data.path."
        )
    for path in (folder / language, folder / f"{language}.txt"):
        if path.is_file():
            return path
    package = PACKAGES.get(language)
    install = f"install Debian's package {package} or " if package is not None else ""
    raise ConfigError(
        f"The word list {language!r} is not in {str(folder)!r}; {install}set data.path to a folder "
        f"with the file {language!r} or {language + '.txt'!r}, one word per line."
    )


def _words(path: Path, letters: frozenset[str], longest: int) -> set[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ConfigError(
            f"The word list {str(path)!r} is not UTF-8 ({exc.reason} at byte {exc.start}); "
            "convert it: iconv -f latin1 -t utf-8."
        ) from exc
    except OSError as exc:
        raise ConfigError(f"The word list {str(path)!r} cannot be read ({exc}).") from exc
    plain = unicodedata.normalize("NFC", text.lower())
    lines = (line.strip() for line in plain.splitlines())
    return {word for word in lines if SHORTEST <= len(word) <= longest and letters.issuperset(word)}

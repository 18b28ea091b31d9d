import itertools

import pytest
import torch

from adaqat_hw import data
from adaqat_hw.data._word_lists import ALPHABET, place_of
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import DataConfig, load_config
from tests.error_texts import raises_text

LANGUAGES = ("red", "green")


def made(first, count=300):
    """Words of three to six letters that begin with ``first``."""
    tails = itertools.product("aeiou", "lmnrst", "aeiou", "dgkbpt")
    return [first + "".join(tail) for tail in itertools.islice(tails, count)]


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "red", made("k"))
    write(tmp_path / "green.txt", made("z", 400))
    return tmp_path


def write(path, words):
    path.write_text("\n".join(words) + "\n", encoding="utf-8")


def load(folder, seed=0, languages=LANGUAGES, limits=None, **options):
    config = DataConfig(
        name="words",
        path=str(folder),
        options={"languages": languages, **options},
        **(limits or {}),
    )
    return data.load(config, seed)


def spell(row):
    return "".join(ALPHABET[token - 1] for token in row.tolist() if token)


def words_of(x):
    return [spell(row) for row in x]


def test_words_become_padded_tokens_of_balanced_languages(folder):
    found = load(folder)
    assert (found.input_shape, found.num_classes) == ((16,), 2)
    assert found.vocabulary == len(ALPHABET) + 1
    assert found.largest_input is None
    assert found.train_x.dtype == found.train_y.dtype == torch.int64
    assert found.train_x.shape[1] == 16
    for x, y in ((found.train_x, found.train_y), (found.test_x, found.test_y)):
        counts = y.bincount().tolist()
        assert counts[0] == counts[1] > 0
        for word, label, row in zip(words_of(x), y.tolist(), x, strict=True):
            assert word[0] == "kz"[label]
            assert (row[: len(word)] > 0).all()
            assert (row[len(word) :] == 0).all()
    assert found.layout == "word lists red, green"


def test_a_word_is_in_one_split_whatever_else_is_loaded(folder):
    found = load(folder)
    train, test = set(words_of(found.train_x)), set(words_of(found.test_x))
    assert not train & test
    assert all(place_of(word) % 10 == 0 for word in test)
    assert all(place_of(word) % 10 for word in train)
    write(folder / "red", sorted(made("k", 200), reverse=True))
    again = load(folder, seed=9)
    assert not set(words_of(again.train_x)) & test
    assert not set(words_of(again.test_x)) & train


def test_the_order_of_the_lists_decides_nothing(folder):
    before = load(folder)
    write(folder / "red", reversed(made("k")))
    after = load(folder)
    assert torch.equal(before.train_x, after.train_x)
    assert torch.equal(before.test_y, after.test_y)


def test_languages_are_mixed_in_both_splits(folder):
    found = load(folder)
    assert set(found.train_y[:16].tolist()) == set(found.test_y[:12].tolist()) == {0, 1}


def test_cleaning(folder):
    odd = ["Ébloui", "l'eau", "mot-clef", "ab", "x" * 9, "x" * 8, "e\u0301gal", "naïve9", "кот", ""]
    write(folder / "red", [*made("k"), *odd, "zalad"])
    write(folder / "green.txt", [*made("z"), "zalad", "KALAD"])
    found = load(folder, length=8, per_language=10_000)
    kept = set(words_of(torch.cat([found.train_x, found.test_x])))
    odd_kept = {w for w in kept if w[0] not in "kz"}
    assert odd_kept == {"ébloui", "x" * 8, "égal"}
    assert "zalad" not in kept
    assert "kalad" not in kept
    assert found.input_shape == (8,)


def test_accented_words_are_kept(folder):
    write(folder / "red", [w.replace("a", "é") for w in made("k")])
    assert any("é" in word for word in words_of(load(folder).train_x))


def test_per_language_limits_both_splits(folder):
    found = load(folder, per_language=100)
    assert found.train_y.bincount().tolist() == [90, 90]
    assert found.test_y.bincount().tolist() == [10, 10]
    assert set(words_of(found.train_x)) <= set(words_of(load(folder).train_x))


def test_limits_and_seed(folder):
    one, other = (load(folder, s, limits={"limit_train": 20, "limit_test": 6}) for s in (0, 1))
    assert one.train_y.bincount().tolist() == [10, 10]
    assert one.test_y.bincount().tolist() == [3, 3]
    assert torch.equal(one.test_x, other.test_x)
    assert not torch.equal(one.train_x, other.train_x)


def test_alphabet_is_lower_case_without_repeats():
    assert len(set(ALPHABET)) == len(ALPHABET)
    assert ALPHABET.lower() == ALPHABET


def test_missing_lists_name_the_package(folder):
    with raises_text(
        ConfigError,
        f"The word list 'french' is not in '{folder}'; install Debian's package "
        "wfrench or set data.path to a folder with the file 'french' or 'french.txt', "
        "one word per line.",
    ):
        load(folder, languages=("red", "french"))
    with raises_text(
        ConfigError,
        f"The word list 'blue' is not in '{folder}'; set data.path to a folder with "
        "the file 'blue' or 'blue.txt', one word per line.",
    ):
        load(folder, languages=("red", "blue"))


def test_lists_in_another_encoding_are_refused(folder):
    (folder / "red").write_bytes("café\n".encode("latin1"))
    with raises_text(
        ConfigError,
        f"The word list '{folder}/red' is not UTF-8 (invalid continuation byte at "
        "byte 3); convert it: iconv -f latin1 -t utf-8.",
    ):
        load(folder)


def test_lists_without_own_words_or_too_small_are_refused(folder):
    write(folder / "red", ["it's", "a-b"])
    with raises_text(
        ConfigError,
        f"No word of the list 'red' in '{folder}' is left: words need 3 to 16 letters "
        "from a to z or accented ones, and may be in no other list; choose other lists "
        "or raise data.options.length.",
    ):
        load(folder)
    write(folder / "red", ["kalad"])
    with raises_text(
        ConfigError,
        f"The word lists in '{folder}' leave too few words for a train and a test "
        "split ({'red': 1, 'green': 400}); each language needs some 50: choose larger "
        "lists.",
    ):
        load(folder)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"languages": ("red",)},
            "languages = ('red',) of the data set 'words' must be a list of at least two different "
            "names.",
        ),
        (
            {"languages": ("red", "red")},
            "languages = ('red', 'red') of the data set 'words' must be a list of at least two "
            "different names.",
        ),
        (
            {"languages": ("red", "../green")},
            "languages holds '../green', which is no plain file name; give the names of files in "
            "data.path.",
        ),
        ({"length": 2}, "length = 2 of the data set 'words' must be an integer from 3 to 64."),
        (
            {"length": True},
            "length = True of the data set 'words' must be an integer from 3 to 64.",
        ),
        (
            {"per_language": 5},
            "per_language = 5 of the data set 'words' must be an integer from 20 to 10000000.",
        ),
        (
            {"letters": 5},
            "letters is unknown: the data set 'words' takes languages, length, per_language.",
        ),
    ],
)
def test_wrong_options_are_refused(folder, options, text):
    with raises_text(ConfigError, f"data.options.{text}"):
        load(folder, **options)


def test_augment_is_refused(folder):
    with raises_text(
        ConfigError,
        "The data set 'words' cannot be augmented by crops and flips, but data.augment "
        "is True; remove it.",
    ):
        load(folder, limits={"augment": True})


def test_options_come_from_a_configuration_file(folder):
    body = f"""
        name = "run"
        network.name = "mlp"
        [data]
        name = "words"
        path = "{folder}"
        options = {{ languages = ["red", "green"], length = 12 }}
    """
    (folder / "run.toml").write_text(body)
    found = data.load(load_config(folder / "run.toml").data, 0)
    assert (found.input_shape, found.num_classes) == ((12,), 2)

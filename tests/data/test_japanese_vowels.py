import sys

import numpy as np
import pytest
import torch

from adaqat_hw import data
from adaqat_hw.data._vowel_files import TEST_BLOCKS, TRAIN_BLOCKS
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import DataConfig
from tests.error_texts import raises_text


def utterances(sizes, seed):
    """Random utterances, speaker after speaker; the first number of each is the speaker."""
    rng = np.random.default_rng(seed)
    made = []
    for speaker, size in enumerate(sizes):
        for _ in range(size):
            frames = rng.normal(3, 2, (12, rng.integers(7, 30))).round(4)
            frames[0, 0] = speaker
            made.append((frames, speaker))
    return made


TRAIN, TEST = utterances(TRAIN_BLOCKS, 0), utterances(TEST_BLOCKS, 1)
UTTERANCES = "utterances; the archive has 270: it is truncated or another data set, copy it again."
NO_NUMBERS = "holds something else than finite numbers; copy the file again."
DIMENSIONS = "an utterance has 12 of one length: copy the file again."


def uci(found):
    blocks = ["".join(" ".join(map(str, row)) + " \n" for row in x.T) for x, _ in found]
    return "\n".join(blocks) + "\n"


def ts(found):
    rows = [":".join(",".join(map(str, row)) for row in x) + f":{y + 1}\n" for x, y in found]
    return "#Paper: M. Kudo\n@problemName JapaneseVowels\n@dimensions 12\n@data\n" + "".join(rows)


NAMES = {uci: ("ae.train", "ae.test"), ts: ("JapaneseVowels_TRAIN.ts", "JapaneseVowels_TEST.ts")}


def write(folder, layout):
    folder.mkdir(parents=True, exist_ok=True)
    for name, found in zip(NAMES[layout], (TRAIN, TEST), strict=True):
        (folder / name).write_text(layout(found))
    return folder


def load(path, seed=0, **options):
    return data.load(DataConfig(name="japanese-vowels", path=str(path), **options), seed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("uci"), uci)


def test_both_layouts_hold_the_same_utterances(folder, tmp_path):
    one, other = load(folder), load(write(tmp_path / "JapaneseVowels", ts).parent)
    assert one.layout == "ae.train and ae.test (UCI)"
    assert other.layout == ".ts files (aeon)"
    for part in ("train_x", "train_y", "test_x", "test_y"):
        assert torch.equal(getattr(one, part), getattr(other, part))
    assert one.train_x.shape == (270, 12, 29)
    assert one.test_x.shape == (370, 12, 29)
    assert (one.input_shape, one.num_classes, one.vocabulary) == ((12, 29), 9, None)
    assert (one.train_x.dtype, one.train_y.dtype) == (torch.float32, torch.int64)
    assert one.train_y.bincount().tolist() == list(TRAIN_BLOCKS)
    assert one.test_y.bincount().tolist() == list(TEST_BLOCKS)


def test_values_are_standardised_by_the_training_frames_and_then_padded(folder):
    found = load(folder)
    frames = np.concatenate([x for x, _ in TRAIN], axis=1)
    mean, std = frames.mean(1, keepdims=True), frames.std(1, keepdims=True)
    for x, y, raw in (
        (found.train_x, found.train_y, TRAIN),
        (found.test_x, found.test_y, TEST),
    ):
        expected = np.zeros((len(raw), 12, 29))
        for row, (utterance, _) in zip(expected, raw, strict=True):
            row[:, : utterance.shape[1]] = (utterance - mean) / std
        starts = np.abs(x.numpy()[:, None, :, 0] - expected[None, :, :, 0]).max(axis=2)
        which = starts.argmin(axis=1)
        assert sorted(which) == list(range(len(raw)))
        assert np.abs(x.numpy() - expected[which]).max() < 1e-5
        assert [raw[index][1] for index in which] == y.tolist()


def test_speakers_are_mixed_in_both_splits(folder):
    found = load(folder)
    assert len(set(found.train_y[:40].tolist())) == 9
    assert len(set(found.test_y[:60].tolist())) == 9


def test_limits_are_balanced_and_leave_the_statistics(folder):
    whole, part = load(folder), load(folder, seed=3, limit_train=90, limit_test=18)
    assert part.train_y.bincount().tolist() == [10] * 9
    assert part.test_y.bincount().tolist() == [2] * 9
    rows = {x.numpy().tobytes() for x in whole.train_x}
    assert all(x.numpy().tobytes() in rows for x in part.train_x)


def test_an_installed_aeon_is_read_and_not_imported(tmp_path, monkeypatch):
    write(tmp_path / "aeon" / "datasets" / "data" / "JapaneseVowels", ts)
    (tmp_path / "aeon" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "aeon", raising=False)
    assert data.load(DataConfig(name="japanese-vowels"), 0).layout == ".ts files (aeon)"


def test_without_files_it_says_where_to_get_them(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with raises_text(
        ConfigError,
        "The data set 'japanese-vowels' needs its files: 'pip install --no-deps aeon', "
        "whose package holds the files, or set data.path to a folder with 'ae.train' "
        "and 'ae.test' (UCI Machine Learning Repository, 'Japanese Vowels') or "
        "'JapaneseVowels_TRAIN.ts' and 'JapaneseVowels_TEST.ts' (aeon, sktime).",
    ):
        data.load(DataConfig(name="japanese-vowels"), 0)


def test_other_folders_are_refused(tmp_path):
    with raises_text(
        ConfigError,
        f"Japanese vowels: the folder '{tmp_path}/gone' does not exist; 'pip install "
        "--no-deps aeon', whose package holds the files, or set data.path to a folder "
        "with 'ae.train' and 'ae.test' (UCI Machine Learning Repository, 'Japanese "
        "Vowels') or 'JapaneseVowels_TRAIN.ts' and 'JapaneseVowels_TEST.ts' (aeon, "
        "sktime).",
    ):
        load(tmp_path / "gone")
    (tmp_path / "JapaneseVowels_eq_TRAIN.ts").write_text(ts(TRAIN))
    with raises_text(
        ConfigError,
        f"Japanese vowels: the folder '{tmp_path}' holds "
        "['JapaneseVowels_eq_TRAIN.ts'], which is no known layout; 'pip install "
        "--no-deps aeon', whose package holds the files, or set data.path to a folder "
        "with 'ae.train' and 'ae.test' (UCI Machine Learning Repository, 'Japanese "
        "Vowels') or 'JapaneseVowels_TRAIN.ts' and 'JapaneseVowels_TEST.ts' (aeon, "
        "sktime).",
    ):
        load(tmp_path)


@pytest.mark.parametrize("layout", [uci, ts])
@pytest.mark.parametrize("which", [0, 1])
def test_a_missing_split_is_named(tmp_path, layout, which):
    name = NAMES[layout][which]
    (write(tmp_path, layout) / name).unlink()
    one, other = NAMES[layout]
    with raises_text(
        ConfigError,
        f"Japanese vowels: '{tmp_path}' lacks '{name}'; it must hold both '{one}' and '{other}'.",
    ):
        load(tmp_path)


@pytest.mark.parametrize(
    ("layout", "change", "text"),
    [
        (uci, lambda t: t[: t.rindex("\n\n", 0, 90_000)], f" holds 61 {UTTERANCES}"),
        (
            uci,
            lambda t: t[: t.rindex(" ", 0, -4)],
            ", line 5107, has 11 numbers; a frame has 12: copy the file again.",
        ),
        (uci, lambda t: "x " + t, f", line 1, {NO_NUMBERS}"),
        (uci, lambda t: "nan " + t, f", line 1, {NO_NUMBERS}"),
        (uci, lambda t: t.replace("\n\n", "\n", 1), f" holds 269 {UTTERANCES}"),
        (uci, lambda t: "", f" holds 0 {UTTERANCES}"),
        (
            ts,
            lambda t: t.replace("@data", ""),
            " has no line '@data' and is no .ts file: copy it again.",
        ),
        (ts, lambda t: t + t.splitlines()[-1], f" holds 271 {UTTERANCES}"),
        (
            ts,
            lambda t: t[:-400],
            f", line 274, holds 9 dimensions of the lengths [24]; {DIMENSIONS}",
        ),
        (
            ts,
            lambda t: t.replace(":1\n", ":10\n", 1),
            ", line 5, ends with the label '10'; speakers are 1 to 9: copy the file again.",
        ),
        (
            ts,
            lambda t: t.replace(",", ":", 1),
            f", line 5, holds 13 dimensions of the lengths [1, 25, 26]; {DIMENSIONS}",
        ),
    ],
)
def test_damaged_files_are_named(tmp_path, layout, change, text):
    path = write(tmp_path, layout) / NAMES[layout][0]
    path.write_text(change(path.read_text()))
    with raises_text(ConfigError, f"'{path}'{text}"):
        load(tmp_path)


def test_bytes_that_are_no_text_are_refused(folder, tmp_path):
    path = write(tmp_path, uci) / "ae.test"
    path.write_bytes(b"\xff\xfe\x00" * 10)
    with raises_text(
        ConfigError,
        f"'{tmp_path}/ae.test' cannot be read ('utf-8' codec can't decode byte 0xff in "
        "position 0: invalid start byte); copy it again.",
    ):
        load(tmp_path)


def test_a_constant_coefficient_is_refused(tmp_path):
    write(tmp_path, uci)
    flat = [(np.where(np.arange(12)[:, None] == 4, 1.5, x), y) for x, y in TRAIN]
    (tmp_path / "ae.train").write_text(uci(flat))
    with raises_text(
        ConfigError,
        "Japanese vowels: a coefficient is the same in every training frame; the files "
        "are damaged, copy them again.",
    ):
        load(tmp_path)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"augment": True},
            "The data set 'japanese-vowels' cannot be augmented by crops and flips, but "
            "data.augment is True; remove it.",
        ),
        (
            {"options": {"size": 3}},
            "data.options.size is unknown: the data set 'japanese-vowels' takes no options.",
        ),
    ],
)
def test_what_it_cannot_do_is_refused(folder, options, text):
    with raises_text(ConfigError, text):
        load(folder, **options)

"""A damaged entry is named in one sentence and laid out nowhere; the others stay in reach."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from adaqat_hw import zoo
from adaqat_hw.cli import main
from adaqat_hw.errors import ConfigError
from adaqat_hw.resources import zoo_dir
from adaqat_hw.schema import sha256_file
from adaqat_hw.zoo import new_entry, run_layout

NAME = "digits-demo-cnn"
FILES = sorted(path.name for path in (zoo_dir() / NAME).iterdir() if path.name != "entry.json")


@pytest.fixture
def home(tmp_path) -> Path:
    """A zoo with a copy of a shipped network, which a test may damage."""
    shutil.copytree(zoo_dir() / NAME, tmp_path / "zoo" / NAME)
    return tmp_path / "zoo"


@pytest.fixture
def cli(capfd):
    def call(*argv: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(list(argv))
        captured = capfd.readouterr()
        return int(stopped.value.code or 0), captured.out, " ".join(captured.err.split())

    return call


def edit(home: Path, **values: object) -> None:
    path = home / NAME / "entry.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def sentence(home: Path, what: str, name: str = NAME) -> str:
    return (
        f"The zoo's network '{name}' is damaged: {what}; restore its folder '{home}/{name}' (of "
        "the shipped zoo: install adaqat-hw again), or delete it and add the network again with "
        "'adaqat-hw zoo add'."
    )


def refused(home: Path, tmp_path: Path, cli, what: str) -> None:
    """Opened, and laid out, it is refused in one sentence, and nothing is left behind."""
    before = sorted(tmp_path.rglob("*"))
    argv = ("zoo", "--zoo", str(home), NAME, "--to", str(tmp_path / "deep" / "runs"))
    assert cli(*argv) == (2, "", f"error: {sentence(home, what)}")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["../../escaped", "other", "", "/tmp/escaped"])
def test_a_name_that_is_not_its_folders_is_refused(home, tmp_path, cli, name):
    edit(home, name=name)
    what = f"'entry.json' calls it {name!r}, and the name must be its folder's, {NAME!r}"
    refused(home, tmp_path, cli, what)


@pytest.mark.parametrize("variant", ["../../../escaped", "..", "a/b", ""])
def test_a_variant_that_leads_elsewhere_is_refused(home, tmp_path, cli, variant):
    edit(home, variant=variant)
    what = f"'entry.json' has variant = {variant!r}, which must name one folder"
    refused(home, tmp_path, cli, what)


def test_a_file_that_lies_elsewhere_is_refused(home, tmp_path, cli):
    (tmp_path / "x").write_text("x")
    edit(home, files={"../../x": sha256_file(tmp_path / "x")})
    what = "'entry.json' lists the file '../../x', which must lie in its folder"
    refused(home, tmp_path, cli, what)


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_gone_or_cut_short_is_refused(home, tmp_path, cli, file):
    path = home / NAME / file
    path.write_bytes(path.read_bytes()[:-100])
    refused(home, tmp_path, cli, f"'{file}' was cut short or changed since it was added")
    path.unlink()
    refused(home, tmp_path, cli, f"it lacks the file '{file}'")


@pytest.mark.parametrize("file", [file for file in FILES if not file.startswith("resources")])
def test_a_file_that_is_not_listed_is_refused(home, tmp_path, cli, file):
    listed = json.loads((home / NAME / "entry.json").read_text())["files"]
    del listed[file]
    edit(home, files=listed)
    refused(home, tmp_path, cli, f"'entry.json' does not list the file '{file}'")


def test_another_model_than_the_artifacts_is_refused(home, tmp_path, cli):
    model = home / NAME / "model.onnx"
    model.write_bytes(b"another")
    listed = json.loads((home / NAME / "entry.json").read_text())["files"]
    edit(home, files=listed | {"model.onnx": sha256_file(model)})
    what = "'model.onnx' is not the file that 'artifact.json' describes"
    refused(home, tmp_path, cli, what)


def test_a_file_that_changes_after_opening_is_refused(home, tmp_path):
    entry = zoo.open_entry(NAME, home)
    (home / NAME / "log.jsonl").unlink()
    text = sentence(home, "it lacks the file 'log.jsonl'")
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        zoo.lay_out(entry, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("there", [False, True])
def test_a_failure_while_laying_out_leaves_nothing(home, tmp_path, monkeypatch, there):
    def fail(*_: object) -> None:
        raise OSError("full")

    runs = tmp_path / "deep" / "runs"
    if there:
        runs.mkdir(parents=True)
    monkeypatch.setattr(run_layout, "stamp_as", fail)
    with pytest.raises(OSError, match=r"^full$"):
        zoo.lay_out(zoo.open_entry(NAME, home), runs)
    assert list(tmp_path.rglob("deep/runs/*")) == []
    assert (tmp_path / "deep").exists() is there


def test_damaged_records_say_what_helps(home, tmp_path, cli):
    path = home / NAME / "entry.json"
    body = json.loads(path.read_text())
    path.write_text("{")
    what = (
        "'entry.json' is not valid JSON (Expecting property name enclosed in double quotes: line "
        "1 column 2 (char 1))"
    )
    refused(home, tmp_path, cli, what)
    path.write_text(json.dumps(body | {"schema_version": 1}))
    refused(home, tmp_path, cli, "'entry.json' was written by another release")
    del body["variant"]
    path.write_text(json.dumps(body))
    refused(home, tmp_path, cli, f"ZooEntry '{path}': variant is missing")


def test_one_damaged_entry_does_not_hide_the_others(home, cli):
    shutil.copytree(home / NAME, home / "broken")
    text = f"error: {sentence(home, _called('broken'), 'broken')}"
    status, printed, err = cli("zoo", "--zoo", str(home))
    assert (status, err) == (2, text)
    assert NAME in printed
    assert "broken" not in printed
    status, printed, err = cli("zoo", "--zoo", str(home), "--json")
    assert (status, err) == (2, text)
    assert [x["name"] for x in json.loads(printed)["networks"]] == [NAME]
    with pytest.raises(ConfigError, match=f"^{re.escape(text.removeprefix('error: '))}$"):
        zoo.list_entries(home)


def _called(folder: str) -> str:
    return f"'entry.json' calls it {NAME!r}, and the name must be its folder's, {folder!r}"


def test_nothing_is_added_beside_a_damaged_entry(home, tmp_path, cli):
    run = zoo.lay_out(zoo.open_entry(NAME, home), tmp_path / "runs").root
    shutil.copytree(home / NAME, home / "broken")
    before = sorted(home.rglob("*"))
    status, printed, err = cli("zoo", "--zoo", str(home), "add", str(run), "learned", "--name", "b")
    text = sentence(home, _called("broken"), "broken")
    assert (status, printed, err) == (2, "", f"error: {text}")
    assert sorted(home.rglob("*")) == before


def test_an_entry_whose_page_cannot_be_written_is_not_added(home, tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise ConfigError("full")

    run = zoo.lay_out(zoo.open_entry(NAME, home), tmp_path / "runs").root
    before = sorted(home.rglob("*"))
    monkeypatch.setattr(new_entry, "readme", fail)
    with pytest.raises(ConfigError, match=r"^full$"):
        zoo.add(run, "learned", "b", home)
    assert sorted(home.rglob("*")) == before


def test_an_entry_records_its_files(home, tmp_path):
    run = zoo.lay_out(zoo.open_entry(NAME, home), tmp_path / "runs").root
    entry = zoo.add(run, "learned", "b", home)
    paths = [path for path in (home / "b").iterdir() if path.name != "entry.json"]
    assert entry.record.files == {path.name: sha256_file(path) for path in paths}
    assert entry.size == sum(path.stat().st_size for path in paths)
    assert [x.name for x in zoo.list_entries(home)] == ["b", NAME]


@pytest.mark.parametrize(
    ("kind", "what"), [("none", "does not exist"), ("file", "is not a folder")]
)
@pytest.mark.parametrize("rest", [(), (NAME,)])
def test_a_zoo_that_is_no_folder_is_refused(tmp_path, cli, kind, what, rest):
    root = tmp_path / kind
    if kind == "file":
        root.write_text("")
    text = (
        f"error: The zoo '{root}' {what}; give a folder of networks with --zoo, or leave it out "
        "for the shipped zoo."
    )
    assert cli("zoo", "--zoo", str(root), *rest) == (2, "", text)


@pytest.mark.parametrize("below", ["", "/deep/er"])
def test_a_target_that_is_a_file_is_refused(home, tmp_path, cli, below):
    (tmp_path / "file").write_text("kept")
    to = f"{tmp_path}/file{below}"
    text = (
        f"error: --to '{to}' cannot be a folder, for '{tmp_path}/file' is no folder; give another "
        "one."
    )
    assert cli("zoo", "--zoo", str(home), NAME, "--to", to) == (2, "", text)
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("below", ["", "/deep/er"])
def test_nothing_is_added_to_a_file(home, tmp_path, cli, below):
    run = zoo.lay_out(zoo.open_entry(NAME, home), tmp_path / "runs").root
    (tmp_path / "file").write_text("kept")
    root = f"{tmp_path}/file{below}"
    text = (
        f"error: The zoo '{root}' cannot be a folder, for '{tmp_path}/file' is a file; give "
        "another folder with --zoo."
    )
    argv = ("zoo", "--zoo", root, "add", str(run), "learned", "--name", "b")
    assert cli(*argv) == (2, "", text)
    assert (tmp_path / "file").read_text() == "kept"


def test_json_is_printed_with_a_name_and_on_adding(home, tmp_path, cli):
    argv = ("zoo", "--zoo", str(home), "--json")
    (listed,) = json.loads(cli(*argv)[1])["networks"]
    status, printed, err = cli(*argv, NAME, "--to", str(tmp_path / "runs"))
    assert (status, err) == (0, "")
    run = f"{tmp_path}/runs/{NAME}"
    assert json.loads(printed) == {**listed, "run": run}
    status, printed, err = cli(*argv, "add", run, "learned", "--name", "b")
    assert (status, err) == (0, "")
    assert json.loads(printed)["name"] == "b"

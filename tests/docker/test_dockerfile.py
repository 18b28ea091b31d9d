"""What the image will be, told from its instructions; an engine is needed to build it."""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
import tomllib

import pytest
import yaml

from tests.docker.conftest import DOCKER, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def allowed():
    lines = (DOCKER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))


def test_the_base_is_an_argument(image):
    assert image.instructions[0] == ("ARG", (), "BASE=python:3.11-slim-bookworm")
    assert image.of("FROM") == ["${BASE}"]


def test_the_last_user_is_not_root(image):
    assert image.last_user() == "adaqat"
    assert image.words().index("USER") < image.words().index("ENTRYPOINT")


def test_the_entrypoint_is_the_command_in_exec_form(image):
    assert [json.loads(rest) for rest in image.of("ENTRYPOINT")] == [["adaqat-hw"]]


def test_runs_happen_in_the_mounted_folder(image):
    assert image.of("WORKDIR")[-1] == "/work"


def test_every_source_exists_and_reaches_the_build(image):
    assert len(image.copied()) >= 7
    for source in image.copied():
        assert (ROOT / source).exists(), source
        assert f"!{source}" in allowed(), source
    assert not image.of("ADD")


def test_only_what_is_copied_reaches_the_build(image):
    kept = [line[1:] for line in allowed() if line.startswith("!")]
    assert allowed()[0] == "*"
    assert sorted(kept) == sorted(image.copied())


def test_the_image_holds_all_that_the_package_is_made_from(image):
    folders = set(PROJECT["tool"]["setuptools"]["package-dir"].values())
    assert folders == {"adaqat_hw", "configs", "flows", "hw", "zoo"}
    assert folders | {"pyproject.toml", "README.md", "LICENSE"} <= set(image.copied())


def test_pip_gets_the_pins_of_the_project_torch_first(image, run_here, tmp_path):
    """The first installation is executed here with a pip that logs what it is given."""
    (command,) = [rest for rest in image.of("RUN") if "pip install -r" in rest]
    source = tmp_path / "opt" / "adaqat" / "src"
    source.mkdir(parents=True)
    shutil.copy(ROOT / "pyproject.toml", source)
    pins = PROJECT["project"]["dependencies"]
    first = [pin for pin in pins if pin.startswith(("torch>=", "setuptools>"))]
    assert len(first) == 2
    assert run_here(command, ("python", "python3.11")) == [
        ["python3.11", "-m", "venv", f"{tmp_path}/opt/adaqat/venv"],
        ["python", "-m", "pip", "install", "-r", *first],
        ["python", "-m", "pip", "install", "-r", *pins],
    ]


def test_the_folders_that_are_written_are_open_to_any_uid(image, run_here):
    """The last RUN of root is executed here with programs that log what they are given."""
    env = image.pairs("ENV")
    assert env["USER"] == env["LOGNAME"] == image.last_user()
    runs = [rest for rest in image.of("RUN") if "useradd" in rest]
    calls = run_here(runs[0], ("useradd", "mkdir", "chmod"), **{
        name: env[name] for name in ("HOME", "ADAQAT_CACHE")
    })  # fmt: skip
    programs = {call[0]: call for call in calls}
    assert programs["useradd"][-1] == image.last_user()
    assert programs["chmod"][1] == "1777"
    written = {env["HOME"], env["ADAQAT_CACHE"], image.of("WORKDIR")[-1]}
    assert set(programs["chmod"][2:]) == written
    assert {env["ADAQAT_CACHE"], "/work"} <= set(programs["mkdir"])


def test_settings_of_a_mirror_do_not_stay_in_the_environment(image):
    settings = {"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CERT"}
    assert {name: image.arguments()[name] for name in settings} == dict.fromkeys(settings)
    assert [name for name in image.pairs("ENV") if name.startswith("PIP_")] == []


@pytest.mark.parametrize(
    "name",
    ["Dockerfile", "Dockerfile.dockerignore", "vivado.Dockerfile", "compose.yaml", "README.md"],
)
def test_nothing_is_of_one_host(name):
    text = (DOCKER / name).read_text(encoding="utf-8")
    assert not re.search(r"https?://", text)
    assert not re.search(r"(?<![\w.])/(?:home/(?!adaqat\b)|root\b|Users\b|mnt\b|work/)", text)


def test_compose_builds_this_dockerfile_and_runs_as_the_caller(compose):
    service = compose["services"]["adaqat-hw"]
    context = (DOCKER / service["build"]["context"]).resolve()
    assert context == ROOT
    assert context / service["build"]["dockerfile"] == DOCKER / "Dockerfile"
    assert service["user"] == "${ADAQAT_UID:-1000}:${ADAQAT_GID:-1000}"
    assert {volume.rpartition(":")[2] for volume in service["volumes"]} == {
        "/work",
        "/var/cache/adaqat",
    }


def test_compose_declares_the_volumes_that_it_names(compose):
    volumes = compose["services"]["adaqat-hw"]["volumes"]
    named = {volume.split(":")[0] for volume in volumes if volume[0] not in "$./"}
    assert named == set(compose["volumes"]) == {"cache"}


def test_compose_passes_on_only_arguments_that_the_dockerfile_has(compose, image):
    passed = compose["services"]["adaqat-hw"]["build"]["args"]
    assert "BASE" in passed
    assert set(passed) <= set(image.arguments())


def test_the_ignore_patterns_hide_compiled_files():
    hidden = [line for line in allowed()[1:] if not line.startswith("!")]
    for name in ("adaqat_hw/cli/__pycache__", "flows/__pycache__", "adaqat_hw/x.egg-info"):
        assert any(fnmatch.fnmatch(name, line) for line in hidden), name

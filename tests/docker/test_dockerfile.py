"""What can be said of the image without building it."""

from __future__ import annotations

import fnmatch
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"


@pytest.fixture(scope="module")
def steps():
    """Instruction and rest of every logical line of the Dockerfile."""
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    pairs = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(word.upper(), rest) for word, rest in pairs]


def of(steps, word):
    return [rest for found, rest in steps if found == word]


def copied(steps):
    return [source for rest in of(steps, "COPY") for source in rest.split()[:-1]]


def allowed():
    lines = (DOCKER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_base_is_an_argument(steps):
    assert steps[0] == ("ARG", "BASE=python:3.11-slim-bookworm")
    assert of(steps, "FROM") == ["${BASE}"]


def test_the_last_user_is_not_root(steps):
    words = [word for word, _ in steps]
    assert of(steps, "USER")[-1].split(":")[0] not in ("root", "0")
    assert words.index("USER") < words.index("ENTRYPOINT")


def test_the_entrypoint_is_the_command_in_exec_form(steps):
    assert [json.loads(rest) for rest in of(steps, "ENTRYPOINT")] == [["adaqat-hw"]]


def test_runs_happen_in_the_mounted_folder(steps):
    assert of(steps, "WORKDIR")[-1] == "/work"


def test_every_source_exists_and_reaches_the_build(steps):
    assert copied(steps)
    for source in copied(steps):
        assert (ROOT / source).exists(), source
        assert f"!{source}" in allowed(), source
    assert not of(steps, "ADD")


def test_only_what_is_copied_reaches_the_build(steps):
    kept = [line[1:] for line in allowed() if line.startswith("!")]
    assert allowed()[0] == "*"
    assert sorted(kept) == sorted(copied(steps))


def test_the_image_holds_all_that_the_package_is_made_from(steps):
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    folders = set(re.findall(r'^"adaqat_hw\._bundled\.\w+" = "(\w+)"$', project, flags=re.M))
    assert folders
    assert folders | {"adaqat_hw", "pyproject.toml", "README.md", "LICENSE"} <= set(copied(steps))


def test_no_version_is_said_twice():
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    assert not re.findall(r"\w==\d", text)


def test_the_folders_that_are_written_are_open_to_any_uid(steps):
    env = dict(re.findall(r"(\w+)=(\S+)", " ".join(of(steps, "ENV"))))
    assert {"HOME", "USER", "ADAQAT_CACHE", "ADAQAT_FINN_ENV"} <= set(env)
    assert any('chmod 1777 "$HOME" "$ADAQAT_CACHE" /work' in rest for rest in of(steps, "RUN"))


def test_settings_of_a_mirror_do_not_stay_in_the_environment(steps):
    given = {rest.split("=")[0] for rest in of(steps, "ARG")}
    assert {"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CERT"} <= given
    assert not any("PIP_" in rest for rest in of(steps, "ENV"))
    assert not any(rest.startswith(("PIP_INDEX_URL=", "PIP_CERT=")) for rest in of(steps, "ARG"))


@pytest.mark.parametrize(
    "name",
    ["Dockerfile", "Dockerfile.dockerignore", "vivado.Dockerfile", "compose.yaml", "README.md"],
)
def test_nothing_is_of_one_host(name):
    text = (DOCKER / name).read_text(encoding="utf-8")
    assert not re.search(r"https?://", text)
    assert not re.search(r"(?<![\w.])/(?:home/(?!adaqat\b)|root\b|Users\b|mnt\b|work/)", text)


def test_compose_builds_this_dockerfile_and_runs_as_the_caller():
    text = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    assert "\t" not in text
    first = text.partition("  vivado:")[0]
    values = dict(re.findall(r"^ +(\w+): (.+)$", first, flags=re.M))
    context = (DOCKER / values["context"]).resolve()
    assert context == ROOT
    assert (context / values["dockerfile"]).is_file()
    assert values["user"] == '"${ADAQAT_UID:-1000}:${ADAQAT_GID:-1000}"'
    assert ':/work"' in text


def test_compose_is_yaml():
    yaml = pytest.importorskip("yaml")
    made = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    service = made["services"]["adaqat-hw"]
    named = {volume.split(":")[0] for volume in service["volumes"] if volume[0] not in "$./"}
    assert named == set(made["volumes"])


def test_compose_passes_on_only_arguments_that_the_dockerfile_has(steps):
    text = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    named = re.findall(r"^ +- ([A-Z_]+)$", text, flags=re.M)
    assert "BASE" in named
    assert set(named) <= {rest.split("=")[0] for rest in of(steps, "ARG")}


def test_the_ignore_patterns_hide_compiled_files():
    hidden = [line for line in allowed()[1:] if not line.startswith("!")]
    assert any(fnmatch.fnmatch("adaqat_hw/cli/__pycache__", line) for line in hidden)

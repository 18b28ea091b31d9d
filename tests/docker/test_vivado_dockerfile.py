"""What can be said of the image for --env docker without building it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adaqat_hw.compile.docker_env import _FINN_PYTHON, IMAGE, INSIDE, LABEL
from adaqat_hw.tools import FINN_PLUS_VERSION

DOCKER = Path(__file__).resolve().parents[2] / "docker"


@pytest.fixture(scope="module")
def text():
    lines = (DOCKER / "vivado.Dockerfile").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


def test_the_base_is_an_argument(text):
    assert text.splitlines()[:2] == ["ARG BASE=adaqat-hw", "FROM ${BASE}"]


def test_the_label_is_what_a_build_asks_for_and_is_true(text):
    assert f'LABEL {LABEL}="{FINN_PLUS_VERSION}"' in text
    assert f"RUN {_FINN_PYTHON} -c" in text
    assert f"m.version('finn-plus') == '{FINN_PLUS_VERSION}'" in text


def test_the_last_user_is_not_root(text):
    assert re.findall(r"^USER (\S+)$", text, flags=re.M)[-1] == "adaqat"


def test_the_build_is_mounted_where_any_uid_may_write(text):
    assert f"mkdir -p {INSIDE} && chmod 1777 {INSIDE}" in text


def test_readme_and_compose_name_this_image():
    for name in ("README.md", "compose.yaml"):
        assert IMAGE in (DOCKER / name).read_text(encoding="utf-8"), name


def test_the_shell_of_compose_is_as_closed_as_a_build():
    yaml = pytest.importorskip("yaml")
    made = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    service = made["services"]["vivado"]
    assert service["network_mode"] == "none"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges"]
    assert [volume.split(":")[-1] for volume in service["volumes"][1:]] == ["ro"]

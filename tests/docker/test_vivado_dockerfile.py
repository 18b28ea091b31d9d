"""What the image for --env docker will be, told from its instructions."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import yaml

from adaqat_hw.compile.docker_env import IMAGE, INSIDE, LABEL
from adaqat_hw.compile.finn_flow import FINN
from adaqat_hw.tools import FINN_PLUS_VERSION
from tests.docker.conftest import DOCKER


@pytest.fixture(scope="module")
def service():
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    return compose["services"]["vivado"]


def test_the_base_is_an_argument(vivado_image):
    assert vivado_image.instructions[:2] == (
        ("ARG", (), "BASE=adaqat-hw"),
        ("FROM", (), "${BASE}"),
    )


def test_the_label_is_what_a_build_asks_for(vivado_image):
    assert vivado_image.pairs("LABEL")[LABEL] == FINN_PLUS_VERSION


@pytest.mark.parametrize(("installed", "status"), [(FINN_PLUS_VERSION, 0), ("1.5.0", 1)])
def test_an_image_whose_label_is_not_true_is_not_built(vivado_image, tmp_path, installed, status):
    """The check is executed here, with a finn-plus of that version installed."""
    (command,) = [rest for rest in vivado_image.of("RUN") if rest.startswith(FINN.image_python)]
    facts = tmp_path / f"finn_plus-{installed}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: finn-plus\nVersion: {installed}\n"
    )
    done = subprocess.run(
        ["sh", "-c", command.replace(FINN.image_python, sys.executable)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == status


def test_the_last_user_is_not_root(vivado_image):
    assert vivado_image.last_user() == "adaqat"
    assert vivado_image.words().index("USER") < vivado_image.words().index("CMD")


def test_the_build_is_mounted_where_any_uid_may_write(vivado_image, run_here):
    (command,) = [rest for rest in vivado_image.of("RUN") if rest.startswith("mkdir")]
    calls = run_here(command, ("mkdir", "chmod"))
    assert calls == [["mkdir", "-p", INSIDE], ["chmod", "1777", INSIDE]]
    assert vivado_image.of("WORKDIR")[-1] == INSIDE


def test_readme_and_compose_make_the_image_that_a_build_asks_for(service):
    readme = (DOCKER / "README.md").read_text(encoding="utf-8")
    tags = re.findall(r"^docker build -f docker/vivado\.Dockerfile -t (\S+) docker$", readme, re.M)
    assert tags == [IMAGE]
    assert service["image"] == IMAGE
    assert service["build"]["dockerfile"] == "vivado.Dockerfile"


def test_the_shell_of_compose_is_as_closed_as_a_build(service):
    assert service["network_mode"] == "none"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges"]
    assert [volume.split(":")[-1] for volume in service["volumes"]] == [INSIDE, "ro"]

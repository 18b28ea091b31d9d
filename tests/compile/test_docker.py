"""Builds in containers, against a Docker that runs the inner command here."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import textwrap
from pathlib import Path

import pytest

from adaqat_hw import boards, families
from adaqat_hw.compile.docker_env import IMAGE, Docker, _mount, container_name
from adaqat_hw.compile.finn_flow import run_flow
from adaqat_hw.compile.tool_checks import require_goal
from adaqat_hw.compile.vivado import require_vivado
from adaqat_hw.errors import ConfigError, StageFailed, ToolNotFound
from adaqat_hw.schema import BuildRequest, sha256_file
from adaqat_hw.tools import FINN_PLUS_VERSION

FAKES = Path(__file__).resolve().parents[1] / "fakes"
DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def request_of(tmp_path, tiny_onnx):
    return BuildRequest(
        model=str(tiny_onnx), model_sha256=sha256_file(tiny_onnx), network="net", board="b",
        variant="qonnx", part="p", dsp=families.load("xcup").dsp, clock_ns=5.0, goal="estimate",
    )  # fmt: skip


@pytest.fixture
def tiny_onnx(tmp_path):
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    path = tmp_path / "models" / "net.onnx"
    path.parent.mkdir()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """Put the fake on PATH; ``docker(...)`` says how it behaves, ``docker.calls()`` what it got."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    shutil.copy(FAKES / "docker", bin_dir / "docker")
    monkeypatch.setenv("ADAQAT_DOCKER", str(bin_dir / "docker"))
    monkeypatch.delenv("ADAQAT_IMAGE", raising=False)
    for name in ("XILINXD_LICENSE_FILE", "LM_LICENSE_FILE", "XILINX_VIVADO"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    monkeypatch.setattr(os, "getgid", lambda: 5678)

    def behave(**settings):
        body = {"labels": {"adaqat-hw.finn-plus": FINN_PLUS_VERSION}, "id": DIGEST} | settings
        (bin_dir / "fake-docker.json").write_text(json.dumps(body))

    def calls(kind="run"):
        lines = (bin_dir / "calls.log").read_text().splitlines()
        return [argv for argv in map(json.loads, lines) if argv[0] == kind]

    behave()
    behave.calls = calls
    return behave


@pytest.fixture
def finn(tmp_path):
    """Make the interpreter that the fake runs in place of the image's, from ``code``."""

    def make(code: str) -> Path:
        path = tmp_path / "bin" / "inner-python"
        prelude = f"""\
        #!{sys.executable}
        import json, os, signal, sys, time
        from pathlib import Path
        SCRIPT, REQUEST, FOLDER = map(Path, sys.argv[1:4])
        body = json.loads(REQUEST.read_text())
        def result(status, digest="", **facts):
            made = dict(request_digest=digest, status=status, log="flow.log", **facts)
            (FOLDER / "result.json").write_text(json.dumps(made))
        """
        path.write_text(textwrap.dedent(prelude) + textwrap.dedent(code))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return tmp_path / "build"

    return make


def options(argv, name):
    return [argv[k + 1] for k, word in enumerate(argv) if word == name]


def test_the_container_sees_only_the_build_and_is_nobody(docker, finn, request_of):
    folder = finn("result('ok')")
    run_flow(request_of, folder, lambda event: None, environment=Docker())
    (argv,) = docker.calls()
    assert options(argv, "--mount") == [f"type=bind,source={folder},target=/build"]
    assert options(argv, "--user") == ["1234:5678"]
    assert options(argv, "--network") == ["none"]
    assert options(argv, "--cap-drop") == ["ALL"]
    assert options(argv, "--security-opt") == ["no-new-privileges"]
    assert options(argv, "--pull") == ["never"]
    assert {"--rm", "--init", "--read-only"} <= set(argv)
    assert not {"-v", "--volume", "--privileged", "--device"} & set(argv)
    at = argv.index(DIGEST)  # the digest that was checked, not the name
    assert argv[at - 2 : at] == ["--entrypoint", "/opt/adaqat/finn/bin/python"]
    assert argv[at + 1 :] == [
        "/build/finn/python/flows/finn_flow.py",
        "/build/finn/request.json",
        "/build",
    ]
    given = dict(item.split("=", 1) for item in options(argv, "--env"))
    assert given == {
        "HOME": "/build/finn/home",
        "TMPDIR": "/build/finn/tmp",
        "PYTHONPATH": "/build/finn/python",
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "FINN_SETTINGS": "/build/finn/settings.yaml",
        "FINN_BUILD_DIR": "/build/finn",
    }


def test_the_flow_and_the_model_come_with_the_folder(docker, finn, request_of):
    folder = finn("""
        assert SCRIPT.is_file() and (SCRIPT.parent / "steps.py").is_file()
        inside = Path(body["model"].replace("/build", str(FOLDER), 1))
        package = FOLDER / "finn" / "python" / "adaqat_hw"
        names = sorted(p.name for p in package.iterdir())
        print(json.dumps({"size": inside.stat().st_size, "names": names}), flush=True)
        result("ok")
    """)
    events = []
    run_flow(request_of, folder, events.append, environment=Docker())
    assert events == [
        {
            "size": Path(request_of.model).stat().st_size,
            "names": ["__init__.py", "errors.py", "qonnx_graph.py", "schema"],
        }
    ]
    # The record that stays is the caller's own.
    assert BuildRequest.read(folder / "request.json") == request_of


def test_the_flow_is_importable_from_what_was_copied(docker, finn, request_of):
    folder = finn("""
        import subprocess
        code = ("import adaqat_hw.schema, adaqat_hw.errors, adaqat_hw.qonnx_graph as graph; "
                "print(graph.__file__)")
        path = str(FOLDER / "finn" / "python")
        done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": path}, cwd="/",
                              capture_output=True, text=True)
        print(json.dumps({"path": done.stdout, "err": done.stderr}), flush=True)
        result("ok")
    """)
    events = []
    run_flow(request_of, folder, events.append, environment=Docker())
    assert events[0]["err"] == ""
    assert events[0]["path"].startswith(str(folder))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"missing": True}, f"There is no image '{IMAGE}'; make it as docker/README.md says"),
        ({"daemon": False}, r"Docker does not answer \(Cannot connect .*; start it, or build with"),
        ({"labels": {}}, "has the label adaqat-hw.finn-plus=None, and this release needs '1.6.1'"),
        ({"labels": {"adaqat-hw.finn-plus": "1.5.0"}}, "finn-plus='1.5.0', and this release needs"),
        ({"labels": None}, "finn-plus=None"),
    ],
)
def test_the_image_is_checked_first(docker, settings, sentence):
    docker(**settings)
    with pytest.raises(ToolNotFound, match=sentence):
        Docker().describe()


def test_the_image_is_recorded_by_its_digest(docker, monkeypatch):
    monkeypatch.setenv("ADAQAT_IMAGE", "mine:latest")
    made = Docker().describe()
    assert (made.env, made.image, made.image_id) == ("docker", "mine:latest", DIGEST)


def test_root_is_refused(docker, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 0)
    with pytest.raises(ConfigError, match="runs nothing as root and the caller is root"):
        Docker().describe()


def test_a_kill_for_memory_is_recognised(docker, finn, request_of):
    folder = finn("os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(StageFailed, match=r"exit status 137 .*most likely because memory ran out"):
        run_flow(request_of, folder, lambda event: None, environment=Docker())


def test_an_interrupt_ends_the_container(docker, finn, request_of):
    folder = finn("print(json.dumps({'step': 'x'}), flush=True); time.sleep(60)")

    def interrupt(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_flow(request_of, folder, interrupt, environment=Docker())
    name = container_name(folder)
    # Once before the run, for what a killed build may have left, and once for the interrupt.
    assert docker.calls("rm") == [["rm", "--force", name]] * 2
    assert options(docker.calls()[0], "--name") == [name]


def test_a_path_with_a_comma_is_still_one_path():
    text = _mount('/a,b/"c"', "/build", read_only=True)
    assert text == 'type=bind,"source=/a,b/""c""",target=/build,readonly'


@pytest.fixture
def vivado_root(tmp_path, monkeypatch):
    root = tmp_path / "Vivado" / "2022.2"
    (root / "bin").mkdir(parents=True)
    shutil.copy(FAKES / "vivado", root / "bin" / "vivado")
    monkeypatch.setenv("XILINX_VIVADO", str(root))
    return root


def test_vivado_is_mounted_read_only_and_has_no_network(docker, vivado_root, tmp_path):
    assert require_vivado(Docker(), tmp_path / "build") == "2022.2"
    (argv,) = docker.calls()
    assert options(argv, "--mount")[1:] == [
        f"type=bind,source={vivado_root},target={vivado_root},readonly"
    ]
    assert options(argv, "--network") == ["none"]
    assert options(argv, "--workdir") == ["/build/vivado"]
    given = dict(item.split("=", 1) for item in options(argv, "--env"))
    assert given["XILINX_VIVADO"] == str(vivado_root)
    assert given["HOME"] == "/build/vivado/home"


def test_the_version_inside_the_container_counts(docker, vivado_root, tmp_path):
    (vivado_root / "bin" / "fake.json").write_text('{"version": "2020.1"}')
    with pytest.raises(ToolNotFound, match=r"Vivado is version '2020\.1'; supported are"):
        require_goal("ooc_synth", boards.load("pynq-z1"), Docker(), tmp_path / "build")


def test_a_licence_file_is_mounted_and_a_server_gets_a_network(
    docker, vivado_root, tmp_path, monkeypatch
):
    licence = tmp_path / "x.lic"
    licence.write_text("x")
    monkeypatch.setenv("XILINXD_LICENSE_FILE", str(licence))
    require_vivado(Docker(), tmp_path / "build")
    monkeypatch.setenv("XILINXD_LICENSE_FILE", "2100@licences")
    require_vivado(Docker(), tmp_path / "build")
    first, second = docker.calls()
    inside = "/licence/xilinx.lic"
    assert f"type=bind,source={licence},target={inside},readonly" in options(first, "--mount")
    assert f"XILINXD_LICENSE_FILE={inside}" in options(first, "--env")
    assert options(first, "--network") == ["none"]
    assert "XILINXD_LICENSE_FILE=2100@licences" in options(second, "--env")
    assert options(second, "--network") == ["bridge"]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [(None, "XILINX_VIVADO is not set"), ("/nowhere", "which holds no bin/vivado")],
)
def test_vivado_must_be_named(docker, tmp_path, monkeypatch, value, sentence):
    if value is not None:
        monkeypatch.setenv("XILINX_VIVADO", value)
    with pytest.raises(ToolNotFound, match=sentence):
        require_vivado(Docker(), tmp_path / "build")


def test_a_licence_that_is_neither_file_nor_server(docker, vivado_root, tmp_path, monkeypatch):
    monkeypatch.setenv("XILINXD_LICENSE_FILE", "/gone.lic")
    with pytest.raises(ConfigError, match="neither a licence file nor port@server"):
        require_vivado(Docker(), tmp_path / "build")

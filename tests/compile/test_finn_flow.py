"""run_flow against a FINN interpreter that can be told how to fail."""

from __future__ import annotations

import stat
import sys
import textwrap
import time
from pathlib import Path

import pytest

from adaqat_hw import families
from adaqat_hw.compile.finn_flow import run_flow
from adaqat_hw.errors import StageFailed, ToolNotFound, UnsupportedNetwork
from adaqat_hw.schema import BuildRequest, BuildResult

REQUEST = BuildRequest(
    model="/nowhere/net.onnx", model_sha256="0" * 64, network="net", board="b", part="p",
    variant="qonnx", dsp=families.load("xcup").dsp, clock_ns=5.0, goal="estimate",
)  # fmt: skip


@pytest.fixture
def fake_finn(tmp_path, monkeypatch):
    """Make a FINN environment whose python runs ``code`` with FOLDER and ok() at hand."""

    def make(code: str) -> Path:
        folder = tmp_path / "env" / "bin"
        folder.mkdir(parents=True, exist_ok=True)
        python = folder / "python"
        prelude = f"""\
        #!{sys.executable}
        import json, os, sys, time, signal
        from pathlib import Path
        SCRIPT, REQUEST, FOLDER = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
        def result(status, **facts):
            body = dict(request_digest={REQUEST.digest()!r}, status=status, log="flow.log", **facts)
            (FOLDER / "result.json").write_text(json.dumps(body))
        """
        python.write_text(textwrap.dedent(prelude) + textwrap.dedent(code))
        python.chmod(python.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("ADAQAT_FINN_ENV", str(tmp_path / "env"))
        return tmp_path / "build"

    return make


def run(folder, **options):
    events = []
    return run_flow(REQUEST, folder, events.append, **options), events


def test_no_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("ADAQAT_FINN_ENV", str(tmp_path / "none"))
    with pytest.raises(ToolNotFound, match="adaqat-hw env create"):
        run(tmp_path / "build")


def test_result_and_progress_come_back(fake_finn):
    folder = fake_finn("""
        print(json.dumps({"step": "load", "index": 0, "total": 1, "seconds": 0.1}), flush=True)
        print("not json"); print("[1]")
        result("ok", tool_versions={"finn-plus": "9"})
    """)
    (result, graph), events = run(folder)
    assert result.tool_versions == {"finn-plus": "9"}
    assert graph is None
    assert events == [{"step": "load", "index": 0, "total": 1, "seconds": 0.1}]
    assert BuildRequest.read(folder / "request.json") == REQUEST


def test_the_environment_is_clean_and_inside_the_folder(fake_finn, monkeypatch):
    monkeypatch.setenv("SECRET_SETTING", "x")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    folder = fake_finn("""
        print(json.dumps(dict(os.environ)), flush=True)
        print(json.dumps({"found": sorted(os.listdir(os.environ["PYTHONPATH"]))}), flush=True)
        result("ok")
    """)
    _, (environment, found) = run(folder)
    assert "SECRET_SETTING" not in environment
    for name in ("HOME", "TMPDIR", "PYTHONPATH", "FINN_SETTINGS", "FINN_BUILD_DIR"):
        assert environment[name].startswith(str(folder)), name
    # Nothing but the two packages: its neighbours would shadow FINN's own packages.
    assert found == {"found": ["adaqat_hw", "flows"]}


def test_a_refusal_names_every_fault(fake_finn):
    folder = fake_finn("""
        result("refused", failed_step="check", unsupported=["Layer 'a': no.", "Layer 'b': no."])
        sys.exit(2)
    """)
    with pytest.raises(
        UnsupportedNetwork, match=r"'net' cannot be built. Layer 'a': no. Layer 'b'"
    ):
        run(folder)


def test_a_failure_tells_step_cause_and_log(fake_finn):
    folder = fake_finn("""
        result("failed", failed_step="streamline", message="KeyError: 'w'."); sys.exit(1)
    """)
    with pytest.raises(StageFailed) as caught:
        run(folder)
    log = folder / "flow.log"
    assert str(caught.value) == f"build/streamline failed: KeyError: 'w' (log: {log})"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("sys.exit(0)", "exit status 0 without a readable result"),
        (
            "sys.exit('ImportError: no module qonnx')",
            "its last words: ImportError: no module qonnx",
        ),
        ("os.kill(os.getpid(), 11)", "signal 11 without a readable result"),
        ("result('ok'); sys.exit(1)", "exit status 1 although its result says 'ok'"),
        ("result('failed', message='x')", "exit status 0 although its result says 'failed'"),
        ("(FOLDER / 'result.json').write_text('{')", "without a readable result"),
        ("result('ok', outputs=[{'path': 'hardware.json', 'sha256': ''}])", "files that are not"),
        ("result('ok', graph='hardware.json')", "does not exist"),
    ],
)
def test_a_result_that_cannot_be_believed_fails(fake_finn, code, text):
    folder = fake_finn(code)
    with pytest.raises(StageFailed, match=text):
        run(folder)


def test_a_result_of_another_request_fails(fake_finn):
    folder = fake_finn("""
        body = dict(request_digest="other", status="ok", log="flow.log")
        (FOLDER / "result.json").write_text(json.dumps(body))
    """)
    with pytest.raises(StageFailed, match="is of request 'other'"):
        run(folder)


def test_a_stale_result_is_not_believed(fake_finn):
    folder = fake_finn("sys.exit(0)")
    folder.mkdir()
    BuildResult(request_digest=REQUEST.digest(), status="ok", log="x").write(folder / "result.json")
    (folder / "hdl").mkdir()
    with pytest.raises(StageFailed, match="without a readable result"):
        run(folder)
    assert not (folder / "hdl").exists()


def test_a_hanging_flow_is_stopped_with_its_children(fake_finn):
    folder = fake_finn("""
        if os.fork() == 0:
            time.sleep(60); os._exit(0)
        time.sleep(60)
    """)
    started = time.monotonic()
    with pytest.raises(StageFailed, match=r"did not end within 0\.5 seconds"):
        run(folder, limit_s=0.5)
    assert time.monotonic() - started < 20


def test_an_interrupt_ends_the_process_group(fake_finn, tmp_path):
    folder = fake_finn("""
        child = os.fork()
        if child == 0:
            time.sleep(60); os._exit(0)
        (FOLDER / "pids").write_text(f"{os.getpid()} {child}")
        print(json.dumps({"step": "load"}), flush=True)
        time.sleep(60)
    """)

    def interrupt(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_flow(REQUEST, folder, interrupt)
    parent, child = map(int, (folder / "pids").read_text().split())
    deadline = time.monotonic() + 10
    while (_runs(parent) or _runs(child)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(parent)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"

"""The runner against real process trees: nothing is left when it returns, raises or is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from adaqat_hw.errors import ToolNotFound
from adaqat_hw.tools.leftover import MARK, end_leftover
from adaqat_hw.tools.run_program import Ended, run_program

# A program with a child and a grandchild; all of them would run for a minute.
TREE = """
import os, sys, time
from pathlib import Path
def write(pids):
    Path(sys.argv[1] + ".part").write_text(" ".join(map(str, pids)))
    os.replace(sys.argv[1] + ".part", sys.argv[1])
pids = [os.getpid()]
read, tell = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.write(tell, f"{os.getppid()} {os.getpid()}".encode())
        time.sleep(60)
        os._exit(0)
    time.sleep(60)
    os._exit(0)
pids += map(int, os.read(read, 99).split())
write(pids)
print("started", flush=True)
time.sleep(60)
"""
# A parent that runs the tree, in its main thread or in one of a pool.
PARENT = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from adaqat_hw.tools.run_program import run_program
from adaqat_hw.tools.signals import signals_end_programs
argv, folder, threads = [sys.executable, *sys.argv[1:3]], Path(sys.argv[3]), sys.argv[4] == "pool"
if not threads:
    run_program(argv, mark=folder)
else:
    stop = threading.Event()
    with signals_end_programs(), ThreadPoolExecutor() as pool:
        try:
            pool.submit(run_program, argv, stop=stop).result()
        except BaseException:
            stop.set()
            raise
"""


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def all_gone(pids: list[int]) -> bool:
    """Give signals that were sent the time to arrive."""
    deadline = time.monotonic() + 20
    while any(map(runs, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(runs, pids))


@pytest.fixture
def tree(tmp_path):
    """The tree's argument list; ``tree.pids()`` waits for it and returns its three processes."""
    script, noted = tmp_path / "tree.py", tmp_path / "pids"
    script.write_text(TREE)

    class Tree:
        argv = (sys.executable, str(script), str(noted))
        arguments = (str(script), str(noted))

        def pids(self) -> list[int]:
            deadline = time.monotonic() + 60
            while not noted.exists():
                assert time.monotonic() < deadline, "the tree did not start"
                time.sleep(0.02)
            pids = [int(word) for word in noted.read_text().split()]
            assert len(pids) == 3
            return pids

    return Tree()


@pytest.fixture
def parent(tree, tmp_path):
    """Start a process that runs the tree."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    started = []

    def start(how: str = "main") -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, str(script), *tree.arguments, str(tmp_path), how],
            preexec_fn=_default_signals,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
    end_leftover(tmp_path)


def _default_signals() -> None:
    """Undo what a shell's ``&`` and ``nohup`` do: children would ignore these signals too."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def shell(text: str, **options) -> Ended:
    return run_program(["/bin/sh", "-c", text], **options)


# ---- how it ends


@pytest.mark.parametrize("how", ["main", "pool"])
@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGTERM, 143),
        (signal.SIGHUP, 129),
        (signal.SIGINT, -signal.SIGINT),  # Python ends itself so after a KeyboardInterrupt
    ],
)
def test_a_signal_to_the_parent_ends_child_and_grandchildren(
    parent, tree, tmp_path, number, status, how
):
    process = parent(how)
    pids = tree.pids()
    assert all(map(runs, pids))
    process.send_signal(number)
    assert process.wait(timeout=60) == status
    assert all_gone(pids)
    assert not (tmp_path / MARK).exists()


def test_a_killed_parent_leaves_a_program_that_the_next_start_ends(parent, tree, tmp_path):
    process = parent()
    pids = tree.pids()
    process.kill()
    process.wait()
    assert all(map(runs, pids))
    assert end_leftover(tmp_path)
    assert all_gone(pids)
    assert not end_leftover(tmp_path)


def test_the_time_limit_ends_the_whole_group(tree):
    started = time.monotonic()
    ended = run_program(tree.argv, limit_s=2)
    assert ended.expired
    assert not ended.stopped
    assert time.monotonic() - started < 30
    assert all_gone(tree.pids())


def test_a_set_event_ends_the_whole_group(tree):
    stop = threading.Event()
    ended = []
    thread = threading.Thread(target=lambda: ended.append(run_program(tree.argv, stop=stop)))
    thread.start()
    pids = tree.pids()
    stop.set()
    thread.join(timeout=30)
    assert ended[0].stopped
    assert all_gone(pids)


def test_an_interrupt_in_the_listener_ends_the_whole_group_and_calls_on_stop(tree):
    calls = []

    def interrupt(line):
        calls.append(line)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_program(tree.argv, on_line=interrupt, on_stop=lambda: calls.append("on_stop"))
    assert calls == ["started", "on_stop"]
    assert all_gone(tree.pids())


def test_a_program_that_ignores_sigterm_is_killed(tree, monkeypatch):
    monkeypatch.setattr("adaqat_hw.tools.run_program._GRACE_S", 0.2)

    def interrupt(line):
        raise KeyboardInterrupt

    pids = []
    with pytest.raises(KeyboardInterrupt):
        shell("trap '' TERM; echo $$; sleep 60", on_line=lambda line: (pids.append(int(line)),
                                                                      interrupt(line)))  # fmt: skip
    assert all_gone(pids)


def test_what_a_program_leaves_behind_when_it_ends_is_ended(tmp_path):
    """Its child holds the pipe open; the wait is for the program, not for the pipe."""
    started = time.monotonic()
    ended = shell(f"sleep 60 & echo $! > {tmp_path}/pid; echo whole")
    assert ended == Ended(0, stdout="whole\n")
    assert time.monotonic() - started < 20
    assert all_gone([int((tmp_path / "pid").read_text())])


def test_a_handler_of_the_caller_stays():
    called = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: called.append(number))
    try:
        ended = shell(f"kill -TERM {os.getpid()}; sleep 0.3; echo done")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert called == [signal.SIGTERM]
    assert ended.stdout == "done\n"


def test_handlers_are_as_before_afterwards():
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    shell("true")
    after = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert after == before


def test_the_mark_lasts_as_long_as_the_program(tmp_path):
    ended = shell(f"sleep 0.2; cat {tmp_path}/{MARK}", mark=tmp_path)
    assert '"pid": ' in ended.stdout
    assert not (tmp_path / MARK).exists()


# ---- what it says


def test_the_log_is_whole_and_in_order(tmp_path):
    program = textwrap.dedent("""\
        import os
        for k in range(20000):
            os.write(1 + k % 2, f"{k} {'x' * 50}\\n".encode())
    """)
    lines = []
    log = tmp_path / "log"
    ended = run_program([sys.executable, "-c", program], log=log, on_line=lines.append)
    wanted = [f"{k} {'x' * 50}" for k in range(20000)]
    assert lines == wanted
    assert log.read_text().splitlines() == wanted
    assert ended == Ended(0)


def test_the_log_of_an_expired_program_holds_all_that_it_said(tmp_path):
    log = tmp_path / "log"
    assert shell("echo one; echo two >&2; sleep 60", log=log, limit_s=1).expired
    assert log.read_text() == "one\ntwo\n"


def test_separate_streams(tmp_path):
    log, lines = tmp_path / "log", []
    ended = shell("echo out; echo err >&2; printf rest", separate=True, log=log,
                  on_line=lines.append)  # fmt: skip
    assert lines == ["out", "rest"]
    assert log.read_text() == "err\n"
    assert ended == Ended(0)
    assert shell("echo out; echo err >&2", separate=True) == Ended(
        0, stdout="out\n", stderr="err\n"
    )
    assert shell("echo out; echo err >&2").stdout == "out\nerr\n"


def test_a_log_is_emptied_or_added_to(tmp_path):
    log = tmp_path / "log"
    log.write_text("old\n")
    shell("echo more", log=log, append=True)
    assert log.read_text() == "old\nmore\n"
    shell("echo new", log=log)
    assert log.read_text() == "new\n"


def test_bytes_that_are_no_text_and_lines_that_are_overwritten(tmp_path):
    lines = []
    shell(r"printf 'a\rb\r\nc\377d\n\303'", log=tmp_path / "log", on_line=lines.append)
    assert lines == ["a", "b", "c\ufffdd", "\ufffd"]
    assert (tmp_path / "log").read_bytes() == b"a\rb\r\nc\xffd\n\xc3"


def test_folder_and_environment(tmp_path):
    ended = shell("pwd; echo $A-$HOME", folder=tmp_path, environment={"A": "b"})
    assert ended.stdout == f"{tmp_path}\nb-\n"


# ---- how it failed


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("exit 3", "It ended with exit status 3, saying 'nothing'."),
        ("echo first; echo ' last '; echo; exit 3", "It ended with exit status 3, saying 'last'."),
        ("kill -SEGV $$", "It ended with signal 11, saying 'nothing'."),
        (
            "echo working; kill -KILL $$",
            "It ended with signal 9: it was killed, most likely because memory ran out: give the "
            "machine, or Docker, more memory or build a smaller design.",
        ),
        (
            "exit 137",
            "It ended with exit status 137: it was killed, most likely because memory ran out: "
            "give the machine, or Docker, more memory or build a smaller design.",
        ),
    ],
)
def test_a_failure_in_one_sentence(script, sentence):
    ended = shell(script)
    assert ended.failure("It", ended.stdout) == sentence


def test_a_missing_program_is_named_in_one_sentence(tmp_path):
    with pytest.raises(ToolNotFound) as caught:
        run_program([tmp_path / "nothing", "--version"])
    assert str(caught.value) == (
        f"'{tmp_path}/nothing' cannot be started (No such file or directory); check the "
        "installation."
    )


def test_a_program_of_another_machine_is_named_in_one_sentence(tmp_path):
    program = tmp_path / "foreign"
    program.write_bytes(b"\x7fELF nonsense")
    program.chmod(0o755)
    with pytest.raises(ToolNotFound) as caught:
        run_program([program])
    assert str(caught.value) == (
        f"'{program}' cannot be started (Exec format error); check the installation."
    )

"""Results under their digest: whole or not at all, for several processes, in any file system."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from adaqat_hw.tools import content_cache
from adaqat_hw.tools.content_cache import (
    find_facts,
    find_folder,
    keep_folder,
    put_file,
    store_facts,
    writable_folder,
)

NAMES = ("a.txt", "sub/b.txt")


class Maker:
    """Writes the files and counts how often it was called."""

    def __init__(self, text="text"):
        self.text, self.calls = text, 0

    def __call__(self, folder):
        self.calls += 1
        (folder / "sub").mkdir()
        (folder / "a.txt").write_text(self.text)
        (folder / "sub" / "b.txt").write_text("b")
        (folder / "scratch").write_text("not kept")
        return {"seconds": 1.5}


def test_a_result_is_made_once_and_found_again(tmp_path):
    make, target = Maker(), tmp_path / "cache" / "x-1"
    first = keep_folder(target, NAMES, make)
    again = keep_folder(target, NAMES, make)
    assert make.calls == 1
    assert (first.cached, again.cached) == (False, True)
    assert first.folder == again.folder == target
    assert first.facts == again.facts == {"seconds": 1.5}
    assert (target / "a.txt").read_text() == "text"
    kept = sorted(p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file())
    assert kept == ["a.txt", "kept.json", "sub/b.txt"]
    assert [p.name for p in target.parent.iterdir()] == ["x-1"]


def test_an_executable_stays_one(tmp_path):
    def make(folder):
        (folder / "run").write_text("#!/bin/sh\n")
        (folder / "run").chmod(0o755)
        return {}

    kept = keep_folder(tmp_path / "x", ["run"], make)
    assert (kept.folder / "run").stat().st_mode & 0o111 == 0o111


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "a.txt").write_text("tex"),
        lambda folder: (folder / "sub" / "b.txt").unlink(),
        lambda folder: (folder / "kept.json").write_text("{"),
        lambda folder: (folder / "kept.json").write_text('{"facts": 1, "files": {}}'),
        lambda folder: (folder / "kept.json").write_text('{"facts": {}, "files": {}}'),
        lambda folder: (folder / "kept.json").unlink(),
        lambda folder: (shutil.rmtree(folder), folder.write_text("a file")),
    ],
)
def test_a_damaged_result_is_made_again(tmp_path, damage):
    make, target = Maker(), tmp_path / "x"
    keep_folder(target, NAMES, make)
    damage(target)
    again = keep_folder(target, NAMES, make)
    assert make.calls == 2
    assert not again.cached
    assert (again.folder / "a.txt").read_text() == "text"


def test_a_failure_leaves_nothing(tmp_path):
    def make(folder):
        (folder / "a.txt").write_text("half")
        raise RuntimeError("no luck")

    with pytest.raises(RuntimeError, match="no luck"):
        keep_folder(tmp_path / "cache" / "x", NAMES, make)
    assert not (tmp_path / "cache" / "x").exists()


def test_two_that_make_the_same_at_once_agree(tmp_path):
    target, barrier, kept = tmp_path / "x", threading.Barrier(2), []

    def work(text):
        def make(folder):
            barrier.wait(timeout=30)  # both are at work, neither has stored
            return Maker(text)(folder)

        kept.append(keep_folder(target, NAMES, make))

    threads = [threading.Thread(target=work, args=(text,)) for text in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [k.folder for k in kept] == [target, target]
    found = find_folder(target)
    assert found is not None
    assert (target / "a.txt").read_text() in ("one", "two")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


RACE = """
import sys
from pathlib import Path
from adaqat_hw.tools.content_cache import find_facts, keep_folder, store_facts
cache = Path(sys.argv[1])
for k in range(100):
    def make(folder):
        (folder / "a").write_text(str(k) * 1000)
        return {}
    kept = keep_folder(cache / f"r{k % 5}", ["a"], make)
    text = (kept.folder / "a").read_text()
    assert len(text) in (1000, 2000) and len(set(text)) <= 2, text
    store_facts(cache / "f.json", {"k": k})
    assert find_facts(cache / "f.json") is not None
"""


def test_processes_share_a_cache(tmp_path):
    argv = [sys.executable, "-c", RACE, str(tmp_path)]
    started = [subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for process in started:
        assert (process.communicate()[1], process.returncode) == ("", 0)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["f.json", "r0", "r1", "r2", "r3", "r4"]


@pytest.fixture(params=["no folder", "no such place", "full", "read-only"])
def bad_cache(request, tmp_path, monkeypatch):
    """A cache that takes nothing (root may write anywhere, so two of them are feigned)."""
    cache = tmp_path / "cache"
    if request.param == "no folder":
        cache.write_text("a file is in the way")
        return cache
    if request.param == "no such place":
        return Path("/proc/adaqat")  # which answers ENOENT
    number = errno.ENOSPC if request.param == "full" else errno.EROFS
    real = content_cache.tempfile.mkdtemp

    def refuse(*args, dir=None, **options):
        if dir is not None and Path(dir).is_relative_to(cache):
            raise OSError(number, "no")
        return real(*args, dir=dir, **options)

    for name in ("mkdtemp", "mkstemp", "TemporaryFile"):
        monkeypatch.setattr(content_cache.tempfile, name, refuse)
    return cache


def test_a_cache_that_cannot_be_written_costs_time_only(bad_cache):
    make = Maker()
    for _ in range(2):
        kept = keep_folder(bad_cache / "x", NAMES, make)
        assert not kept.cached
        assert kept.facts == {"seconds": 1.5}
        assert (kept.folder / "sub" / "b.txt").read_text() == "b"
    assert make.calls == 2
    store_facts(bad_cache / "f.json", {"a": 1})
    assert find_facts(bad_cache / "f.json") is None
    other = writable_folder(bad_cache)
    assert not other.is_relative_to(bad_cache)
    assert list(other.iterdir()) == []
    other.rmdir()


def test_what_no_cache_took_is_removed_when_the_process_ends(tmp_path):
    code = (
        "import sys; from pathlib import Path; from adaqat_hw.tools.content_cache import *\n"
        "def make(folder):\n"
        "    (folder / 'a').write_text('x'); return {}\n"
        "kept = keep_folder(Path('/dev/null/x'), ['a'], make)\n"
        "print(kept.folder, (kept.folder / 'a').read_text())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    folder, text = done.stdout.split()
    assert text == "x"
    assert not Path(folder).exists()


def test_facts_are_checked(tmp_path):
    path = tmp_path / "cache" / "f.json"
    assert find_facts(path) is None
    store_facts(path, {"cells": {"LUT6": 7}})
    assert find_facts(path) == {"cells": {"LUT6": 7}}
    good = path.read_text()
    changed = json.loads(good)
    changed["body"]["cells"]["LUT6"] = 1
    for bad in ("", good[:-9], "[]", '{"body": 1, "sha256": "x"}', json.dumps(changed)):
        path.write_text(bad)
        assert find_facts(path) is None, bad
    assert [p.name for p in path.parent.iterdir()] == ["f.json"]


def test_a_file_is_put_whole(tmp_path):
    (tmp_path / "log").write_text("new")
    put_file(tmp_path / "log", tmp_path / "logs" / "tool.log")
    assert (tmp_path / "logs" / "tool.log").read_text() == "new"
    assert [p.name for p in (tmp_path / "logs").iterdir()] == ["tool.log"]


def test_a_writable_folder_is_made_and_taken(tmp_path):
    assert writable_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()

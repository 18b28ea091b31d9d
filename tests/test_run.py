from __future__ import annotations

import json
import multiprocessing
import re

import pytest

from adaqat_hw.errors import ConfigError
from adaqat_hw.run import (
    RunDirectory,
    done_for,
    export_inputs,
    is_done,
    stage_lock,
    stamp,
    tree_digest,
)
from adaqat_hw.schema import digest_of


@pytest.fixture
def stage(tmp_path):
    (tmp_path / "out.txt").write_text("result")
    stamp(tmp_path, {"a": 1}, ["out.txt"])
    return tmp_path


def test_a_stamped_stage_is_done_for_its_inputs_only(stage):
    assert is_done(stage, {"a": 1})
    assert not is_done(stage, {"a": 2})
    assert done_for(stage) == digest_of({"a": 1})


@pytest.mark.parametrize("damage", ["delete", "change", "truncate stamp", "delete stamp"])
def test_a_damaged_stage_is_not_done(stage, damage):
    if damage == "delete":
        (stage / "out.txt").unlink()
    elif damage == "change":
        (stage / "out.txt").write_text("other")
    elif damage == "truncate stamp":
        (stage / "stage.json").write_text('{"inp')
    else:
        (stage / "stage.json").unlink()
    assert done_for(stage) is None


def test_two_tasks_can_share_a_folder(stage):
    stamp(stage, {"b": 1}, ["out.txt"], "task-b.json")
    assert is_done(stage, {"a": 1})
    assert is_done(stage, {"b": 1}, "task-b.json")


def _try_lock(folder, queue):
    try:
        with stage_lock(folder):
            queue.put("held")
    except ConfigError as exc:
        queue.put(str(exc))


def test_a_second_process_is_refused(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    with stage_lock(tmp_path):
        other = context.Process(target=_try_lock, args=(tmp_path, queue))
        other.start()
        answer = queue.get(timeout=60)
        other.join()
    assert answer == f"Another process is working on '{tmp_path}'; wait for it or stop it."
    with stage_lock(tmp_path):
        pass


def test_the_manifest_only_grows(tmp_path):
    run = RunDirectory(tmp_path / "runs" / "x")
    run.note("train", variant="learned", accuracy=0.5)
    run.note("export", variant="learned")
    lines = [json.loads(line) for line in run.manifest.read_text().splitlines()]
    assert [line["stage"] for line in lines] == ["train", "export"]


def test_the_tree_digest_sees_every_byte_and_name(tmp_path):
    (tmp_path / "a.sv").write_text("module a; endmodule")
    first = tree_digest(tmp_path)
    (tmp_path / "a.sv").write_text("module b; endmodule")
    second = tree_digest(tmp_path)
    (tmp_path / "a.sv").rename(tmp_path / "b.sv")
    assert len({first, second, tree_digest(tmp_path)}) == 3


def test_an_export_needs_the_weights_of_its_training(tmp_path):
    gone = tmp_path / "checkpoint.pt"
    text = (
        f"The weights '{gone}' do not exist, though the training beside them is finished; restore "
        "the file, or delete the folder and train again."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        export_inputs(None, gone)

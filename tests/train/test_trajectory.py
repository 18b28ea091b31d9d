from __future__ import annotations

from pathlib import Path

from adaqat_hw.train.trajectory import Trajectory, read_trajectory


def _fill(path: Path, count: int) -> None:
    with Trajectory(path) as log:
        for step in range(count):
            log.write({"step": step})


def test_records_read_back_in_order(tmp_path: Path) -> None:
    _fill(tmp_path / "log.jsonl", 3)
    assert read_trajectory(tmp_path / "log.jsonl") == [{"step": 0}, {"step": 1}, {"step": 2}]


def test_a_new_training_starts_an_empty_log(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    _fill(path, 3)
    with Trajectory(path) as log:
        assert log.lines == 0
    assert read_trajectory(path) == []


def test_resume_drops_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    _fill(path, 5)
    with Trajectory(path, keep=2) as log:
        log.write({"step": 2, "again": True})
        assert log.lines == 3
    assert read_trajectory(path) == [{"step": 0}, {"step": 1}, {"step": 2, "again": True}]


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    _fill(path, 2)
    with path.open("a") as handle:
        handle.write('{"step": 2, "lo')
    assert read_trajectory(path) == [{"step": 0}, {"step": 1}]
    with Trajectory(path, keep=3) as log:
        assert log.lines == 2
        log.write({"step": 2})
    assert [r["step"] for r in read_trajectory(path)] == [0, 1, 2]

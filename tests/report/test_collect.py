from __future__ import annotations

import json

import pytest

from adaqat_hw.errors import ConfigError, ReportError
from adaqat_hw.report import collect


def test_plans_come_in_order_and_complete(full_run):
    run = collect(full_run)
    assert run.name == "digits-demo"
    assert [plan.variant for plan in run.plans] == ["float", "learned", "w8a8", "w4a4"]
    assert run.main is run.plan("learned")
    assert (run.missing, run.warnings, run.side_builds) == ((), (), ())
    assert all(plan.build.complete for plan in run.quantized)


def test_trajectories_carry_freezes(full_run):
    paths = {path.name: path for path in collect(full_run).plan("learned").widths}
    assert len(paths) == 10
    assert (paths["weights:conv1"].frozen_at, paths["weights:conv1"].frozen_by) == (
        500,
        "oscillation",
    )
    assert paths["weights:conv3"].frozen_at is None
    assert paths["weights:conv1"].bits[-1] == 5
    assert list(paths["acts:act1"].steps) == sorted(paths["acts:act1"].steps)


def test_a_run_that_was_only_trained_says_what_is_missing(maker):
    maker.train("learned", 0.97)
    run = collect(maker.run.root)
    assert run.name == maker.name
    assert run.missing == (
        "float: no full-precision baseline was trained",
        "uniform plans: none was trained to compare with",
        "learned: not exported to QONNX",
        "learned: not built",
    )


def test_a_refused_build_gives_its_reason(maker):
    maker.train("learned", 0.97)
    maker.export("learned")
    maker.refuse("learned")
    assert any(
        "build refused: layer 'fc2' has 1-bit weights" in m for m in collect(maker.run.root).missing
    )


@pytest.mark.parametrize(
    ("upto", "gaps"),
    [
        ("compile", {"not simulated", "not synthesized with Yosys"}),
        ("simulate", {"not synthesized with Yosys"}),
    ],
)
def test_an_unfinished_build_is_used_and_its_gaps_named(maker, upto, gaps):
    maker.train("learned", 0.97)
    maker.export("learned")
    maker.build("learned", upto=upto)
    run = collect(maker.run.root)
    assert {m.removeprefix("learned: ") for m in run.missing if m.startswith("learned")} == gaps
    assert run.main.build.graph.cycles_estimated == 1000


def test_an_unfinished_training_has_no_accuracy(maker):
    folder = maker.train("learned", 0.97)
    (folder / "result.json").unlink()
    run = collect(maker.run.root)
    assert run.main.accuracy is None
    assert "learned: training not finished, so no accuracy" in run.missing
    assert run.main.widths


def test_the_newest_complete_build_is_used(maker):
    maker.train("learned", 0.97)
    maker.export("learned")
    wanted = maker.build("learned", later=50)
    older = maker.build("learned", fifo_depth=4)
    cut = maker.build("learned", later=100, upto="compile", fifo_depth=8)
    run = collect(maker.run.root)
    assert run.main.build.folder == f"build/{wanted.name}"
    assert {side.build.folder for side in run.side_builds} == {
        f"build/{older.name}",
        f"build/{cut.name}",
    }


def test_other_plans_follow_the_learned_build_rather_than_the_clock(maker):
    for variant in ("learned", "w4a4"):
        maker.train(variant, 0.97)
        maker.export(variant)
    maker.build("learned")
    same = maker.build("w4a4")
    maker.build("w4a4", later=100, target_fps=10)
    run = collect(maker.run.root)
    assert run.plan("w4a4").build.folder == f"build/{same.name}"
    assert [side.reason for side in run.side_builds] == [
        "another board, clock, throughput or implementation"
    ]
    assert run.warnings == ()


def test_builds_that_do_not_compare_are_warned_about(maker):
    for variant, changes in (("learned", {}), ("w4a4", {"target_fps": 10})):
        maker.train(variant, 0.97)
        maker.export(variant)
        maker.build(variant, **changes)
    (warning,) = collect(maker.run.root).warnings
    assert warning.startswith("w4a4: built for pynq-z1, 10 ns, rtl, 10 frames/s asked")


def test_a_build_of_an_older_export_is_not_used(maker):
    maker.train("learned", 0.97)
    maker.export("learned")
    maker.build("learned", model_sha256="9" * 64)
    run = collect(maker.run.root)
    assert run.main.build is None
    assert run.side_builds[0].reason == "made from another export than the present one"
    assert "learned: not built" in run.missing


def test_a_wrong_rtl_is_warned_about(maker):
    maker.train("learned", 0.97)
    maker.export("learned")
    maker.build("learned", mismatches=3)
    assert "3 simulated frames DIFFER" in collect(maker.run.root).warnings[0]


def test_a_board_name_with_dashes_and_a_plan_variant(maker):
    maker.train("learned", 0.97)
    folder = maker.build("learned")
    target = folder.with_name(folder.name.replace("learned", "plan-abc123"))
    folder.rename(target)
    assert collect(maker.run.root).plan("plan-abc123").build is not None


def test_a_folder_without_records_is_no_run(tmp_path):
    (tmp_path / "train" / "learned").mkdir(parents=True)
    with pytest.raises(ConfigError, match="holds no training, export or build; give a run dir"):
        collect(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "train/learned/result.json",
        "train/w8a8/plan.json",
        "train/float/spec.json",
        "export/w4a4/artifact.json",
        "config.json",
    ],
)
@pytest.mark.parametrize("text", ["{", "[]", '{"record": "Other"}', "", '{"schema_version": 99}'])
def test_a_damaged_record_is_named(full_run, name, text):
    (full_run / name).write_text(text)
    with pytest.raises(ReportError, match=name.replace(".", r"\.")):
        collect(full_run)


@pytest.mark.parametrize(
    "name",
    [
        "request.json",
        "result.json",
        "hardware.json",
        "simulation.json",
        "board.json",
        "resources-finn_estimate.json",
        "resources-yosys_synth.json",
    ],
)
def test_a_damaged_build_record_is_named(full_run, name):
    (build,) = full_run.glob("build/learned-*")
    (build / name).write_bytes(b"\xff\x00")
    with pytest.raises(ReportError, match=name):
        collect(full_run)


def test_a_resource_file_of_another_stage_is_refused(full_run):
    (build,) = full_run.glob("build/learned-*")
    text = (build / "resources-yosys_synth.json").read_text()
    (build / "resources-finn_estimate.json").write_text(text)
    with pytest.raises(ReportError, match=r"resources-finn_estimate.json' says it is of stage"):
        collect(full_run)


@pytest.mark.parametrize("line", ["{not json}", "[1]", '"text"'])
def test_a_damaged_log_line_is_named(full_run, line):
    path = full_run / "train" / "learned" / "log.jsonl"
    path.write_text('{"event": "epoch"}\n' + line + "\n")
    with pytest.raises(ReportError, match=r"log\.jsonl', line 2"):
        collect(full_run)


def test_strange_log_rows_are_left_out(full_run):
    rows = [
        {"event": "widths", "step": "x", "real": {"weights": 1.0}},
        {"event": "widths", "step": 1, "real": {"weights": None, "acts": float("nan")}},
        {"event": "widths", "step": 2, "real": 7, "freezes": [None, {"name": 3}]},
        {"event": "unheard of"},
    ]
    path = full_run / "train" / "learned" / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert collect(full_run).plan("learned").widths == ()


def test_a_plan_of_another_network_is_refused(full_run, maker):
    maker.bits = {"other": (4, 4)}
    maker.plan("learned").write(full_run / "train" / "learned" / "plan.json")
    with pytest.raises(ReportError, match=r"plan.json' contradicts 'spec.json'.*other"):
        collect(full_run)

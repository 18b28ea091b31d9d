from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from adaqat_hw import schema
from adaqat_hw.errors import ConfigError, ReportError
from adaqat_hw.report import (
    build_summary,
    collect,
    render,
    render_build,
    to_json,
    to_markdown,
    write_report,
)
from adaqat_hw.report.builds import describe, read_build, setting
from adaqat_hw.report.cards import cards
from adaqat_hw.report.content import plans_table
from adaqat_hw.report.findings import findings
from adaqat_hw.schema import ThroughputRequest
from tests.error_texts import raises_text

SLOW = ThroughputRequest(kind="fps", fps=10, fill=1.0)


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
    maker.build("w4a4", later=100, throughput=SLOW)
    run = collect(maker.run.root)
    assert run.plan("w4a4").build.folder == f"build/{same.name}"
    assert [side.reason for side in run.side_builds] == [
        "another board, clock, throughput or implementation"
    ]
    assert run.warnings == ()


def test_builds_that_do_not_compare_are_warned_about(maker):
    for variant, changes in (("learned", {}), ("w4a4", {"throughput": SLOW})):
        maker.train(variant, 0.97)
        maker.export(variant)
        maker.build(variant, **changes)
    assert collect(maker.run.root).warnings == (
        "w4a4: built for pynq-z1, 10 ns, rtl, 10 frames/s asked, folded by measured costs, MVAU "
        "lut; the learned plan for pynq-z1, 10 ns, rtl, 100,000 frames/s asked, folded by measured "
        "costs, MVAU lut, so their resources do not compare.",
    )


FIT = ThroughputRequest(kind="fit", fill=0.7)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"folding": {"MVAU_0": {"PE": 8, "SIMD": 8}}}, "folding given by hand"),
        ({"folding": None}, "no throughput asked (PE = SIMD = 1)"),
    ],
)
def test_one_request_without_a_frame_rate_is_not_another(maker, changes, words):
    """PE 1, SIMD 1 and PE 8, SIMD 8 read alike once."""
    asked = {
        "throughput": ThroughputRequest(kind="folding"),
        "folding": {"MVAU_0": {"PE": 1, "SIMD": 1}},
    }
    if changes["folding"] is None:
        changes = {**changes, "throughput": ThroughputRequest()}
    builds = [read_build(maker.build("learned", **(asked | more))) for more in ({}, changes)]
    assert setting(builds[0]) != setting(builds[1])
    assert describe(builds[1]) == f"pynq-z1, 10 ns, rtl, {words}, MVAU lut"


def test_implementations_that_the_folding_chose_do_not_make_another_setting(maker):
    builds = [
        read_build(maker.build(variant, folded_impl={"fc1": impl}))
        for variant, impl in (("learned", "lut"), ("w8a8", "dsp"))
    ]
    assert setting(builds[0]) == setting(builds[1])


PACE = (
    "What is compared runs at different throughput (cycles per frame: learned 1,028, w4a4 9,216), "
    "so its LUTs are not for equal work; build with one --fps for all."
)


def test_plans_at_different_throughput_are_said_to_be_so_everywhere(maker, tmp_path):
    """Each is the fastest of its board: the same request, and no equal work."""
    for variant, cycles in (("learned", 1027.5), ("w4a4", 9216.0)):
        maker.train(variant, 0.97)
        maker.export(variant)
        maker.build(variant, throughput=FIT, cycles=cycles)
    run = collect(maker.run.root)
    assert run.warnings == (PACE,)
    assert to_json([run])["warnings"] == [PACE]
    assert PACE in to_markdown([run])
    console = Console(file=io.StringIO(), width=400)
    console.print(render([run]))
    assert f"WARNING: {PACE}" in console.file.getvalue()
    page = write_report([maker.run.root], tmp_path / "out")[0].read_text(encoding="utf-8")
    assert f"<p class='alarm'>{PACE}</p>" in page
    area = next(line for line in findings(run) if "takes" in line and "the LUTs" in line)
    assert area.endswith("the LUTs, at 9,216 cycles per frame instead of 1,028.")
    assert all("takes" not in card.beside for card in cards(run))
    table = plans_table(run)
    heads = [column.head for column in table.columns]
    assert heads[heads.index("LUT") + 1] == "cycles / frame"
    assert [row[heads.index("cycles / frame")].text for row in table.rows] == ["1,028", "9,216"]
    rows = {(r["plan"], r["source"]): r["cycles_per_frame"] for r in to_json([run])["resources"]}
    assert rows["w4a4", "yosys_synth"] == 9216.0
    assert rows["w4a4", "finn_estimate"] == 1000


def test_runs_at_different_throughput_are_said_to_be_so(make_maker, tmp_path):
    for name, cycles in (("a", 1027.5), ("b", 9216.0)):
        maker = make_maker(tmp_path, name=name)
        maker.train("learned", 0.97)
        maker.export("learned")
        maker.build("learned", cycles=cycles)
    reports = [collect(tmp_path / name) for name in "ab"]
    sentence = PACE.replace("learned", "a").replace("w4a4", "b")
    assert to_json(reports)["warnings"] == [sentence]
    assert sentence in to_markdown(reports)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"throughput": ThroughputRequest(), "folding": None},
            "No throughput was asked for, so every PE and SIMD is 1, the slowest there is: 1,028 "
            "cycles per frame, 97,324 frames/s at 10 ns; --fps N folds to a frame rate, --fit "
            "pynq-z1 to the fastest that fits, --unfolded asks for this one.",
        ),
        (
            {"target_fps": 100_000, "folding": None, "folding_note": "Nothing was measured."},
            "FINN's own folding was driven to 100,000 frames/s, for measured costs cannot decide: "
            "Nothing was measured.",
        ),
        ({"throughput": ThroughputRequest(kind="unfolded"), "folding": None}, None),
        ({}, None),
    ],
)
def test_a_folding_that_nobody_would_expect_is_said(maker, changes, sentence):
    maker.train("learned", 0.97)
    maker.export("learned")
    folder = maker.build("learned", **changes)
    run = collect(maker.run.root)
    assert to_json([run])["throughput"]["note"] == sentence
    assert build_summary(folder)["throughput"]["note"] == sentence
    assert (sentence in findings(run)) is (sentence is not None)
    console = Console(file=io.StringIO(), width=400)
    console.print(render_build(folder))
    assert sentence is None or sentence in console.file.getvalue()


def test_an_estimate_speaks_for_a_plan_that_has_no_other_build(maker):
    """Foldings are searched from estimates, which lie beside the builds."""
    maker.train("learned", 0.97)
    maker.export("learned")
    unfolded = ThroughputRequest(kind="unfolded")
    estimate = maker.build(
        "learned", later=100, upto="compile", goal="estimate", throughput=unfolded, folding=None
    )
    assert collect(maker.run.root).main.build.folder == f"build/{estimate.name}"
    wanted = maker.build("learned", upto="compile")
    run = collect(maker.run.root)
    assert run.main.build.folder == f"build/{wanted.name}"
    assert [(s.build.folder, s.reason) for s in run.side_builds] == [
        (f"build/{estimate.name}", "built for estimates only")
    ]


def test_a_build_of_another_release_is_named_and_left_out(maker):
    maker.train("learned", 0.97)
    maker.export("learned")
    folder = maker.build("learned")
    body = json.loads((folder / "request.json").read_text())
    (folder / "request.json").write_text(json.dumps(body | {"schema_version": 1}))
    run = collect(maker.run.root)
    why = (
        f"another release made it: {str(folder / 'request.json')!r} has BuildRequest version 1; "
        "this release reads version 2: run the stage again."
    )
    assert run.main.build is None
    assert f"build/{folder.name}: {why}" in run.missing
    assert to_json([run])["builds_not_used"] == [{"build": f"build/{folder.name}", "reason": why}]


def test_a_folder_without_a_request_is_named_and_left_out(maker):
    maker.train("learned", 0.97)
    folder = maker.build("learned")
    (folder / "request.json").unlink()
    run = collect(maker.run.root)
    assert run.main.build is None
    assert f"build/{folder.name}: it has no request.json: build again" in run.missing


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


def test_the_variant_is_the_requests_whatever_the_folder_is_called(maker):
    maker.train("learned", 0.97)
    maker.build("learned").rename(maker.run.root / "build" / "kept-for-later")
    assert collect(maker.run.root).plan("learned").build.folder == "build/kept-for-later"


def test_a_folder_without_records_is_no_run(tmp_path):
    (tmp_path / "train" / "learned").mkdir(parents=True)
    with raises_text(
        ConfigError,
        f"'{tmp_path}' holds no "
        "training, export or build; give a run directory, such as runs/demo.",
    ):
        collect(tmp_path)


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("train/learned/result.json", "TrainResult"),
        ("train/w8a8/plan.json", "BitWidthPlan"),
        ("train/float/spec.json", "NetworkSpec"),
        ("export/w4a4/artifact.json", "QonnxArtifact"),
        ("config.json", "RunConfig"),
    ],
)
@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            "{",
            "{record} '{path}' is not valid JSON (Expecting property name enclosed in double "
            "quotes: line 1 column 2 (char 1)); it is damaged or was edited wrongly: delete it and "
            "run the stage again.",
        ),
        (
            "",
            "{record} '{path}' is not valid JSON (Expecting value: line 1 column 1 (char 0)); it "
            "is "
            "damaged or was edited wrongly: delete it and run the stage again.",
        ),
        ("[]", "{record} '{path}' must hold one JSON object."),
        ('{"record": "Other"}', "'{path}' holds a 'Other' record, not a '{record}'."),
        (
            '{"schema_version": 99}',
            "'{path}' has {record} version 99; this release reads version VERSION: REMEDY.",
        ),
    ],
)
def test_a_damaged_record_is_named(full_run, name, record, body, text):
    path = full_run / name
    path.write_text(body)
    version = str(getattr(schema, record).schema_version)
    remedy = {
        "RunConfig": "another release made the run; start it again with 'adaqat-hw run CONFIG' "
        "under another name, or delete its folder first"
    }.get(record, "run the stage again")
    text = text.replace("VERSION", version).replace("REMEDY", remedy)
    with raises_text(ReportError, text.format(path=path, record=record)):
        collect(full_run)


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("request.json", "BuildRequest"),
        ("result.json", "BuildResult"),
        ("hardware.json", "HardwareGraph"),
        ("simulation.json", "SimulationResult"),
        ("board.json", "Board"),
        ("resources-finn_estimate.json", "ResourceReport"),
        ("resources-yosys_synth.json", "ResourceReport"),
    ],
)
def test_a_damaged_build_record_is_named(full_run, name, record):
    (build,) = full_run.glob("build/learned-*")
    (build / name).write_bytes(b"\xff\x00")
    with raises_text(
        ReportError,
        f"{record} '{build / name}' cannot be read: 'utf-8' codec can't decode byte 0xff in "
        "position 0: invalid start byte.",
    ):
        collect(full_run)


def test_a_resource_file_of_another_source_is_refused(full_run):
    (build,) = full_run.glob("build/learned-*")
    text = (build / "resources-yosys_synth.json").read_text()
    (build / "resources-finn_estimate.json").write_text(text)
    with raises_text(
        ReportError,
        f"'{build}/resources-finn_estimate.json' "
        "says its source is 'yosys_synth'; that source's file is "
        "'resources-yosys_synth.json': delete the one that is wrong.",
    ):
        collect(full_run)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            "{not json}",
            "is not valid JSON (Expecting property name enclosed in double quotes: line 1 column 2 "
            "(char 1)); delete the training's folder and train again.",
        ),
        ("[1]", "holds '[1]', not a JSON object."),
        ('"text"', "holds 'text', not a JSON object."),
    ],
)
def test_a_damaged_log_line_is_named(full_run, line, fault):
    path = full_run / "train" / "learned" / "log.jsonl"
    path.write_text('{"event": "epoch"}\n' + line + "\n")
    with raises_text(ReportError, f"Training log '{path}', line 2 {fault}"):
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
    with raises_text(
        ReportError,
        f"'{full_run}/train/learned/plan.json' contradicts 'spec.json' beside it: The "
        "plan for 'demo-cnn' does not fit network 'demo-cnn': it lacks ['conv1', "
        "'conv2', 'conv3', 'fc1', 'fc2'] and has ['other'], which the network lacks; "
        "give one row per layer.",
    ):
        collect(full_run)

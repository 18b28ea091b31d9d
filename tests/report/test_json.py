from __future__ import annotations

import json

import pytest

from adaqat_hw.report import build_summary, collect, fit_json, to_json
from adaqat_hw.report.findings import findings
from adaqat_hw.schema import Power, Timing, VivadoResult


@pytest.fixture
def body(full_run):
    return to_json([collect(full_run)])


def test_it_is_plain_json(body):
    assert json.loads(json.dumps(body, allow_nan=False)) == body


def test_headline_keys(body):
    assert body["name"] == "digits-demo"
    assert body["accuracy"] == {"float": 0.9861, "quantized": 0.9806}
    macs = (27_648, 147_456, 73_728, 16_384, 640)
    bits = (40, 12, 6, 6, 30)
    assert body["bitops"] == sum(m * b for m, b in zip(macs, bits, strict=True))
    inner = (9_216, 18_432, 16_384)
    stored = 9_216 * 3 + 18_432 * 2 + 16_384 * 2
    assert body["weight_compression"] == pytest.approx(32 * sum(inner) / stored)
    first = body["plan"][0]
    assert (first["layer"], first["weight_bits"], first["act_bits"]) == ("conv1", 5, 8)


def test_verify_and_throughput(body):
    verify = body["verify"]
    assert verify["torch_qonnx_max_abs_error"] == 1.9e-6
    assert verify["torch_qonnx_argmax_agreement"] == 1.0
    assert (verify["rtl_frames"], verify["rtl_mismatches"]) == (140, 0)
    throughput = body["throughput"]
    assert throughput["cycles_per_frame_estimated"] == 1000
    assert throughput["cycles_per_frame_measured"] == 1027.5
    assert throughput["latency_cycles"] == 3310
    assert throughput["fps_at_requested_clock"] == pytest.approx(1e9 / 10275)


def test_resources_hold_every_plan_at_both_stages(body):
    rows = body["resources"]
    assert [(r["plan"], r["source"]) for r in rows] == [
        (plan, source)
        for plan in ("learned", "w8a8", "w4a4")
        for source in ("finn_estimate", "yosys_synth")
    ]
    for row in rows:
        assert row["part"] == "xc7z020clg400-1"
        for name in ("lut", "ff", "dsp", "bram_18k"):
            assert row[name] == sum(layer[name] for layer in row["layers"])
        assert [layer["layer"] for layer in row["layers"]] == [p["layer"] for p in body["plan"]]


@pytest.mark.parametrize("slack", [0.25, -0.312])
def test_what_vivado_made_is_told(maker, slack):
    """Timing, power and use of the board; a miss is a warning and a gap, never hidden."""
    maker.train("learned", 0.97)
    maker.export("learned")
    folder = maker.build("learned", goal="bitfile")
    placed = maker.resources("learned", "vivado_impl").model_copy(
        update={"slack_ns": slack, "fmax_mhz": 1000 / (10 - slack)}
    )
    placed.write(folder / "resources-vivado_impl.json")
    timing = Timing(
        wns_ns=slack, tns_ns=0, whs_ns=0.1, ths_ns=0, failing_endpoints=0, met=slack >= 0
    )
    VivadoResult(
        goal="bitfile", part="xc7z020clg400-1", clock_ns=10, vivado="2022.2", timing=timing,
        power=Power(total_w=1.25, dynamic_w=1, static_w=0.25, confidence="Low"),
        files=("deploy/accelerator.bit",) if slack >= 0 else (),
    ).write(folder / "vivado.json")  # fmt: skip
    report = collect(maker.run.root)
    body = to_json([report])
    assert body["throughput"]["slack_ns"] == slack
    assert body["throughput"]["fmax_mhz"] == pytest.approx(1000 / (10 - slack))
    made = body["plans"][0]["vivado"]
    assert made["power"]["total_w"] == 1.25
    assert made["fits_board"] is True
    assert made["utilisation"]["lut"] == pytest.approx(placed.total.lut / 53200)
    (said,) = (line for line in findings(report) if line.startswith("Vivado 2022.2 places"))
    assert f"worst slack {slack:+.3f} ns at 10 ns" in said
    assert "1.25 W estimated, confidence Low" in said
    missed = slack < 0
    assert ("TIMING IS MISSED" in said) is missed
    assert ("bitstream in" in said) is not missed
    assert any("timing is NOT MET" in line for line in body["warnings"]) is missed
    assert any("goal bitfile is not reached" in line for line in body["missing"]) is missed


def test_what_is_not_reported_is_null(maker):
    maker.train("learned", 0.97)
    maker.export("learned")
    maker.build("learned", unreported=("bram_18k",))
    maker.train("w4a4", 0.9)
    body = to_json([collect(maker.run.root)])
    assert body["accuracy"]["float"] is None
    by_key = {(r["plan"], r["source"]): r for r in body["resources"]}
    assert by_key["learned", "yosys_synth"]["bram_18k"] is None
    synthesis = by_key["learned", "yosys_synth"]
    assert synthesis["lut"] == sum(layer["lut"] for layer in synthesis["layers"])
    assert body["fits_board"] is None
    unbuilt = by_key["w4a4", "yosys_synth"]
    assert [unbuilt[k] for k in ("part", "lut", "ff", "dsp", "bram_18k", "layers")] == [None] * 6
    assert "w4a4: not built" in body["missing"]


def test_a_trained_run_has_no_invented_numbers(maker):
    maker.train("learned", 0.97)
    body = to_json([collect(maker.run.root)])
    assert all(value is None for value in body["verify"].values())
    assert all(value is None for value in body["throughput"].values())
    assert (body["board"], body["fits_board"]) == (None, None)


def test_no_free_pass_gives_no_timing(maker):
    maker.train("learned", 0.97)
    folder = maker.build("learned")
    path = folder / "simulation.json"
    result = json.loads(path.read_text())
    result["passes"] = [p for p in result["passes"] if p["stalls"]]
    path.write_text(json.dumps(result))
    throughput = to_json([collect(maker.run.root)])["throughput"]
    assert throughput["cycles_per_frame_measured"] is None
    assert throughput["fps_at_requested_clock"] is None


def test_timing_is_read_from_the_real_pass_without_stalls_wherever_it_stands(maker):
    maker.train("learned", 0.97)
    path = maker.build("learned") / "simulation.json"
    result = json.loads(path.read_text())
    other = result["passes"][0] | {"kind": "extreme", "cycles_per_frame": 5.0}
    result["passes"] = [*result["passes"][1:], other, result["passes"][0]]
    path.write_text(json.dumps(result))
    throughput = to_json([collect(maker.run.root)])["throughput"]
    assert (throughput["cycles_per_frame_measured"], throughput["latency_cycles"]) == (1027.5, 3310)


def test_several_runs(maker, full_run, make_maker):
    other = make_maker(maker.root, name="other").all()
    body = to_json([collect(full_run), collect(other)])
    assert [run["name"] for run in body["runs"]] == ["digits-demo", "other"]
    assert len(body["fits"]["points"]) == 30


def test_a_plan_that_is_too_large(make_maker, tmp_path):
    body = to_json([collect(make_maker(tmp_path, scale=12).all())])
    learned = next(p for p in body["plans"] if p["plan"] == "learned")
    assert body["fits_board"] is False
    assert learned["utilisation"]["lut"] > 1
    assert learned["over"][0].startswith("LUT 1")


def test_a_resource_that_the_board_lacks_stays_json(make_maker, tmp_path):
    run = make_maker(tmp_path).all()
    (build,) = run.glob("build/learned-*")
    path = build / "resources-yosys_synth.json"
    report = json.loads(path.read_text())
    report["total"]["uram"] = 3
    path.write_text(json.dumps(report))
    body = to_json([collect(run)])
    json.dumps(body, allow_nan=False)
    assert next(p for p in body["plans"] if p["plan"] == "learned")["over"] == ["URAM not on board"]


def test_fits_recover_what_the_counts_were_made_of(full_run):
    body = fit_json([collect(full_run)])
    first = body["fits"][0]
    assert (first["target"], first["impl"], first["features"]) == (
        "lut",
        "lut",
        ["bitops_per_cycle"],
    )
    assert first["fit"]["coefficients"]["bitops_per_cycle"] == pytest.approx(2.1, abs=0.1)
    assert first["fit"]["n"] == 15
    point = body["points"][0]
    assert point["bitops_per_cycle"] == 4 * 3 * 5 * 8
    assert "one network, demo-cnn" in body["verdict"][-1]
    assert "not from Vivado" in body["verdict"][-1]


def test_a_line_carried_by_one_point_is_called_that(full_run):
    for path in full_run.glob("build/*/resources-yosys_synth.json"):
        report = json.loads(path.read_text())
        for i, row in enumerate(report["layers"]):
            big = path.parent.name.startswith("w8a8") and row["layer"] == "conv3"
            row["resources"]["lut"] = 50_000 if big else 500 + 400 * (i % 2)
        path.write_text(json.dumps(report))
    body = fit_json([collect(full_run)])
    assert body["fits"][0]["largest_layer"] == "w8a8 / conv3"
    assert body["fits"][0]["r2_without_largest"] < 0.5
    assert "Without the largest layer (w8a8 / conv3) R² is 0." in body["verdict"][0]
    assert "one point carries the line" in body["verdict"][0]


def test_luts_of_two_families_are_never_one_line(full_run):
    (path,) = full_run.glob("build/w4a4-*/board.json")
    board = json.loads(path.read_text())
    path.write_text(json.dumps(board | {"family": "ecp5"}))
    body = fit_json([collect(full_run)])
    assert "w4a4" not in {point["plan"] for point in body["points"]}
    assert body["points"]
    assert body["left_out"] == ["w4a4: synthesized for ecp5, most others for xc7"]


def test_dsp_builds_get_their_own_fits(make_maker, tmp_path):
    body = fit_json([collect(make_maker(tmp_path, impl="dsp").all())])
    assert [(f["target"], f["impl"]) for f in body["fits"]] == [("lut", "dsp"), ("dsp", "dsp")]


def test_no_synthesis_gives_no_fit_and_says_so(maker):
    maker.train("learned", 0.97)
    body = fit_json([collect(maker.run.root)])
    assert (body["points"], body["fits"]) == ([], [])
    assert body["verdict"][0].startswith("No layer was synthesized")
    assert body["left_out"] == ["learned: no hardware graph"]


def test_summary_of_one_build(full_run):
    (folder,) = full_run.glob("build/w4a4-*")
    body = build_summary(folder)
    assert body["name"] == "w4a4"
    assert body["verify"]["rtl_mismatches"] == 0
    assert [r["source"] for r in body["resources"]] == ["finn_estimate", "yosys_synth"]
    assert (body["fits_board"], body["missing"]) == (True, [])

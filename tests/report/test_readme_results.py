"""README's results: every number is held by docs/benchmarks/readme.json or by a dated page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from adaqat_hw.report import collect, to_json
from benchmarks import readme_results
from benchmarks.readme_results import ROOT, demo_record, replaced, table_of_demo, tables

RECORD = json.loads(readme_results.RECORD.read_text(encoding="utf-8"))
README = readme_results.README.read_text(encoding="utf-8")


def words(text: str) -> str:
    return " ".join(text.split())


def page(name: str) -> str:
    return words((ROOT / name).read_text(encoding="utf-8"))


def block(name: str) -> str:
    return README.partition(f"<!-- {name}:begin -->\n")[2].partition(f"<!-- {name}:end -->")[0]


@pytest.mark.parametrize("name", ["demo-table", "training-table"])
def test_the_tables_are_those_of_the_record(name):
    assert block(name) == tables(RECORD)[name]


def test_the_numbers_of_the_demo_stand_on_its_page():
    text, demo = page(RECORD["demo"]["page"]), RECORD["demo"]
    assert [plan["plan"] for plan in demo["plans"]] == ["learned", "w8a8", "w4a4"]
    for plan in demo["plans"]:
        for count in ("lut_yosys_synth", "lut_finn_estimate", "ff_yosys_synth"):
            assert f" {plan[count]:,} " in text, (plan["plan"], count)
        assert f"| {plan['plan']} | " in text
        assert f"{100 * plan['accuracy']:.2f} %" in text
    assert f"{100 * demo['float_accuracy']:.2f} %" in text


def test_the_rows_of_training_stand_on_their_page():
    training = RECORD["training"]
    text = page(training["source"])
    rows = [line for line in block("training-table").splitlines()[2:] if line.startswith("|")]
    assert len(rows) == len(training["rows"]) > 10
    for row in training["rows"]:
        head = f"| {row['training']} | {row['starts_from']} | {row['epochs']} |"
        (line,) = [x for x in _rows(training["source"]) if x.startswith(head)]
        assert f"| {row['bits'] or '-'} |" in line
        assert f"| {100 * row['accuracy']:.2f} % |" in line
        assert row["bitops"] is None or f"| {row['bitops']:,} |" in line
    assert f"n = {training['test_samples']:,} test images" in text


def _rows(name: str) -> list[str]:
    return [x for x in (ROOT / name).read_text(encoding="utf-8").splitlines() if x.startswith("|")]


@pytest.mark.parametrize("claim", RECORD["claims"], ids=lambda claim: claim["text"][:40])
def test_a_sentence_has_its_numbers_from_the_page_it_names(claim):
    assert words(claim["text"]) in words(README)
    assert claim["numbers"]
    for number in claim["numbers"]:
        assert words(number) in page(claim["source"]), number


def test_no_number_of_the_results_stands_outside_the_record():
    text = README.partition("<!-- results:begin -->")[2].partition("<!-- results:end -->")[0]
    for name in ("demo-table", "training-table"):
        text = text.replace(block(name), "")
    text = words(re.sub(r"\]\([^)]*\)|<!--.*?-->", "", text))
    for claim in RECORD["claims"]:
        text = text.replace(words(claim["text"]), "")
    # Digits that are part of a name (ResNet20, MobileNetV1) follow a letter.
    assert re.findall(r"(?<![\w.])\d[\d.,/]*", text) == []


def test_the_script_takes_the_numbers_of_a_finished_run(full_run, tmp_path, monkeypatch):
    report = to_json([collect(full_run)])
    for name in ("RECORD", "README"):
        copy = tmp_path / getattr(readme_results, name).name
        copy.write_text(getattr(readme_results, name).read_text(encoding="utf-8"))
        monkeypatch.setattr(readme_results, name, copy)
    page_of_demo = ROOT / RECORD["demo"]["page"]
    assert readme_results.main([str(full_run), "--page", str(page_of_demo)]) == 0
    written = json.loads(readme_results.RECORD.read_text())
    assert written["demo"] == demo_record(report, RECORD["demo"]["page"])
    assert (written["training"], written["claims"]) == (RECORD["training"], RECORD["claims"])
    learned = written["demo"]["plans"][0]
    synthesis = next(
        row
        for row in report["resources"]
        if (row["plan"], row["source"]) == ("learned", "yosys_synth")
    )
    assert learned["plan"] == "learned"
    assert learned["accuracy"] == 0.9806
    assert learned["bitops"] == report["bitops"]
    assert learned["lut_yosys_synth"] == synthesis["lut"]
    assert (learned["cycles_simulated"], learned["cycles_finn_estimate"]) == (1027.5, 1000)
    assert written["demo"]["float_accuracy"] == 0.9861
    text = readme_results.README.read_text()
    assert table_of_demo(written["demo"]) in text
    assert f"| learned | 98.06 % | {report['bitops']:,} | {synthesis['lut']:,} |" in text


def test_a_run_without_builds_has_no_numbers_for_the_readme(maker):
    maker.train("learned", 0.97)
    with pytest.raises(ValueError, match=r"^run 'digits-demo' has plans without a complete build$"):
        demo_record(to_json([collect(maker.run.root)]), "page.md")


def test_a_page_without_markers_is_an_error():
    with pytest.raises(ValueError, match=r"^the page has no markers '<!-- x:begin -->' and "):
        replaced("text", "x", "block")


def test_the_named_pages_exist():
    named = {RECORD["demo"]["page"], RECORD["training"]["source"], RECORD["demo"]["config"]}
    named |= {claim["source"] for claim in RECORD["claims"]}
    assert [name for name in named if not Path(ROOT / name).is_file()] == []

from __future__ import annotations

import io
import json
import os
import re
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from adaqat_hw.errors import ConfigError
from adaqat_hw.report import collect, render, render_build, render_fit, to_markdown, write_report
from tests.error_texts import raises_text

GOLDEN = Path(__file__).parent / "golden" / "report.md"
EVIL = "<img src=http://evil.example/x onerror=alert(1)>$x_y|`[b]\x1b"
VOID = {"meta", "img", "br", "link", "hr", "input"}


class Reader(HTMLParser):
    """Collect tags, attributes and text; complain about unbalanced tags."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read_page(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader


def shown(renderable: object, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()


def page_of(paths: list[Path]) -> Path:
    return next(path for path in paths if path.name == "report.html")


def test_markdown_is_the_golden_one(full_run):
    text = to_markdown([collect(full_run)])
    if os.environ.get("ADAQAT_REFRESH_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8"), "refresh with ADAQAT_REFRESH_GOLDEN=1"


def test_all_files_are_written_and_equal_records_give_equal_bytes(full_run, tmp_path):
    first = write_report([full_run], tmp_path / "a")
    second = write_report([full_run], tmp_path / "b")
    names = [str(p.relative_to(tmp_path / "a")) for p in first]
    assert names == [
        "report.html",
        "report.json",
        "report.md",
        *(
            f"figures/{key}.svg"
            for key in (
                "accuracy-cost",
                "learning",
                "widths",
                "trajectories",
                "integers",
                "estimate",
                "fit",
            )
        ),
    ]
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes(), a.name
    assert not list((tmp_path / "a").rglob("*.tmp"))


def test_figures_are_xml_without_a_date(full_run, tmp_path):
    for path in write_report([full_run], tmp_path):
        if path.suffix == ".svg":
            text = path.read_text()
            ET.fromstring(text)
            assert "date" not in text.lower()


def test_the_page_loads_nothing(full_run, tmp_path):
    page = page_of(write_report([full_run], tmp_path))
    reader = read_page(page)
    for tag, attrs in reader.tags:
        assert tag not in ("link", "iframe", "object", "embed", "img", "base"), tag
        assert tag != "script" or not attrs
        for name in ("src", "href", "xlink:href", "action", "poster", "data"):
            assert (attrs.get(name) or "#").startswith("#"), (tag, attrs)
    text = page.read_text()
    assert not re.search(r"url\(\s*['\"]?(?!#)", text)
    assert "@import" not in text
    urls = set(re.findall(r"https?://[^\s\"'<]+", text))
    assert urls <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_ids_are_unique_and_resolve(full_run, maker, make_maker, tmp_path):
    other = make_maker(maker.root, name="other").all()
    page = page_of(write_report([full_run, other], tmp_path))
    ids = [a["id"] for _, a in read_page(page).tags if a.get("id")]
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r'(?:xlink:href="|url\()#([\w-]+)', page.read_text()))
    assert wanted <= set(ids)


def test_every_figure_follows_the_page_into_the_dark(full_run, tmp_path):
    text = page_of(write_report([full_run], tmp_path)).read_text()
    for drawn in re.findall(r"<svg.*?</svg>", text, flags=re.S):
        assert not re.search(r"(fill|stroke): #[0-9a-f]{6}", drawn)
        assert "var(--ink)" in drawn
    assert "prefers-color-scheme: dark" in text


def test_hover_texts_name_layer_and_stage(full_run, tmp_path):
    text = page_of(write_report([full_run], tmp_path)).read_text()
    assert "<title>conv2: 98 LUT (finn_estimate)</title>" in text
    assert "<title>weights:conv1: frozen at 500 by oscillation, 5 bits</title>" in text
    assert "PE 8 SIMD 12" in text


def test_hostile_names_stay_text(make_maker, tmp_path):
    bits = {EVIL: (4, 4), "conv2": (3, 3), "$\\frac$": (2, 2), "_": (5, 3)}
    run = make_maker(tmp_path, bits=bits).all()
    paths = write_report([run], tmp_path / "out")
    reader = read_page(page_of(paths))
    assert not [tag for tag, attrs in reader.tags if tag == "img" or "onerror" in attrs]
    assert any("<img src=http://evil.example" in word for word in reader.words)
    for path in paths:
        text = path.read_text()
        assert "\x1b" not in text
        if path.suffix == ".svg":
            ET.fromstring(text)
    markdown = to_markdown([collect(run)])
    assert "<img" not in markdown
    table = markdown.split("## Layers of learned")[1].split("##")[0]
    counts = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines() if "|" in line}
    assert len(counts) == 1
    assert "\x1b[31m" not in shown(render([collect(run)]))
    assert "[b]" in shown(render([collect(run)]))


def test_over_utilisation_is_highlighted_everywhere(make_maker, tmp_path):
    run = make_maker(tmp_path, scale=12).all()
    warning = "DOES NOT FIT THE BOARD: LUT 180 %"
    assert warning in shown(render([collect(run)]))
    assert warning in to_markdown([collect(run)])
    assert warning in page_of(write_report([run], tmp_path / "out")).read_text()
    (folder,) = run.glob("build/learned-*")
    assert warning in shown(render_build(folder))


def test_a_fitting_design_has_no_warning_of_its_size(full_run, tmp_path):
    text = page_of(write_report([full_run], tmp_path)).read_text()
    assert "DOES NOT FIT" not in text
    assert "fits pynq-z1" in text


@pytest.mark.parametrize(
    "state", ["float", "trained", "refused", "compiled", "unreported", "empty"]
)
def test_incomplete_runs_render_everywhere(maker, tmp_path, state):
    if state == "float":
        maker.train("float", 0.98)
    else:
        maker.train("learned", 0.97)
    if state == "refused":
        maker.refuse("learned")
    if state == "compiled":
        maker.build("learned", upto="compile")
    if state == "unreported":
        maker.build("learned", unreported=("lut", "ff", "dsp", "bram_18k"))
    if state == "empty":
        maker.run.train("learned").log.unlink()
        maker.run.train("learned").result.unlink()
    run = collect(maker.run.root)
    paths = write_report([maker.run.root], tmp_path / "out")
    read_page(page_of(paths))
    assert shown(render([run]))
    body = json.loads((tmp_path / "out" / "report.json").read_text())
    assert body["missing"]
    for gap in run.missing:
        assert gap in shown(render([run]))
    if state == "unreported":
        assert "| learned | yosys_synth | n/r | 1,028 | n/r | n/r | n/r |" in to_markdown([run])


def test_a_count_that_is_missing_is_not_0_in_a_sentence_or_a_card(maker, tmp_path):
    maker.train("learned", 0.97)
    maker.build("learned", unreported=("dsp", "bram_18k"))
    text = page_of(write_report([maker.run.root], tmp_path)).read_text()
    assert re.search(r"Yosys counts [\d,]+ LUT and n/r DSP", text)
    assert "<div class='what'>DSP</div>" not in text


def test_a_figure_that_can_no_longer_be_drawn_is_removed(maker, tmp_path):
    run = maker.all()
    write_report([run], tmp_path / "out")
    (tmp_path / "out" / "figures" / "mine.svg").write_text("kept")
    (run / "train" / "learned" / "log.jsonl").unlink()
    paths = write_report([run], tmp_path / "out")
    left = {p.name for p in (tmp_path / "out" / "figures").iterdir()}
    assert left == {p.name for p in paths if p.suffix == ".svg"} | {"mine.svg"}
    assert "trajectories.svg" not in left


def test_no_run_is_refused(tmp_path):
    with raises_text(ConfigError, "A report needs at least one run directory; none was given."):
        write_report([], tmp_path)


def test_the_terminal_tells_estimate_from_synthesis(full_run):
    text = shown(render([collect(full_run)]))
    assert "FINN's estimate against synthesis, learned" in text
    assert "finn_" in text
    assert "14.3x" in text
    assert "bit-exact with the integer model on all 140 simulated frames" in text
    assert "R² " in shown(render_fit([collect(full_run)]))


def test_a_wrong_rtl_is_never_called_bit_exact(maker, tmp_path):
    maker.train("learned", 0.97)
    maker.export("learned")
    maker.build("learned", mismatches=3)
    text = page_of(write_report([maker.run.root], tmp_path / "out")).read_text()
    assert "bit-exact" not in text
    assert "THE RTL IS WRONG: 3 of 140" in text


def test_the_report_needs_no_torch():
    import subprocess

    code = (
        "import adaqat_hw.report, sys; "
        "print([m for m in ('torch', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

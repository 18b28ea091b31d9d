"""Reports of runs that were trained and never built."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from adaqat_hw.report import collect, render, to_json, to_markdown, write_report
from adaqat_hw.schema import BitWidthPlan, BudgetResult, FreezeChoice, NetworkSpec

MET = BudgetResult(
    title="BitOPs",
    unit="BitOPs",
    asked=9e6,
    reached=8.5e6,
    met=True,
    sentence="The plan meets the budget.",
)
MISSED = BudgetResult(
    title="weight compression",
    unit="x",
    asked=12.0,
    reached=9.5,
    met=False,
    sentence="The plan misses the budget.",
)
CARDS = {
    "BitOPs": ("BitOPs budget", "8.5 M where 9 M was asked for"),
    "x": ("weight compression budget", "9.5x where 12x was asked for"),
}
MANY = {f"stage{i // 7}.{i % 7}.conv": (2 + i % 4, 3 + i % 3) for i in range(20)}


def shown(run: Path) -> str:
    console = Console(width=200, record=True, quiet=True)
    with console.capture() as captured:
        console.quiet = False
        console.print(render([collect(run)]))
    return captured.get()


def trained(maker) -> Path:
    maker.config()
    maker.train("float", 0.98)
    maker.train("learned", 0.97)
    return maker.run.root


def texts(run: Path, folder: Path) -> dict[str, str]:
    paths = write_report([run], folder)
    return {path.name: path.read_text() for path in paths}


def test_a_trained_run_shows_float_against_learned(maker, tmp_path):
    run = trained(maker)
    made = texts(run, tmp_path / "out")
    for text in (shown(run), made["report.md"], made["report.html"]):
        assert "98.00 %" in text
        assert "97.00 %" in text
        assert "3.44 M" in text
        assert "14.5x" in text
        assert "all layers" in text
        assert "Nothing of this run was built" in text
        assert "yosys_synth |" not in text
    assert "FINN's estimate against synthesis" not in made["report.html"]
    assert "Resources per source" not in made["report.md"]
    assert "learning.svg" in made


@pytest.mark.parametrize(("budget", "verdict"), [(MET, "met"), (MISSED, "MISSED")])
def test_a_budget_is_said_everywhere(make_maker, tmp_path, budget, verdict):
    run = trained(make_maker(tmp_path, rich=True, budget=budget))
    made = texts(run, tmp_path / "out")
    for text in (shown(run), made["report.md"], made["report.html"]):
        assert budget.sentence in text
    what, beside = CARDS[budget.unit]
    assert f"<div class='what'>{what}</div>" in made["report.html"]
    assert f"<div class='value'>{verdict}</div>" in made["report.html"]
    assert beside in made["report.html"]
    body = to_json([collect(run)])
    assert (body["budget"]["met"], body["budget"]["reached"]) == (budget.met, budget.reached)


def test_how_the_plan_was_chosen_is_said_everywhere(make_maker, tmp_path):
    choice = FreezeChoice(
        step=900,
        live={"weights": 4, "acts": 4},
        learned={"weights": 5, "acts": 3},
        uniform={"weights": 4, "acts": 4},
        unit="BitOPs",
        learned_cost=8_400_000.0,
        uniform_cost=8_900_000.0,
        batches=32,
        difference=-0.001,
        standard_error=0.002,
        chosen="uniform",
        far={},
        sentence="Not better, so the uniform plan is taken.",
    )
    run = trained(make_maker(tmp_path, rich=True, budget=MET, choice=choice))
    made = texts(run, tmp_path / "out")
    for text in (shown(run), made["report.md"], made["report.html"]):
        assert choice.sentence in text
    body = to_json([collect(run)])
    assert body["freeze_choice"] == choice.model_dump(mode="json")


def test_everything_that_the_controller_logs_is_drawn(make_maker, tmp_path):
    run = trained(make_maker(tmp_path, rich=True, budget=MET))
    made = texts(run, tmp_path / "out")
    assert {"trajectories.svg", "integers.svg", "gradients.svg", "steering.svg"} <= set(made)
    assert re.search(
        r"<title>weights:conv1: frozen at 500 by oscillation, 5 bits, \d+ flips</title>",
        made["integers.svg"],
    )
    assert "<title>acts:act1: price of the bit</title>" in made["gradients.svg"]
    for word in ("hard loss", "lambda", "BitOPs per frame", "budget 9 M"):
        assert word in made["steering.svg"]
    assert made["steering.svg"].count('id="axes_') == 3  # BitOPs are drawn once
    row = next(line for line in made["report.md"].splitlines() if "| weights:conv1 |" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:3] + cells[4:6] == ["7.9", "5", "500", "oscillation"]
    assert int(cells[3]) > 0
    assert cells[6:] == ["0.02", "0.1"]


def test_an_old_log_renders_without_what_it_lacks(maker, tmp_path):
    made = texts(trained(maker), tmp_path / "out")
    assert {"trajectories.svg", "integers.svg"} <= set(made)
    assert not {"gradients.svg", "steering.svg"} & set(made)
    assert "| weights:conv1 | 7.9 | 5 | n/r | 500 | oscillation | n/r | n/r |" in made["report.md"]


def test_a_compression_budget_has_its_own_course(make_maker, tmp_path):
    run = trained(make_maker(tmp_path, rich=True, budget=MISSED))
    log = run / "train" / "learned" / "log.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()[:-1]]
    for row in rows:
        if "budget" in row:
            row["budget"] |= {"title": "weight compression", "unit": "x", "asked": 12.0}
            row["budget"]["reached"] = 9.5
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    drawn = texts(run, tmp_path / "out")["steering.svg"]
    for word in ("BitOPs per frame", "weight compression", "budget 12"):
        assert word in drawn


def test_forty_widths_stay_apart(make_maker, tmp_path):
    run = trained(make_maker(tmp_path, bits=MANY, rich=True))
    made = texts(run, tmp_path / "out")
    for name in MANY:
        assert name in made["trajectories.svg"]
        assert name in made["integers.svg"]
    assert "One plot per layer" in made["report.html"]
    assert "<details><summary>The two parts of each width" in made["report.html"]
    assert len(made["report.html"]) < 3_000_000
    colours = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", made["integers.svg"]))
    assert len(colours) >= 7


def test_widths_of_groups_share_a_plot(make_maker, tmp_path):
    maker = make_maker(tmp_path, bits=MANY)
    run = trained(maker)
    log = run / "train" / "learned" / "log.jsonl"
    names = [f"{kind}:group{i}" for i in range(9) for kind in ("weights", "acts")]
    rows = [
        {"event": "widths", "step": s, "real": dict.fromkeys(names, 8 - s), "bits": {}}
        for s in range(3)
    ]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    drawn = texts(run, tmp_path / "out")["trajectories.svg"]
    assert drawn.count("group4") == 1 + drawn.count(":group4: ") + drawn.count("<!-- group4 -->")


def product(run: Path) -> None:
    """Make the third layer of the learned plan a product of two activations."""
    folder = run / "train" / "learned"
    spec, plan = NetworkSpec.read(folder / "spec.json"), BitWidthPlan.read(folder / "plan.json")
    layers = list(spec.layers)
    changes = {"kind": "matmul", "weights": 0, "second_act": "values"}
    layers[2] = layers[2].model_copy(update=changes)
    spec.model_copy(update={"layers": tuple(layers)}).write(folder / "spec.json")
    rows = list(plan.layers)
    rows[2] = rows[2].model_copy(
        update={
            "weight_bits": None,
            "second_act": "values",
            "second_act_bits": 6,
            "second_act_signed": True,
        }
    )
    made = plan.model_copy(update={"layers": tuple(rows)})
    made.write(folder / "plan.json")


def test_a_product_of_activations_has_no_weights(maker, tmp_path):
    run = trained(maker)
    product(run)
    made = texts(run, tmp_path / "out")
    work = 73_728 * 3 * 6
    assert f"| conv3 | matmul | - | 3 x 6 | {work / 1e6:.2f} M |" in made["report.md"]
    assert "a product of two activations has no weights" in made["report.html"]
    assert "conv3: second activations of a product 6 bits" in made["widths.svg"]
    assert "3 x 6" in shown(run)
    assert "2-6 / 3-8" in made["report.md"]
    (row,) = [r for r in json.loads(made["report.json"])["plan"] if r["layer"] == "conv3"]
    assert (row["weight_bits"], row["second_act_bits"], row["bitops"]) == (None, 6, work)


def test_top_5_is_shown_where_it_was_measured(maker):
    run = trained(maker)
    assert "top-5" not in to_markdown([collect(run)])
    path = run / "train" / "learned" / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "accuracy_top5": 0.991}))
    assert "99.10 %" in to_markdown([collect(run)])

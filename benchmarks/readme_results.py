"""Take the demo's numbers from a finished run into README.md and the record that holds them.

    make demo
    python benchmarks/readme_results.py runs/demo --page docs/benchmarks/DATE-demo.md

The record ``docs/benchmarks/readme.json`` says which run, configuration and versions every number
of README's results is from. ``demo`` comes from the run's report, ``training`` from a dated page
of results; ``claims`` are the sentences around the tables and the page that has their numbers.
The tables between README's markers are written from the record alone; a test compares both.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adaqat_hw.report import collect, to_json
from adaqat_hw.schema import write_atomic

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "docs" / "benchmarks" / "readme.json"
README = ROOT / "README.md"
_COUNTS = (
    ("lut", "yosys_synth"),
    ("lut", "finn_estimate"),
    ("ff", "yosys_synth"),
    ("bram_18k", "yosys_synth"),
)


def main(arguments: list[str] | None = None) -> int:
    """Write record and README; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="the finished run's folder, such as runs/demo")
    parser.add_argument("--page", type=Path, required=True, help="the dated page with all figures")
    options = parser.parse_args(arguments)
    if not options.page.is_file():
        parser.error(f"--page {str(options.page)!r} does not exist; write the page first")
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    page = options.page.resolve().relative_to(ROOT).as_posix()
    record["demo"] = demo_record(to_json([collect(options.run)]), page)
    write_atomic(RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    text = README.read_text(encoding="utf-8")
    for name, table in tables(record).items():
        text = replaced(text, name, table)
    write_atomic(README, text)
    print(table_of_demo(record["demo"]))
    return 0


def demo_record(report: dict[str, Any], page: str) -> dict[str, Any]:
    """Return what README says of the demo.

    Args:
        report: the run's report as ``adaqat-hw report RUN --json`` prints it.
        page: the page with all figures, relative to the repository.

    Raises:
        ValueError: a plan was not built, simulated and synthesized, or not as the others were.
    """
    plans = [plan for plan in report["plans"] if plan["plan"] != "float"]
    builds = [plan["build"] for plan in plans]
    if not builds or not all(build and build["complete"] for build in builds):
        raise ValueError(f"run {report['name']!r} has plans without a complete build")
    requests = [build["request"] for build in builds]
    settings = {
        (r["board"], r["clock_ns"], r["impl"], _asked(plan, r))
        for plan, r in zip(plans, requests, strict=True)
    }
    if len(settings) != 1:
        raise ValueError(f"the plans of run {report['name']!r} were built as {sorted(settings)!r}")
    ((board, clock_ns, impl, _),) = settings
    (test_samples,) = {plan["test_samples"] for plan in report["plans"]}
    return {
        "command": "make demo",
        "config": "configs/demo.toml",
        "page": page,
        "date": max(build["written"] for build in builds)[:10],
        "seeds": 1,
        "test_samples": test_samples,
        "board": board,
        "clock_ns": clock_ns,
        "impl": impl,
        "versions": {tool: ", ".join(v) for tool, v in report["tool_versions"].items()},
        "float_accuracy": report["accuracy"]["float"],
        "plans": [_demo_plan(plan, report["resources"]) for plan in plans],
    }


def _asked(plan: dict[str, Any], request: dict[str, Any]) -> str:
    """Return the throughput that a plan's build was asked for, comparable with others."""
    return json.dumps(plan["throughput"].get("asked") or request.get("target_fps"), sort_keys=True)


def _demo_plan(plan: dict[str, Any], resources: list[dict[str, Any]]) -> dict[str, Any]:
    rows = {row["source"]: row for row in resources if row["plan"] == plan["plan"]}
    return {
        "plan": plan["plan"],
        "accuracy": plan["accuracy"],
        "bitops": plan["bitops"],
        **{f"{name}_{source}": rows[source][name] for name, source in _COUNTS},
        "cycles_simulated": plan["throughput"]["cycles_per_frame_measured"],
        "cycles_finn_estimate": plan["throughput"]["cycles_per_frame_estimated"],
    }


def tables(record: dict[str, Any]) -> dict[str, str]:
    """Return what stands between README's markers of each name."""
    return {
        "demo-table": table_of_demo(record["demo"]),
        "training-table": table_of_training(record["training"]),
    }


def table_of_demo(demo: dict[str, Any]) -> str:
    """Return the demo's table with a sentence before and after it."""
    seeds = "one seed" if demo["seeds"] == 1 else f"{demo['seeds']} seeds"
    primitives = {"lut": "LUTs", "dsp": "DSP blocks", "auto": "LUTs or DSP blocks"}[demo["impl"]]
    rows = [
        (
            plan["plan"],
            _percent(plan["accuracy"]),
            f"{plan['bitops']:,}",
            *(_count(plan[f"{name}_{source}"]) for name, source in _COUNTS),
            f"{plan['cycles_simulated']:,.0f} (FINN: {plan['cycles_finn_estimate']:,})",
        )
        for plan in demo["plans"]
    ]
    names = {"lut": "LUT", "ff": "FF", "bram_18k": "BRAM 18k"}
    head = (
        *("plan", "top-1", "BitOPs"),
        *(f"{names[name]} `{source}`" for name, source in _COUNTS),
        "cycles / frame, simulated",
    )
    return (
        f"`{demo['command']}` on {demo['date']}, {seeds}, {demo['test_samples']:,} test images, "
        f"{demo['board']} at {demo['clock_ns']:g} ns,\n"
        f"all plans at one throughput target with MVAUs in {primitives} "
        f"([all figures]({demo['page']})):\n\n"
        f"{_markdown(head, rows, text_columns=1)}\n"
        f"Full precision: {_percent(demo['float_accuracy'])}.\n"
    )


def table_of_training(training: dict[str, Any]) -> str:
    """Return the table of trainings."""
    rows = [
        (
            row["training"],
            row["starts_from"],
            str(row["epochs"]),
            row["bits"] or "-",
            _count(row["bitops"]) if row["bitops"] is not None else "-",
            _percent(row["accuracy"]),
        )
        for row in training["rows"]
    ]
    head = (f"{training['network']}, {training['data']}", "starts from", "epochs", "W / A",
            "BitOPs", "top-1")  # fmt: skip
    lines = _markdown(head, rows, text_columns=2).splitlines()
    lines[1] = "|---|---|---:|---|---:|---:|"
    return "\n".join(lines) + "\n"


def replaced(text: str, name: str, block: str) -> str:
    """Return a page with what stands between the markers of a name replaced."""
    begin, end = (f"<!-- {name}:{side} -->\n" for side in ("begin", "end"))
    before, found_begin, remainder = text.partition(begin)
    _, found_end, after = remainder.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"the page has no markers {begin.strip()!r} and {end.strip()!r}")
    return f"{before}{begin}{block}{end}{after}"


def _markdown(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], text_columns: int) -> str:
    rule = ["---"] * text_columns + ["---:"] * (len(head) - text_columns)
    lines = [" | ".join(head), "|".join(rule), *(" | ".join(row) for row in rows)]
    lines[0], lines[2:] = f"| {lines[0]} |", [f"| {line} |" for line in lines[2:]]
    lines[1] = f"|{lines[1]}|"
    return "\n".join(lines) + "\n"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _count(value: int | None) -> str:
    return "n/r" if value is None else f"{value:,}"


if __name__ == "__main__":
    sys.exit(main())

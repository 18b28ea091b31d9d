"""Headline numbers of a run. Each names its source; an unknown number has no card."""

from __future__ import annotations

from dataclasses import dataclass

from adaqat_hw.report.builds import same_pace
from adaqat_hw.report.content import over, used
from adaqat_hw.report.findings import widest
from adaqat_hw.report.json_out import frames_per_second
from adaqat_hw.report.model import FLOAT, SYNTH, PlanReport, RunReport
from adaqat_hw.report.text import amount, count, percent, ratio, short, times


@dataclass(frozen=True)
class Card:
    """One number: what it is, what to hold it against, and its source."""

    what: str
    value: str
    beside: str
    source: str
    bad: bool = False


def cards(run: RunReport) -> list[Card]:
    """Return the headline numbers of the main plan."""
    main = run.main
    if main is None:
        return []
    candidates = [_accuracy(run, main), _work(run, main), _weights(main), _budget(main)]
    candidates += [_area(run, main), _dsp(main), _timing(main), _latency(main), _check(main)]
    return [card for card in candidates if card is not None]


def _accuracy(run: RunReport, main: PlanReport) -> Card | None:
    if main.accuracy is None:
        return None
    full = run.plan(FLOAT)
    beside = "no full-precision baseline"
    if full is not None and full.accuracy is not None:
        points = 100 * (main.accuracy - full.accuracy)
        beside = f"{points:+.2f} points to full precision"
    samples = f"{main.train.test_samples:,} test samples" if main.train else ""
    return Card(f"top-1, {main.variant}", percent(main.accuracy, 2), beside, samples)


def _work(run: RunReport, main: PlanReport) -> Card | None:
    if main.bitops is None:
        return None
    other = widest(run)
    less = ratio(other.bitops.total if other and other.bitops else None, main.bitops.total)
    beside = f"{times(less)} fewer than {other.variant}" if other and less and less >= 1 else ""
    return Card("BitOPs per frame", short(main.bitops.total), beside, "counted from the plan")


def _weights(main: PlanReport) -> Card | None:
    if main.compression is None:
        return None
    inner, total = main.compression.inner, main.compression.total
    if inner is None:
        return Card("weights smaller", times(total), "against 32 bits", "all layers")
    return Card("weights smaller", times(inner), f"{times(total)} over all layers", "inner layers")


def _budget(main: PlanReport) -> Card | None:
    budget = main.budget
    if budget is None:
        return None
    reached, limit = (amount(value, budget.unit) for value in (budget.reached, budget.asked))
    beside = f"{reached} where {limit} was asked for"
    verdict = "met" if budget.met else "MISSED"
    what = f"{budget.title} budget"
    return Card(what, verdict, beside, "counted from the plan", bad=not budget.met)


def _area(run: RunReport, main: PlanReport) -> Card | None:
    lut = main.build.total(SYNTH, "lut") if main.build else None
    if lut is None:
        return None
    parts = []
    share = (used(main) or {}).get("lut")
    if share is not None and run.board is not None:
        parts.append(f"{percent(share)} of {run.board.name}")
    other = widest(run)
    less = ratio(other.build.total(SYNTH, "lut") if other and other.build else None, lut)
    if other is not None and less is not None and same_pace((other.build, main.build)):
        parts.append(f"{other.variant} takes {times(less)}")
    return Card("LUT", count(lut), ", ".join(parts), SYNTH, bad=bool(over(main)))


def _dsp(main: PlanReport) -> Card | None:
    dsp = main.build.total(SYNTH, "dsp") if main.build else None
    if dsp is None:
        return None
    bram = main.build.total(SYNTH, "bram_18k") if main.build else None
    return Card("DSP", count(dsp), f"BRAM 18k: {count(bram)}", SYNTH)


def _timing(main: PlanReport) -> Card | None:
    free = main.build.free_pass if main.build else None
    if main.build is None or free is None or free.cycles_per_frame is None:
        return None
    clock = main.build.request.clock_ns if main.build.request else None
    fps = frames_per_second(free.cycles_per_frame, clock)
    beside = "" if fps is None else f"{count(fps)} frames/s at the {clock:g} ns asked for"
    return Card("cycles per frame", count(free.cycles_per_frame), beside, "simulated RTL")


def _latency(main: PlanReport) -> Card | None:
    free = main.build.free_pass if main.build else None
    if main.build is None or free is None or free.latency_cycles is None:
        return None
    clock = main.build.request.clock_ns if main.build.request else None
    beside = ""
    if clock is not None:
        beside = f"{free.latency_cycles * clock / 1000:,.1f} µs at {clock:g} ns"
    return Card("cycles of latency", count(free.latency_cycles), beside, "simulated RTL")


def _check(main: PlanReport) -> Card | None:
    result = main.build.simulation if main.build else None
    if result is None:
        return None
    frames = sum(p.frames for p in result.passes)
    if frames == 0:
        return None
    source = "simulated RTL"
    if result.mismatches:
        return Card("RTL", "WRONG", f"{result.mismatches} of {frames} frames differ", source, True)
    stalled = sum(p.frames for p in result.passes if p.stalls)
    return Card("RTL", "bit-exact", f"all {frames} frames, {stalled} under stalls", source)

"""Findings about a run as sentences that carry their numbers and sources."""

from __future__ import annotations

from adaqat_hw.report.builds import cycles_per_frame, folding_note, same_pace
from adaqat_hw.report.content import fits, over
from adaqat_hw.report.json_out import frames_per_second
from adaqat_hw.report.model import FLOAT, SYNTH, PlanReport, RunReport, estimate_of
from adaqat_hw.report.text import count, number, percent, ratio, short, times


def findings(run: RunReport) -> list[str]:
    """Return the findings about the main plan, one sentence each; what is unknown is left out."""
    main = run.main
    if main is None:
        full = run.plan(FLOAT)
        known = full is not None and full.accuracy is not None
        return [f"Full precision reaches {percent(full.accuracy, 2)}."] if full and known else []
    sentences = [
        _accuracy(run, main),
        _work(run, main),
        main.budget.sentence if main.budget else "",
        _choice(main),
        _area(run, main),
        _timing(main),
        (folding_note(main.build) or "") if main.build else "",
        routed(main),
        implemented(main),
        _check(main),
    ]
    return [sentence for sentence in sentences if sentence]


def widest(run: RunReport) -> PlanReport | None:
    """Return the uniform plan with the most BitOPs, the reference for the other plans."""
    uniform = [
        p
        for p in run.quantized
        if p is not run.main and p.bitops is not None and p.plan is not None
    ]
    uniform = [p for p in uniform if p.plan is not None and p.plan.source == "uniform"]
    return max(uniform, key=lambda p: p.bitops.total if p.bitops else 0, default=None)


def _accuracy(run: RunReport, main: PlanReport) -> str:
    if main.accuracy is None or main.train is None:
        return ""
    text = (
        f"{main.variant} reaches {percent(main.accuracy, 2)} top-1 on "
        f"{main.train.test_samples:,} test samples"
    )
    full = run.plan(FLOAT)
    if full is None or full.accuracy is None:
        return f"{text}; there is no full-precision baseline to hold it against."
    points = 100 * (main.accuracy - full.accuracy)
    return f"{text}, full precision {percent(full.accuracy, 2)} ({points:+.2f} points; one seed)."


def _choice(main: PlanReport) -> str:
    choice = main.train.freeze_choice if main.train else None
    return choice.sentence if choice else ""


def _work(run: RunReport, main: PlanReport) -> str:
    if main.bitops is None:
        return ""
    text = f"It takes {short(main.bitops.total)} BitOPs per frame"
    other = widest(run)
    if other is not None and other.bitops is not None:
        less = ratio(other.bitops.total, main.bitops.total)
        if less is not None and less >= 1:
            text += f", {times(less)} fewer than {other.variant}"
        else:
            text += f", more than {other.variant} ({short(other.bitops.total)})"
    inner = main.compression.inner if main.compression else None
    if inner is not None:
        text += f"; its inner layers' weights are {times(inner)} smaller than in 32 bits"
    return f"{text}."


def _area(run: RunReport, main: PlanReport) -> str:
    build = main.build
    lut = build.total(SYNTH, "lut") if build else None
    if build is None or lut is None:
        return ""
    text = f"Yosys counts {count(lut)} LUT and {count(build.total(SYNTH, 'dsp'))} DSP ({SYNTH})"
    estimate = estimate_of(build)
    guess = build.total(estimate, "lut")
    if guess is not None:
        text += f" where FINN estimates {count(guess)} LUT ({estimate})"
    other = widest(run)
    less = ratio(other.build.total(SYNTH, "lut") if other and other.build else None, lut)
    if other is not None and less is not None:
        text += f"; {other.variant} takes {times(less)} the LUTs"
        if not same_pace((other.build, build)):
            own, others = cycles_per_frame(build), cycles_per_frame(other.build)
            text += f", at {count(others)} cycles per frame instead of {count(own)}"
    if fits(main) is False:
        text += f". IT DOES NOT FIT THE BOARD: {', '.join(over(main))}"
    return f"{text}."


def _timing(main: PlanReport) -> str:
    build = main.build
    free = build.free_pass if build else None
    if build is None or free is None or free.cycles_per_frame is None:
        return ""
    text = f"Simulated, a frame takes {number(free.cycles_per_frame, 6)} cycles"
    if build.graph is not None:
        text += f" (FINN estimates {count(build.graph.cycles_estimated)})"
    if build.request is not None:
        fps = frames_per_second(free.cycles_per_frame, build.request.clock_ns)
        text += f": {count(fps)} frames/s at the {build.request.clock_ns:g} ns clock asked for"
        if build.routed is None:
            text += ", which no place and route has confirmed"
    return f"{text}."


def routed(main: PlanReport) -> str:
    """Describe the place and route of the plan's bitstream; empty where there is none."""
    build = main.build
    if build is None or build.bitstream is None:
        return ""
    bitstream, free = build.bitstream, build.free_pass
    fmax = number(bitstream.fmax_mhz, 4)
    text = f"Routed for {bitstream.part} it reaches {fmax} MHz (nextpnr_pnr)"
    if free is not None and free.cycles_per_frame is not None:
        text += f", {count(bitstream.fmax_mhz * 1e6 / free.cycles_per_frame)} frames/s there"
    if bitstream.timing_met:
        text += f", and meets the {number(bitstream.clock_mhz, 4)} MHz that the board gives it"
    else:
        text += (
            f". TIMING IS MISSED: the board's clock is {number(bitstream.clock_mhz, 4)} MHz; build "
            f"again with --clock-ns {1000 / bitstream.fmax_mhz:.2f} or more"
        )
    return f"{text}. The serial line carries {count(bitstream.line_fps)} frames/s."


def implemented(main: PlanReport) -> str:
    """Describe Vivado's place and route of the plan; empty where it has not run."""
    build = main.build
    vivado, report = (build.vivado, build.routed) if build else (None, None)
    if build is None or vivado is None or report is None:
        return ""
    text = (
        f"Vivado {vivado.vivado} places and routes it in {count(report.total.lut)} LUT, "
        f"{count(report.total.ff)} FF, {count(report.total.dsp)} DSP and "
        f"{count(report.total.bram_18k)} BRAM 18k ({report.source})"
    )
    if report.fmax_mhz is not None and report.slack_ns is not None:
        text += (
            f" and reaches {number(report.fmax_mhz, 4)} MHz "
            f"(worst slack {report.slack_ns:+.3f} ns at {vivado.clock_ns:g} ns)"
        )
    if vivado.timing is not None and vivado.timing.met is False:
        text += ". TIMING IS MISSED: what was made must not be used at this clock"
    if vivado.power is not None:
        sure = f", confidence {vivado.power.confidence}" if vivado.power.confidence else ""
        text += f"; {vivado.power.total_w:.2f} W estimated{sure}"
    bits = [name for name in vivado.files if name.endswith(".bit")]
    return f"{text}; bitstream in {build.folder}/{bits[0]}." if bits else f"{text}."


def _check(main: PlanReport) -> str:
    result = main.build.simulation if main.build else None
    if result is None:
        return ""
    frames = sum(p.frames for p in result.passes)
    if result.mismatches:
        return f"THE RTL IS WRONG: {result.mismatches} of {frames} simulated frames differ."
    stalled = sum(p.frames for p in result.passes if p.stalls)
    return (
        f"The RTL is bit-exact with the integer model on all {frames} simulated frames, "
        f"{stalled} of them under random stalls."
    )

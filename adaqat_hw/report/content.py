"""The tables of one run's report."""

from __future__ import annotations

from collections.abc import Sequence

from adaqat_hw.boards import utilisation
from adaqat_hw.report.builds import cycles_at, describe
from adaqat_hw.report.model import SYNTH, PlanReport, RunReport, estimate_of, sources_of
from adaqat_hw.report.tables import Cell, Column, Table, number_cell, text_cell
from adaqat_hw.report.text import count, number, percent, ratio, short, times
from adaqat_hw.schema import LayerBits, Source

# FINN estimates no flip-flops for most of its layers, so there is little to hold against.
_COMPARED = ("lut", "dsp", "bram_18k")
SHOWN = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram_18k": "BRAM 18k"}


def plan_label(plan: PlanReport) -> str:
    """Return the plan's name with its widths: ``learned (2-8 / 3-8)``."""
    if plan.plan is None or not plan.plan.layers:
        return plan.variant
    weights = [row.weight_bits for row in plan.plan.layers if row.weight_bits is not None]
    acts = [row.act_bits for row in plan.plan.layers]
    acts += [bits for row in plan.plan.layers if (bits := row.second_act_bits) is not None]
    return f"{_span(weights) if weights else '-'} / {_span(acts)}"


def _span(bits: Sequence[int]) -> str:
    low, high = min(bits), max(bits)
    return str(low) if low == high else f"{low}-{high}"


def plans_table(run: RunReport) -> Table:
    """Compare the plans: accuracy, BitOPs, compression, area, fit."""
    top5 = any(p.train and p.train.accuracy_top5 is not None for p in run.plans)
    columns: tuple[Column, ...] = (
        Column("plan", numeric=False),
        Column("W / A bits", numeric=False),
        Column("top-1", "test split"),
        Column("BitOPs", "per frame"),
        Column("weights smaller", "inner layers"),
    )
    if run.hardware:
        lut, *others = (Column(head, SYNTH) for head in SHOWN.values())
        columns += (lut, Column("cycles / frame", "simulated"), *others)
        columns += (Column("board", SYNTH, numeric=False),)
    else:
        columns += (
            Column("weights smaller", "all layers"),
            Column("test samples"),
            Column("training", "seconds"),
        )
        columns += (Column("top-5", "test split"),) if top5 else ()
    rows = []
    for plan in run.plans:
        blank = plan.variant == "float"
        inner = plan.compression.inner if plan.compression else None
        free = plan.build.free_pass if plan.build else None
        cells = [
            text_cell(plan.variant),
            text_cell("float 32" if blank else plan_label(plan)),
            number_cell(plan.accuracy, lambda v: percent(v, 2)),
            _or_dash(blank, number_cell(plan.bitops.total if plan.bitops else None, short)),
            _or_dash(blank, number_cell(inner, times)),
        ]
        if not run.hardware:
            rows.append((*cells, *_training_cells(plan, blank, top5)))
            continue
        counts = [
            number_cell(
                plan.build.total(SYNTH, n) if plan.build else None, count, title=_share(plan, n)
            )
            for n in SHOWN
        ]
        measured = number_cell(free.cycles_per_frame if free else None, count)
        cells += [_or_dash(blank, cell) for cell in (counts[0], measured, *counts[1:])]
        cells.append(_or_dash(blank, fit_cell(plan)))
        rows.append(tuple(cells))
    main = run.main.build if run.main else None
    note = "" if run.hardware else "Nothing of this run was built, so there is no hardware to show."
    note = f"Build asked for: {describe(main)}." if main else note
    return Table("plans", "Plans compared", columns, tuple(rows), note)


def _training_cells(plan: PlanReport, blank: bool, top5: bool) -> list[Cell]:
    total, train = plan.compression.total if plan.compression else None, plan.train
    cells = [
        _or_dash(blank, number_cell(total, times)),
        number_cell(train.test_samples if train else None, count),
        number_cell(train.seconds if train else None, count),
    ]
    if top5:
        cells.append(number_cell(train.accuracy_top5 if train else None, lambda v: percent(v, 2)))
    return cells


def _or_dash(blank: bool, cell: Cell) -> Cell:
    return Cell("-", title="not for full precision") if blank else cell


def used(plan: PlanReport, source: Source = SYNTH) -> dict[str, float | None] | None:
    """Return the fraction of the board that each resource takes, or None when unknown."""
    build = plan.build
    if build is None or build.board is None or source not in build.resources:
        return None
    return utilisation(build.resources[source].total, build.board)


def over(plan: PlanReport, source: Source = SYNTH) -> list[str]:
    """Return what of the board the plan exceeds, such as ``LUT 132 %``."""
    shares = used(plan, source) or {}
    return [
        f"{SHOWN.get(name, name.upper())} " + (percent(share, 0) if share < 1e6 else "not on board")
        for name, share in shares.items()
        if share is not None and share > 1
    ]


def fits(plan: PlanReport, source: Source = SYNTH) -> bool | None:
    """Tell whether the plan fits its board; None where LUT, FF, DSP or BRAM is not reported."""
    shares = used(plan, source)
    if shares is None:
        return None
    if over(plan, source):
        return False
    return None if any(shares[name] is None for name in SHOWN) else True


def fit_cell(plan: PlanReport) -> Cell:
    """Say whether the plan fits its board, highlighted when it does not."""
    verdict = fits(plan)
    if verdict is False:
        return Cell(f"DOES NOT FIT: {', '.join(over(plan))}", value=0, highlight=True)
    if verdict is None:
        return text_cell(None)
    board = plan.build.board.name if plan.build and plan.build.board else "?"
    return Cell(f"fits {board}", value=1)


def _share(plan: PlanReport, name: str) -> str:
    share = (used(plan) or {}).get(name)
    build = plan.build
    if share is None or build is None or build.board is None or share > 1e6:
        return ""
    total = getattr(build.board, name)
    return f"{percent(share)} of the {total:,} of {build.board.name} ({SYNTH})"


def board_table(run: RunReport) -> Table:
    """How much of the board each plan takes at synthesis."""
    columns = (
        Column("plan", numeric=False),
        Column("board", numeric=False),
        *(Column(f"{head} used", SYNTH) for head in SHOWN.values()),
        Column("verdict", SYNTH, numeric=False),
    )
    rows = []
    for plan in run.quantized:
        shares = used(plan)
        if shares is None:
            continue
        board = plan.build.board if plan.build else None
        cells = [text_cell(plan.variant), text_cell(board.name if board else None)]
        for name in SHOWN:
            share = shares.get(name)
            if share is not None and share > 1e6:
                cells.append(Cell("NOT ON BOARD", value=share, highlight=True))
                continue
            highlight = share is not None and share > 1
            cells.append(
                number_cell(share, _over_percent if highlight else percent, highlight=highlight)
            )
        rows.append((*cells, fit_cell(plan)))
    note = ""
    if run.board:
        b = run.board
        note = (
            f"{b.name} ({b.part}): {b.lut:,} LUT, {b.ff:,} FF, {b.dsp:,} DSP, {b.bram_18k:,} BRAM "
            f"18k. Source: {b.source}."
        )
    return Table("board", "Use of the board", columns, tuple(rows), note)


def _over_percent(share: float | None) -> str:
    return f"{percent(share)} OVER"


def layers_table(plan: PlanReport, hardware: bool = True) -> Table:
    """The main plan layer by layer: widths, work and, with ``hardware``, folding and area."""
    build, widths = plan.build, plan.plan
    columns: tuple[Column, ...] = (
        Column("layer", numeric=False),
        Column("kind", numeric=False),
        Column("W bits"),
        Column("A bits"),
        Column("BitOPs", "per frame"),
        Column("share", "of BitOPs"),
    )
    if hardware:
        columns += (
            Column("MVAU in", numeric=False),
            Column("PE"),
            Column("SIMD"),
            Column("bit-ops / cycle"),
            Column("cycles", estimate_of(plan.build)),
            *(Column(head, SYNTH) for head in SHOWN.values()),
        )
    rows = []
    kinds = {layer.name: layer.kind for layer in plan.spec.layers} if plan.spec else {}
    for row in widths.layers if widths else ():
        work = plan.bitops.per_layer.get(row.layer) if plan.bitops else None
        share = ratio(work, plan.bitops.total if plan.bitops else None)
        area = [build.layer(SYNTH, row.layer, n) if build else None for n in SHOWN]
        hardware_cells = [*_folding(plan, row), *(number_cell(value, count) for value in area)]
        rows.append(
            (
                text_cell(row.layer, title=f"reads {row.act}" if row.act else ""),
                text_cell(kinds.get(row.layer)),
                _weight_cell(row),
                _act_cell(row),
                number_cell(work, short, title=count(work)),
                number_cell(share, percent),
                *(hardware_cells if hardware else ()),
            )
        )
    note = (
        "A layer's area is of everything built for it: MVAU, thresholds, sliding window, weight "
        "memory and FIFOs."
    )
    note = note if hardware else ""
    return Table("layers", f"Layers of {plan.variant}", columns, tuple(rows), note)


def _weight_cell(row: LayerBits) -> Cell:
    if row.weight_bits is None:
        return Cell("-", title="a product of two activations has no weights")
    return number_cell(row.weight_bits, count)


def _act_cell(row: LayerBits) -> Cell:
    signs = ["signed" if row.act_signed else "unsigned"]
    if row.second_act_bits is None:
        return number_cell(row.act_bits, count, title=signs[0])
    signs.append("signed" if row.second_act_signed else "unsigned")
    text = f"{row.act_bits} x {row.second_act_bits}"
    return Cell(text, value=row.act_bits, title=f"{signs[0]} x {signs[1]} {row.second_act}")


def _folding(plan: PlanReport, row: LayerBits) -> list[Cell]:
    graph = plan.build.graph if plan.build else None
    nodes = [n for n in graph.nodes if n.layer == row.layer] if graph else []
    node = next((n for n in nodes if n.operator.weighted), None)
    if node is None:
        return [text_cell(None) for _ in range(5)]
    pe, simd = node.pe, node.simd
    rate = pe * simd * row.second_bits * row.act_bits
    return [
        text_cell(f"{node.impl.upper()}s" if node.impl else None, title=node.impl_reason),
        number_cell(pe, count),
        number_cell(simd, count),
        number_cell(
            rate, count, title=f"PE {pe} x SIMD {simd} x {row.second_bits} x {row.act_bits}"
        ),
        number_cell(node.cycles, count),
    ]


def estimate_table(plan: PlanReport, shown: Sequence[str] = _COMPARED) -> Table:
    """FINN's estimate against synthesis, layer by layer, with the ratio."""
    build = plan.build
    both = (estimate_of(build), SYNTH)
    columns = [Column("layer", numeric=False)]
    for head in (SHOWN[name] for name in shown):
        columns += [Column(head, source) for source in both]
        columns += [Column(f"{head} ratio", "synth / estimate")]
    names: list[str] = []
    for source in both:
        report = build.resources.get(source) if build else None
        names += [r.layer for r in report.layers if r.layer not in names] if report else []
    rows = [
        (
            text_cell(name),
            *_pairs([[build.layer(s, name, k) if build else None for s in both] for k in shown]),
        )
        for name in names
    ]
    if names:
        totals = [[build.total(s, k) if build else None for s in both] for k in shown]
        rows.append((text_cell("whole design"), *_pairs(totals)))
    note = (
        "Two sources side by side: FINN's analytic estimate and what Yosys made of the same "
        "design. A ratio is not given where the estimate is 0."
    )
    title = f"FINN's estimate against synthesis, {plan.variant}"
    return Table("estimate", title, tuple(columns), tuple(rows), note)


def _pairs(columns: list[list[int | None]]) -> list[Cell]:
    cells = []
    for estimate, synthesized in columns:
        deviation = ratio(synthesized, estimate)
        if deviation is None and estimate == 0 and synthesized is not None:
            last = Cell("-", title=f"the estimate is 0, synthesis found {synthesized:,}")
        else:
            last = number_cell(deviation, times)
        cells += [number_cell(estimate, count), number_cell(synthesized, count), last]
    return cells


def simulation_table(plan: PlanReport) -> Table:
    """Every pass of the simulated RTL against the integer model."""
    columns = (
        Column("frames are", numeric=False),
        Column("random stalls", numeric=False),
        Column("frames"),
        Column("frames that differ"),
        Column("cycles"),
        Column("latency", "cycles"),
        Column("cycles / frame", "steady"),
    )
    result = plan.build.simulation if plan.build else None
    rows = [
        (
            text_cell(p.kind),
            text_cell((p.pattern or "both streams") if p.stalls else "none"),
            number_cell(p.frames, count),
            Cell(count(p.mismatches), value=p.mismatches, highlight=p.mismatches > 0),
            number_cell(p.cycles, count),
            number_cell(p.latency_cycles, count),
            number_cell(p.cycles_per_frame, lambda v: number(v, 6)),
        )
        for p in (result.passes if result else ())
    ]
    note = f"Against {result.reference}. Timing is not given under stalls." if result else ""
    return Table("simulation", f"Simulated RTL of {plan.variant}", columns, tuple(rows), note)


def resources_table(run: RunReport) -> Table:
    """Total of every plan from every source."""
    columns = (
        Column("plan", numeric=False),
        Column("source", numeric=False),
        Column("LUT"),
        Column("cycles / frame"),
        *(Column(head) for name, head in SHOWN.items() if name != "lut"),
        Column("URAM"),
        Column("tool", numeric=False),
        Column("part", numeric=False),
    )
    rows = []
    for plan in run.quantized:
        for source in sources_of(plan.build):
            report = plan.build.resources.get(source) if plan.build else None
            counts = [
                number_cell(getattr(report.total, name) if report else None, count)
                for name in (*SHOWN, "uram")
            ]
            cycles = cycles_at(plan.build, source) if report else None
            rows.append(
                (
                    text_cell(plan.variant),
                    text_cell(source),
                    counts[0],
                    number_cell(cycles, count),
                    *counts[1:],
                    text_cell(f"{report.tool} {report.tool_version}" if report else None),
                    text_cell(report.part if report else None),
                )
            )
    note = (
        "Each row is one tool's count; rows of different sources do not compare. "
        "Cycles are FINN's beside its estimate, simulated beside every other."
    )
    return Table("resources", "Resources per source", columns, tuple(rows), note)


def builds_table(run: RunReport) -> Table:
    """Every build of the run and whether the report uses it."""
    columns = tuple(Column(h, numeric=False) for h in ("build", "setting", "written", "used"))
    rows = [
        (
            text_cell(plan.build.folder),
            text_cell(describe(plan.build)),
            text_cell(plan.build.written),
            text_cell("yes" if plan.build.complete else "yes, though not complete"),
        )
        for plan in run.plans
        if plan.build is not None
    ]
    rows += [
        (
            text_cell(side.build.folder),
            text_cell(describe(side.build)),
            text_cell(side.build.written),
            text_cell(f"no: {side.reason}"),
        )
        for side in run.side_builds
    ]
    return Table("builds", "Builds", columns, tuple(rows), folded=True)

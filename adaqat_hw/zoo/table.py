"""The table of the zoo, on a terminal and as the page ``zoo/README.md``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from adaqat_hw.zoo.entry import Entry

COLUMNS = (
    *("name", "data", "network", "variant", "W / A", "input", "top-1", "seed"),
    *("BitOPs", "LUT", "size"),
)
_HEAD = """\
# Zoo

Trained networks with the records of how they came about. `adaqat-hw zoo` lists them,
`adaqat-hw zoo NAME` lays one out as a run that `export`, `build` and `report` go on from, and
`train.init = "zoo:NAME"` starts from its weights. This page is written by `adaqat-hw zoo add`, from
the records beside it.

"""


def row(entry: Entry) -> list[str]:
    """Return an entry's cells of :data:`COLUMNS`; what is not known is said in words."""
    result = entry.result
    return [
        entry.name,
        result.dataset,
        result.network,
        entry.record.variant,
        _widths(entry),
        _input(entry),
        f"{result.reached.removeprefix('top-1 ')} (n = {result.test_samples:,})",
        str(result.seed),
        "full precision" if entry.record.bitops is None else f"{entry.record.bitops:,}",
        _lut(entry),
        f"{entry.size / 1000:,.0f} kB",
    ]


def readme(listed: Iterable[Entry]) -> str:
    """Return the page that lists the entries."""
    rows: list[Sequence[str]] = [COLUMNS, ["---"] * len(COLUMNS)]
    rows += [[f"[{name}]({name}/)", *cells] for name, *cells in (row(entry) for entry in listed)]
    return _HEAD + "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def _widths(entry: Entry) -> str:
    """Return the widths of the weights and of all activations but the first layer's."""
    if entry.plan is None:
        return "full precision"
    first = entry.plan.layers[0].act
    weights = [x.weight_bits for x in entry.plan.layers if x.weight_bits is not None]
    read = [(x.act, x.act_bits) for x in entry.plan.layers]
    read += [(x.second_act or "", x.second_act_bits or 0) for x in entry.plan.layers]
    acts = [bits for act, bits in read if act and act != first]
    return f"{_span(weights)} / {_span(acts)}"


def _span(bits: Sequence[int]) -> str:
    if not bits:
        return "-"
    return str(min(bits)) if min(bits) == max(bits) else f"{min(bits)}-{max(bits)}"


def _input(entry: Entry) -> str:
    quant = entry.artifact.input_quant if entry.artifact is not None else None
    return "float or integers" if quant is None else str(quant.bits)


def _lut(entry: Entry) -> str:
    report, bill = entry.surest, entry.record.bill
    if report is None or bill is None:
        return "not built"
    lut = "not reported" if report.total.lut is None else f"{report.total.lut:,}"
    return f"{lut} ({report.source}, {bill.board}, {bill.clock_ns:g} ns)"
